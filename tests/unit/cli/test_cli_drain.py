"""`netagent host drain`: plans, moves, stops, and goes on."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from cli_fleet import Cli, connected_agent


@pytest.fixture
def drained(fleet: Cli, request: pytest.FixtureRequest) -> Iterator[Cli]:
    """Return a fleet with four machines on h1, in a network with the name of the test."""
    fleet.register(3)
    network = request.node.name.removeprefix("test_").replace("_", "-")[:30].strip("-")
    fleet.ok("network", "create", network)
    for number in range(1, 5):
        app = f"app=a{number % 2}"
        fleet.ok("machine", "create", f"{network}/m{number}", "--host", "h1", "--label", app)
    with ExitStack() as stack:
        for host in ("h1", "h2", "h3"):
            stack.enter_context(connected_agent(fleet, host))
        yield fleet
        for number in range(1, 5):
            fleet.run("machine", "delete", f"{network}/m{number}")


def machines_at(fleet: Cli, host: str) -> list[str]:
    return [each["machine"] for each in fleet.json("machine", "list", "--host", host)["machines"]]


def make_hook(directory: Path, body: str) -> str:
    hook = directory / "hook"
    hook.write_text(f"#!/bin/sh\n{body}\n")
    hook.chmod(0o755)
    return str(hook)


def test_drain_moves_all_machines_and_spreads_them(drained: Cli) -> None:
    text = drained.ok("host", "drain", "h1", "--parallel", "2")

    assert machines_at(drained, "h1") == []
    assert [len(machines_at(drained, host)) for host in ("h2", "h3")] == [2, 2]
    assert text.splitlines()[-1] == "4 of 4 machines have moved from h1"
    assert drained.json("moves", "list", "--active") == {"moves": []}
    assert drained.ok("host", "drain", "h1") == "0 of 0 machines have moved from h1\n"


def test_dry_run_changes_nothing(drained: Cli) -> None:
    plan = drained.json("host", "drain", "h1", "--dry-run", "--capacity", "1", "--to", "h2")

    assert len(plan["assignments"]) == 1
    assert Counter(each["reason"] for each in plan["unplaced"]) == {"every host has 1 machines": 3}
    assert len(machines_at(drained, "h1")) == 4
    table = drained.ok("host", "drain", "h1", "--dry-run", "--keep-apart", "app")
    assert table.splitlines()[0].split() == ["MACHINE", "TO", "NOTE"]
    assert len(table.splitlines()) == 5


def test_what_has_no_place_is_named(drained: Cli) -> None:
    result = drained.run("host", "drain", "h1", "--to", "h2", "--keep-apart", "app")

    assert result.exit_code == 1
    assert len(machines_at(drained, "h2")) == 2
    assert result.stderr.count("has no place: every host with room has a machine with app=a") == 2


def test_only_what_is_selected_moves(drained: Cli) -> None:
    lines = drained.ok("host", "drain", "h1", "--select", "app=a1", "-o", "json").splitlines()

    moved = [json.loads(line) for line in lines]
    assert sorted(each["machine"].partition("/")[2] for each in moved) == ["m1", "m3"]
    assert all(each["phase"] in ("committed", "settled") for each in moved)
    assert len(machines_at(drained, "h1")) == 2


def test_drain_stops_at_a_failure_and_goes_on_when_run_again(drained: Cli, tmp_path: Path) -> None:
    hook = make_hook(tmp_path, "case $NETAGENT_MACHINE in */m2) exit 10;; esac")
    drain = ("host", "drain", "h1", "--parallel", "1", "--hook", hook)

    stopped = drained.run(*drain)

    assert stopped.exit_code == 1
    assert "1 of 4 machines have moved from h1" in stopped.stdout
    assert "m2 is at h1" in stopped.stderr
    assert "3 machines are left; run the same command again to go on" in stopped.stderr
    further = drained.run(*drain, "--keep-going")
    assert further.exit_code == 1
    assert [path.partition("/")[2] for path in machines_at(drained, "h1")] == ["m2"]
    make_hook(tmp_path, "exit 0")
    assert "1 of 1 machines have moved" in drained.ok(*drain)


def test_a_move_that_waits_for_its_hook_is_taken_up_again(drained: Cli, tmp_path: Path) -> None:
    hook = make_hook(tmp_path, "exit 1")
    drain = ("host", "drain", "h1", "--parallel", "1", "--hook", hook)
    stopped = drained.run(*drain)
    assert "so it is not known where" in stopped.stderr
    (waiting,) = drained.json("moves", "list", "--active")["moves"]
    assert waiting["phase"] == "ready"
    plan = drained.json("host", "drain", "h1", "--dry-run")
    assert plan["under_way"] == [waiting["move_id"]]

    make_hook(tmp_path, "exit 0")
    drained.ok(*drain)

    assert machines_at(drained, "h1") == []
    assert drained.json("moves", "get", waiting["move_id"])["phase"] == "settled"


def test_drain_of_nowhere_and_to_itself(drained: Cli) -> None:
    assert "there is no host h9" in drained.refused(4, "host", "drain", "h9")
    assert "there is no host h9" in drained.refused(4, "host", "drain", "h1", "--to", "h9")
    message = drained.refused(2, "host", "drain", "h1", "--to", "h1")
    assert "h1 is the host that is to be emptied" in message
    assert "--select" in drained.refused(2, "host", "drain", "h1", "--select", "app")
