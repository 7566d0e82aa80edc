"""Policies and questions on a running agent's Sync stream, as the other side sees it."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from agent_policies import DB_IDENTITY, WEB_IDENTITY, allowing
from agent_rig import DB, H1, H2, WEB
from running_agent import RunningAgent, running_agent, until
from scripted_control import ScriptedControl, hosts, scripted_control
from simulated_dataplane import SimulatedDataplane

from netagent.api.agent.v1 import agent_service_pb2 as pb
from netagent.api.control.v1 import sync_service_pb2
from netagent.api.convert_policy import policy_to_messages
from netagent.api.convert_sync import LocationRows, locations_to_message
from netagent.api.types.v1 import types_pb2
from netagent.dataplane.abi import Counter
from netagent.dataplane.abi_policy import RuleCounter, RuleRow
from netagent.model.fleet import Identity, Location
from netagent.policy.delta import plan_delta
from netagent.policy.entries import Direction

FIRST, SECOND = allowing("tcp/5432"), allowing("tcp/80", version=2)
FLOW = types_pb2.FlowQuestion(source_id=WEB, destination_id=DB, protocol=6, port=5432)


@pytest.fixture
def directory() -> Iterator[Path]:
    with TemporaryDirectory(prefix="na-") as name:  # a unix socket's path is short
        yield Path(name)


@asynccontextmanager
async def synced(
    directory: Path, state: SimulatedDataplane
) -> AsyncIterator[tuple[RunningAgent, ScriptedControl]]:
    target = f"unix://{directory}/control.sock"
    async with (
        scripted_control(directory) as control,
        running_agent(directory, "h1", target, state) as agent,
    ):
        yield agent, control


def first_batch(revision: int = 1) -> sync_service_pb2.Update:
    rows = [
        (WEB, Location(H1.locator, WEB_IDENTITY, 1), "web", None),
        (DB, Location(H2.locator, DB_IDENTITY, 1), "db", None),
    ]
    return sync_service_pb2.Update(
        hosts=hosts(),
        locations=[locations_to_message(LocationRows(1, "red", True, rows))],
        policies=policy_to_messages(FIRST, b"one"),
        revision=revision,
    )


def change(revision: int = 2) -> sync_service_pb2.Update:
    messages = policy_to_messages(SECOND, b"two", plan_delta(FIRST, SECOND))
    return sync_service_pb2.Update(policies=messages, revision=revision)


async def test_a_policy_is_enforced_before_the_batch_is_acknowledged(directory: Path) -> None:
    state = SimulatedDataplane()
    async with synced(directory, state) as (agent, control):
        await control.send(first_batch())
        assert (await control.hear()).applied.revision == 1
        assert replace(state.policies.in_force(1), network="red").pairs == FIRST.pairs

        await control.send(change())

        assert (await control.hear()).applied.revision == 2
        assert state.policies.in_force(1).pairs == SECOND.pairs
        status = await agent.status()
        assert [(one.network, one.version, one.pairs) for one in status.policies] == [
            ("red", 2, len(list(SECOND.each_pair())))
        ]
        usage = {one.name: (one.entries, one.capacity) for one in status.maps}
        assert usage["policy_network"] == (1, 100)
        assert usage["rule_index"] == (3, 100)


async def test_an_agent_that_comes_back_says_what_it_holds_and_writes_nothing(
    directory: Path,
) -> None:
    state = SimulatedDataplane()
    async with synced(directory, state) as (_, control):
        await control.send(first_batch(), change())
        assert [(await control.hear()).applied.revision for _ in "12"] == [1, 2]
    state.journal.clear()

    async with synced(directory, state) as (agent, control):
        await control.send(sync_service_pb2.Update(revision=3))
        assert (await control.hear()).applied.revision == 3

        assert control.hello.revision == 2
        held = [(one.network, one.content) for one in control.hello.policies]
        assert held == [(1, b"two")]
        assert state.changes() == ["generation.raise"]
        assert (await agent.status()).kernel_writes == 0


async def test_a_rebooted_host_enforces_before_control_has_said_a_word(directory: Path) -> None:
    async with synced(directory, SimulatedDataplane()) as (_, control):
        await control.send(first_batch(), change())
        assert [(await control.hear()).applied.revision for _ in "12"] == [1, 2]
    state = SimulatedDataplane()

    async with running_agent(directory, "h1", f"unix://{directory}/none.sock", state) as agent:

        async def is_enforced() -> bool:
            return state.policies.in_force(1) is not None

        await until(is_enforced)
        assert state.policies.in_force(1).pairs == SECOND.pairs
        assert [one.version for one in (await agent.status()).policies] == [2]


async def test_a_policy_that_does_not_fit_is_rejected_with_figures_and_nothing_changes(
    directory: Path,
) -> None:
    state = SimulatedDataplane()
    async with synced(directory, state) as (agent, control):
        await control.send(first_batch())
        await control.hear()
        row = dict.fromkeys(map(Identity, range(262_144)), FIRST.defaults[Direction.EGRESS])
        wide = replace(FIRST, pairs={**FIRST.pairs, Direction.EGRESS: {WEB_IDENTITY: row}})
        parts = list(policy_to_messages(wide, b"wide"))

        await control.send(
            *(sync_service_pb2.Update(policies=[part]) for part in parts),
            sync_service_pb2.Update(revision=2),
        )
        rejected = (await control.hear()).rejected

        assert rejected.revision == 2
        assert "pairs: 262,145 needed, 262,144 fit (most: red 262,145)" in rejected.reason
        assert await agent.conditions() == ["batch_rejected"]
        assert state.policies.in_force(1).pairs == FIRST.pairs
        await control.send(change(revision=3))
        assert (await control.hear()).applied.revision == 3
        assert await agent.conditions() == []


async def test_a_kernel_that_refuses_is_told_of_and_brought_there_when_it_can(
    directory: Path,
) -> None:
    state = SimulatedDataplane()
    async with synced(directory, state) as (agent, control):
        await control.send(first_batch())
        await control.hear()
        state.policies.refuses = state.policies.is_unreadable = True

        await control.send(change())

        async def is_told() -> bool:
            return await agent.conditions() == ["reconcile_failing"]

        await until(is_told)
        assert state.policies.in_force(1).pairs == FIRST.pairs
        state.policies.refuses = state.policies.is_unreadable = False
        assert (await control.hear()).applied.revision == 2
        assert await agent.conditions() == []
        assert state.policies.in_force(1).pairs == SECOND.pairs
        assert state.changes()[-1] == "generation.raise"


async def test_a_policy_that_cannot_be_meant_is_rejected_with_the_field(directory: Path) -> None:
    async with synced(directory, SimulatedDataplane()) as (_, control):
        await control.send(first_batch())
        await control.hear()
        messages = list(policy_to_messages(FIRST, b"one"))
        messages[0].pair_directions = b"\7"

        await control.send(sync_service_pb2.Update(policies=messages, revision=2))

        reason = (await control.hear()).rejected.reason
        assert reason == "policies[1].pair_directions: 7 is no direction"


async def test_questions_are_answered_from_the_kernel(directory: Path) -> None:
    async with synced(directory, SimulatedDataplane()) as (_, control):
        await control.send(first_batch())
        await control.hear()

        await control.ask(7, FLOW)

        answer = (await control.hear()).answer
        opinion = types_pb2.Opinion(network="red", version=1, allowed=True, rule="web-to-db")
        assert (answer.number, answer.opinion) == (7, opinion)


async def test_a_batch_does_not_wait_for_an_answer(directory: Path) -> None:
    state = SimulatedDataplane()
    may_end = threading.Event()
    async with synced(directory, state) as (_, control):
        await control.send(first_batch())
        await control.hear()
        state.location.before_get = lambda: may_end.wait(10)

        await control.ask(1, FLOW)
        await control.send(change())

        assert (await control.hear()).applied.revision == 2
        may_end.set()
        assert (await control.hear()).answer.number == 1


async def test_rules_are_listed_by_name_with_what_they_decided(directory: Path) -> None:
    state = SimulatedDataplane()
    nothing = Counter(0, 0)
    state.policies.counters[RuleRow(1, 1), True] = RuleCounter(Counter(5, 500), nothing, nothing)
    state.policies.counters[RuleRow(1, 0), False] = RuleCounter(nothing, Counter(2, 180), nothing)
    async with synced(directory, state) as (agent, control):
        await control.send(first_batch())
        await control.hear()

        found = await agent.stub.ListRuleCounters(pb.ListRuleCountersRequest(network="red"))
        other = await agent.stub.ListRuleCounters(pb.ListRuleCountersRequest(network="blue"))

        rules = [(one.rule, one.at_receiver) for one in found.counters]
        names = ("", "to-mirrors", "web-to-db")
        assert rules == [(name, side) for name in names for side in (False, True)]
        by_rule = {(one.rule, one.at_receiver): one for one in found.counters}
        assert by_rule["web-to-db", True].allowed_packets == 5
        assert by_rule["web-to-db", True].allowed_bytes == 500
        assert by_rule["", False].denied_packets == 2
        assert not other.counters
