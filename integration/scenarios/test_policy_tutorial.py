"""docs/policy-tutorial.md, word by word: each command prints what the page says it prints."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.lab.lab import Lab

pytestmark = pytest.mark.namespaces_only("is about the command and the text")

ROOT = Path(__file__).resolve().parents[2]

PROMPT = re.compile(r"^(control|host-a|web-1)\$ (.*)$")

CHANGING = (
    (re.compile(r"\d\d:\d\d:\d\d\.\d{3}"), "TIME"),
    (re.compile(r"^ *\d+\.\d{3} s  ", re.MULTILINE), "SECONDS "),
    (re.compile(r"(\d+m )?\d+s ago +"), "AGO "),
    (re.compile(r"time \d+ms"), "time"),
)
"""What is another each time."""


def read_steps() -> Iterator[tuple[str, str, str]]:
    """Yield (place, command, what is printed), and (file, "", text) of each file."""
    text = (ROOT / "docs/policy-tutorial.md").read_text()
    for language, block in re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        if language == "yaml":
            yield block.partition("\n")[0].removeprefix("# "), "", block
            continue
        place = command = ""
        printed: list[str] = []
        for line in block.splitlines():
            prompt = PROMPT.match(line)
            if prompt is None:
                printed.append(line)
                continue
            if place:
                yield place, command, "\n".join(printed)
            place, command, printed = *prompt.groups(), []
        if place:
            yield place, command, "\n".join(printed)


def settle(text: str) -> str:
    for pattern, word in CHANGING:
        text = pattern.sub(word, text)
    return text.strip()


def fits(printed: str, expected: str) -> bool:
    """Whether a text is as the page says, where `...` stands for any lines."""
    parts = re.split(r"^\.\.\.$", settle(expected), flags=re.MULTILINE)
    pattern = ".*".join(re.escape(part.strip("\n")) for part in parts)
    return re.fullmatch(pattern, settle(printed), re.DOTALL) is not None


def run(lab: Lab, place: str, command: str, directory: Path) -> str:
    """Return what a command prints at a place of the lab."""
    if place == "web-1":
        return lab.machines["shop/web-1"].run(*command.split(), check=False)
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "NETAGENT_CONTROL": f"unix://{lab.control_socket}",
    }
    if place.startswith("host-"):
        environment["NETAGENT_AGENT_SOCKET"] = str(lab.hosts[place].socket)
    done = subprocess.run(
        ["sh", "-c", command],
        cwd=directory,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.stdout


def test_the_tutorial_says_what_happens(lab: Lab, tmp_path: Path) -> None:
    lab.machine("shop/web-1", "host-a")
    lab.machine("shop/db-1", "host-b")
    steps = list(read_steps())
    assert len(steps) > 15, "the page has other prompts than this test knows"

    for place, command, expected in steps:
        if not command:
            (tmp_path / place).write_text(expected)
            continue
        printed = run(lab, place, command, tmp_path)
        assert fits(printed, expected), f"{place}$ {command}\n{printed}\n--- expected\n{expected}"
