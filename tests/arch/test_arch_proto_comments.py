"""Holds the API's comments: each RPC says who may call it, in its last sentence."""

import re
from pathlib import Path

import pytest

PROTO = Path(__file__).parents[2] / "proto"

RPC = re.compile(r"((?:^ *//[^\n]*\n)*)^ *rpc (\w+)\(", re.MULTILINE)

CALLERS = re.compile(r"Callers: [a-z][^.]*\.$")


def read_rpcs() -> list[tuple[str, str, str]]:
    """Return (file, RPC, its comment on one line)."""
    return [
        (path.name, name, " ".join(line.strip(" /") for line in comment.splitlines()))
        for path in sorted(PROTO.rglob("*.proto"))
        for comment, name in RPC.findall(path.read_text())
    ]


def test_rpcs_are_found() -> None:
    services = sorted(PROTO.rglob("*_service.proto"))

    written = sum(path.read_text().count("\n  rpc ") for path in services)

    assert services
    assert len(read_rpcs()) == written


@pytest.mark.parametrize(
    ("name", "comment"),
    [pytest.param(name, comment, id=f"{file}-{name}") for file, name, comment in read_rpcs()],
)
def test_comment_ends_with_callers(name: str, comment: str) -> None:
    assert CALLERS.search(comment), f"{name}: end the comment with `Callers: …`: {comment!r}"
