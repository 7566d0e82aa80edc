"""Control and agents together: from a file that somebody applies to what two kernels hold."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import grpc.aio
import pytest
from running_agent import RunningAgent, running_agent, until
from simulated_dataplane import SimulatedDataplane

from netagent.api.agent.v1 import agent_service_pb2 as pb
from netagent.api.control.v1 import (
    machine_service_pb2,
    machine_service_pb2_grpc,
    move_service_pb2,
    move_service_pb2_grpc,
    network_service_pb2,
    network_service_pb2_grpc,
    policy_service_pb2,
    policy_service_pb2_grpc,
)
from netagent.control.config import ControlConfig
from netagent.control.server import serve_control

WEB_TO_DB = """\
network: red
rules:
  - {name: web-to-db, from: {labels: {app: web}}, to: {labels: {app: db}}, allow: [tcp/5432]}
"""
NO_MORE = """\
network: red
rules:
  - {name: web-to-db, from: {labels: {app: web}}, to: {labels: {app: db}}, allow: [tcp/80]}
  - {name: audited, from: any, to: {labels: {}}, allow: [udp], mode: audit}
"""
NAMED = """\
network: red
rules:
  - {name: db-alone, from: any, to: {machine: db}, allow: [tcp/5432]}
"""


@pytest.fixture
def directory() -> Iterator[Path]:
    with TemporaryDirectory(prefix="na-") as name:  # a unix socket's path is short
        yield Path(name)


@dataclass
class Fleet:
    """Two hosts: red/web on h1, red/db on h2, each with its labels."""

    directory: Path
    channel: grpc.aio.Channel
    states: dict[str, SimulatedDataplane] = field(default_factory=dict)

    async def create(self, machine: str, host: str, **labels: str) -> None:
        network, _, name = machine.partition("/")
        machines = machine_service_pb2_grpc.MachineServiceStub(self.channel)
        await machines.CreateMachine(
            machine_service_pb2.CreateMachineRequest(
                network=network, name=name, host=host, labels=labels
            )
        )

    async def apply(self, text: str) -> policy_service_pb2.ApplyPolicyResponse:
        stub = policy_service_pb2_grpc.PolicyServiceStub(self.channel)
        request = policy_service_pb2.ApplyPolicyRequest(text=text, file_name="red.yaml")
        return await stub.ApplyPolicy(request)

    async def explain(
        self, source: str, destination: str, traffic: str
    ) -> policy_service_pb2.ExplainFlowResponse:
        stub = policy_service_pb2_grpc.PolicyServiceStub(self.channel)
        request = policy_service_pb2.ExplainFlowRequest(traffic=traffic, to=destination)
        setattr(request, "from", source)
        return await stub.ExplainFlow(request)

    async def move(self, machine: str, host: str) -> None:
        stub = move_service_pb2_grpc.MoveServiceStub(self.channel)
        request = move_service_pb2.MoveAddressRequest(machine=machine, destination=host)
        async for _ in stub.MoveAddress(request):
            pass

    @asynccontextmanager
    async def agent(self, host: str) -> AsyncIterator[RunningAgent]:
        state = self.states.setdefault(host, SimulatedDataplane())
        target = f"unix://{self.directory}/control.sock"
        async with running_agent(self.directory, host, target, state) as agent:
            yield agent


@asynccontextmanager
async def control(directory: Path) -> AsyncIterator[Fleet]:
    listen = f"unix://{directory}/control.sock"
    async with (
        serve_control(ControlConfig(state_dir=directory / "control", listen=listen)),
        grpc.aio.insecure_channel(listen) as channel,
    ):
        yield Fleet(directory, channel)


@asynccontextmanager
async def two_hosts(directory: Path) -> AsyncIterator[tuple[Fleet, RunningAgent, RunningAgent]]:
    async with control(directory) as fleet, fleet.agent("h1") as one, fleet.agent("h2") as two:
        for agent in (one, two):
            await until(is_in_step(agent))
        networks = network_service_pb2_grpc.NetworkServiceStub(fleet.channel)
        await networks.CreateNetwork(network_service_pb2.CreateNetworkRequest(name="red"))
        await fleet.create("red/web", "h1", app="web")
        await fleet.create("red/db", "h2", app="db")
        for agent in (one, two):
            await until(enforces(agent, 0))
        yield fleet, one, two


def is_in_step(agent: RunningAgent) -> Callable[[], Any]:
    async def claim() -> bool:
        status = await agent.status()
        return status.connected and not status.conditions

    return claim


def enforces(agent: RunningAgent, version: int) -> Callable[[], Any]:
    async def claim() -> bool:
        return [one.version for one in (await agent.status()).policies] == [version]

    return claim


async def test_a_network_without_a_policy_has_the_built_in_one(directory: Path) -> None:
    async with two_hosts(directory) as (fleet, one, _):
        inside = await fleet.explain("red/web", "red/db", "tcp/5432")
        from_host = await fleet.explain("host", "red/db", "tcp/22")

        assert (inside.complete, inside.allowed) == (True, True)
        (opinion,) = from_host.opinions
        assert (opinion.at, opinion.host) == ("receiver", "h2")
        assert (opinion.opinion.rule, opinion.opinion.version) == ("hosts-reach-machines", 0)
        assert [one.network for one in (await one.status()).policies] == ["red"]


async def test_a_policy_that_is_applied_is_enforced_at_both_ends(directory: Path) -> None:
    async with two_hosts(directory) as (fleet, *agents):
        applied = await fleet.apply(WEB_TO_DB)
        for agent in agents:
            await until(enforces(agent, applied.policy.version))

        allowed = await fleet.explain("red/web", "red/db", "tcp/5432")
        denied = await fleet.explain("red/web", "red/db", "tcp/22")

        assert (allowed.complete, allowed.allowed) == (True, True)
        assert [(o.at, o.host, o.opinion.rule) for o in allowed.opinions] == [
            ("sender", "h1", "web-to-db"),
            ("receiver", "h2", "web-to-db"),
        ]
        assert (denied.complete, denied.allowed) == (True, False)
        assert {o.opinion.rule for o in denied.opinions} == {""}


async def test_a_revision_turns_and_has_flows_judged_again_on_every_host(directory: Path) -> None:
    async with two_hosts(directory) as (fleet, *agents):
        await fleet.apply(WEB_TO_DB)
        for agent in agents:
            await until(enforces(agent, 1))
            agent.state.journal.clear()

        await fleet.apply(NO_MORE)
        for agent in agents:
            await until(enforces(agent, 2))

        for agent in agents:
            assert agent.state.changes() == ["policy.turn", "generation.raise"]
        explained = await fleet.explain("red/web", "red/db", "udp/53")
        assert not explained.allowed
        assert {o.opinion.audit_rule for o in explained.opinions} == {"audited"}


async def test_a_machine_named_for_the_first_time_is_never_judged_by_less(directory: Path) -> None:
    async with two_hosts(directory) as (fleet, *agents):
        await fleet.create("red/db-2", "h2", app="db")
        await fleet.apply(WEB_TO_DB)
        for agent in agents:
            await until(enforces(agent, 1))
            agent.state.journal.clear()

        await fleet.apply(NAMED)
        for agent in agents:
            await until(enforces(agent, 2))

        assert (await fleet.explain("red/web", "red/db", "tcp/5432")).allowed
        assert not (await fleet.explain("red/web", "red/db-2", "tcp/5432")).allowed
        for agent in agents:
            changes = agent.state.changes()
            assert changes[0] == "policy.turn"
            assert changes[-1] == "generation.raise"


async def test_a_policy_follows_its_machine_and_leaves_with_it(directory: Path) -> None:
    async with two_hosts(directory) as (fleet, _, two):
        await fleet.apply(WEB_TO_DB)
        await until(enforces(two, 1))

        await fleet.move("red/db", "h1")

        async def holds_nothing() -> bool:
            return not (await two.status()).policies

        await until(holds_nothing)
        assert two.state.policies.held.networks == {}
        explained = await fleet.explain("red/web", "red/db", "tcp/5432")
        assert (explained.complete, explained.allowed) == (True, True)
        assert {o.host for o in explained.opinions} == {"h1"}


async def test_an_agent_that_restarts_adopts_its_policies_and_writes_nothing(
    directory: Path,
) -> None:
    async with two_hosts(directory) as (fleet, *agents):
        await fleet.apply(WEB_TO_DB)
        for agent in agents:
            await until(enforces(agent, 1))
    fleet.states["h1"].journal.clear()

    async with control(directory) as again:
        again.states = fleet.states
        async with again.agent("h1") as agent:
            await until(is_in_step(agent))

            assert agent.state.changes() == ["generation.raise"]
            assert (await agent.status()).kernel_writes == 0
            assert (await agent.status()).drift_mended == 0


async def test_a_host_that_is_away_is_told_of_and_catches_up(directory: Path) -> None:
    async with two_hosts(directory) as (fleet, one, _):
        await fleet.apply(WEB_TO_DB)
        await until(enforces(one, 1))
        async with fleet.agent("h3") as third:
            await until(is_in_step(third))
            await fleet.create("red/cache", "h3", app="cache")
            await until(enforces(third, 1))

        await fleet.apply(NO_MORE)
        explained = await fleet.explain("red/web", "red/cache", "tcp/80")

        assert not explained.complete
        problems = {o.at: o.problem for o in explained.opinions}
        assert "h3 is not connected" in problems["receiver"]
        async with fleet.agent("h3") as third:
            await until(enforces(third, 2))
            assert (await fleet.explain("red/web", "red/cache", "tcp/80")).complete


async def test_rules_count_by_the_names_that_somebody_wrote(directory: Path) -> None:
    async with two_hosts(directory) as (fleet, one, _):
        await fleet.apply(NO_MORE)
        await until(enforces(one, 1))

        found = await one.stub.ListRuleCounters(pb.ListRuleCountersRequest())

        assert {(c.network, c.rule) for c in found.counters} == {
            ("red", ""),
            ("red", "web-to-db"),
            ("red", "audited"),
        }
