"""Hooks of a host: what they are told and answer, and that they are told until they succeed."""

from __future__ import annotations

import asyncio
from ipaddress import IPv6Address
from pathlib import Path

import pytest
from agent_rig import WEB

from netagent.agent import hooks, warden
from netagent.agent.attached import AttachedMachine
from netagent.agent.facts import TakenMachine
from netagent.agent.hooks import Hooks
from netagent.agent.warden import Warden
from netagent.reconcile.moving import Taking

ADDRESS = IPv6Address("fd00::5")
MACHINE = AttachedMachine(WEB, "red/web", "tap0", b"\x02\x6e\0\0\0\1")
TAKEN = {WEB: TakenMachine(MACHINE, Taking("h2", 7))}


def write_hook(directory: Path, body: str) -> Path:
    path = directory / "machine-taken"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


async def test_a_hook_that_is_not_there_is_not_wrong(tmp_path: Path) -> None:
    assert await Hooks(tmp_path / "none").run("machine-taken", {}) == ""


@pytest.mark.parametrize(
    ("body", "said"),
    [
        pytest.param("exit 0", "", id="done"),
        pytest.param("exit 3", "ended with code 3", id="failed"),
        pytest.param("kill -9 $$", "ended with code -9", id="killed"),
        pytest.param("exec sleep 60", "was killed: it took longer than 0.2 s", id="too-long"),
    ],
)
async def test_what_a_hook_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, said: str
) -> None:
    monkeypatch.setattr(hooks, "TIMEOUT_S", 0.2 if "sleep" in body else 10)
    write_hook(tmp_path, body)
    problem = await Hooks(tmp_path).run("machine-taken", {})
    assert problem.endswith(said)
    assert bool(problem) is bool(said)


async def test_a_hook_that_cannot_be_started_is_named(tmp_path: Path) -> None:
    write_hook(tmp_path, "exit 0").chmod(0o644)
    assert "cannot be started" in await Hooks(tmp_path).run("machine-taken", {})


async def test_the_hook_is_told_until_it_succeeds_and_then_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warden, "RETRY_S", 0.01)
    told = tmp_path / "told"
    write_hook(tmp_path, f'env | grep NETAGENT_ | sort >>{told}; [ "$(grep -c HOOK {told})" = 3 ]')
    teller = Warden(Hooks(tmp_path), "h1", lambda _: ADDRESS)
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        teller.take(group, TAKEN)
        teller.take(group, TAKEN)
    lines = told.read_text().splitlines()
    assert lines[: len(lines) // 3] == [
        "NETAGENT_ADDRESS=fd00::5",
        "NETAGENT_EPOCH=7",
        "NETAGENT_HOOK=machine-taken",
        "NETAGENT_HOST=h1",
        "NETAGENT_INTERFACE=tap0",
        "NETAGENT_LOCATION=h2",
        "NETAGENT_MACHINE=red/web",
        "NETAGENT_NETNS=",
    ]
    assert lines.count("NETAGENT_HOOK=machine-taken") == 3


async def test_nobody_is_told_of_a_machine_that_came_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warden, "RETRY_S", 60)
    write_hook(tmp_path, "exit 1")
    teller = Warden(Hooks(tmp_path), "h1", lambda _: ADDRESS)
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        teller.take(group, TAKEN)
        teller.take(group, {})
