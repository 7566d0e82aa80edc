"""`netagent move` with triggers and hooks, `netagent moves commit` and `abort`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli_fleet import Cli, connected_agent


def make_hook(directory: Path, body: str) -> str:
    hook = directory / "hook"
    hook.write_text(f"#!/bin/sh\n{body}\n")
    hook.chmod(0o755)
    return str(hook)


def create(fleet: Cli, machine: str) -> None:
    fleet.ok("network", "create", machine.partition("/")[0])
    fleet.ok("machine", "create", machine, "--host", "h1")


def test_hook_moves_the_machine_between_ready_and_commit(fleet: Cli, tmp_path: Path) -> None:
    create(fleet, "hooked/web")
    hook = make_hook(tmp_path, f"env | grep ^NETAGENT_ | sort > {tmp_path}/told; echo moving")

    with connected_agent(fleet, "h1"), connected_agent(fleet, "h2"):
        lines = fleet.ok("move", "hooked/web", "--to", "h2", "--hook", hook, "-o", "json")

    phases = [json.loads(line) for line in lines.splitlines()]
    assert [each["phase"] for each in phases] == ["preparing", "ready", "committed", "settled"]
    told = dict(line.split("=", 1) for line in (tmp_path / "told").read_text().splitlines())
    assert told["NETAGENT_MACHINE"] == "hooked/web"
    assert (told["NETAGENT_SOURCE"], told["NETAGENT_DESTINATION"]) == ("h1", "h2")
    assert told["NETAGENT_MOVE_ID"] == phases[0]["move_id"]
    assert (told["NETAGENT_EPOCH"], told["NETAGENT_TRIGGER"]) == ("2", "call")
    assert (told["NETAGENT_HOOK"], told["NETAGENT_FORCED"]) == ("move", "0")


def test_hook_that_has_not_moved_it_undoes_the_move(fleet: Cli, tmp_path: Path) -> None:
    create(fleet, "stayed/web")
    hook = make_hook(tmp_path, "exit 10")

    with connected_agent(fleet, "h1"), connected_agent(fleet, "h2"):
        result = fleet.run("move", "stayed/web", "--to", "h2", "--hook", hook)

    assert result.exit_code == 1
    assert f"was aborted: hook {hook} has not moved it; stayed/web is at h1" in result.stderr
    assert "stayed/web stays at h1: hook" in result.stdout
    assert fleet.json("machine", "get", "stayed/web")["host"] == "h1"


def test_hook_that_cannot_be_started_undoes_the_move(fleet: Cli, tmp_path: Path) -> None:
    create(fleet, "broken/web")
    hook = tmp_path / "hook"
    hook.write_text("not a program")

    with connected_agent(fleet, "h1"), connected_agent(fleet, "h2"):
        result = fleet.run("move", "broken/web", "--to", "h2", "--hook", str(hook))

    assert result.exit_code == 1
    assert "cannot be started: Permission denied; broken/web is at h1" in result.stderr


@pytest.mark.parametrize(
    ("network", "body", "how", "then"),
    [
        ("lost", "exit 1", "ended with code 1", "commit"),
        ("killed", "kill -9 $$", "was ended by SIGKILL", "abort"),
    ],
)
def test_hook_that_does_not_know_leaves_the_move_to_a_person(
    fleet: Cli, tmp_path: Path, network: str, body: str, how: str, then: str
) -> None:
    create(fleet, f"{network}/web")
    hook = make_hook(tmp_path, body)

    with connected_agent(fleet, "h1"), connected_agent(fleet, "h2"):
        result = fleet.run("move", f"{network}/web", "--to", "h2", "--hook", hook)
        (move,) = fleet.json("moves", "list", "--machine", f"{network}/web")["moves"]
        ended = fleet.json("moves", then, move["move_id"])

    assert result.exit_code == 1
    assert f"{how}, so it is not known where {network}/web is; the move is ready" in result.stderr
    assert f"`netagent moves abort {move['move_id']}`" in result.stderr
    assert move["phase"] == "ready"
    at = {"commit": ("h2", {"committed", "settled"}), "abort": ("h1", {"aborted"})}
    host, phases = at[then]
    assert ended["phase"] in phases
    assert fleet.json("machine", "get", f"{network}/web")["host"] == host


def test_wait_ends_where_it_was_told_to(fleet: Cli) -> None:
    create(fleet, "early/web")

    with connected_agent(fleet, "h1"), connected_agent(fleet, "h2"):
        text = fleet.ok("move", "early/web", "--to", "h2", "--on", "call", "--wait", "ready")
        (move,) = fleet.json("moves", "list", "--machine", "early/web")["moves"]
        undone = fleet.ok("moves", "abort", move["move_id"], "--reason", "not today")

    assert "waits for a call that early/web is at h2" in text
    assert move["phase"] == "ready"
    assert "not today" in undone
    assert "aborted" in fleet.ok("moves", "get", move["move_id"])


def test_a_living_source_is_not_forced_without_a_second_word(fleet: Cli) -> None:
    create(fleet, "forced/web")

    with connected_agent(fleet, "h1"), connected_agent(fleet, "h2"):
        message = fleet.refused(1, "move", "forced/web", "--to", "h2", "--force")
        fleet.ok("move", "forced/web", "--to", "h2", "--force", "--source-is-dead")

    assert "the agent of host h1 is connected" in message
    (move,) = fleet.json("moves", "list", "--machine", "forced/web")["moves"]
    assert move["forced"]


@pytest.mark.parametrize(
    "options",
    [("--on", "at-once"), ("--wait", "ready")],
)
def test_hook_has_its_place(fleet: Cli, tmp_path: Path, options: tuple[str, str]) -> None:
    hook = make_hook(tmp_path, "exit 0")

    message = fleet.refused(2, "move", "web", "--to", "h2", "--hook", hook, *options)

    assert "--hook runs between ready and committed" in message
