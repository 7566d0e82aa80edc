"""Flows through the local API of a running agent: from the ring buffer to those who watch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import grpc.aio
import pytest
from running_agent import RunningAgent, running_agent, until
from simulated_dataplane import SimulatedDataplane
from simulated_events import event

from netagent.api.agent.v1 import agent_service_pb2 as pb
from netagent.api.agent.v1 import agent_service_pb2_grpc
from netagent.control.config import ControlConfig
from netagent.control.server import serve_control


@pytest.fixture
def directory() -> Iterator[Path]:
    with TemporaryDirectory(prefix="na-") as name:  # a unix socket's path is short
        yield Path(name)


@asynccontextmanager
async def registered_agent(directory: Path, state: SimulatedDataplane):
    listen = f"unix://{directory}/control.sock"
    async with (
        serve_control(ControlConfig(state_dir=directory / "control", listen=listen)),
        running_agent(directory, "h1", listen, state) as agent,
    ):
        await until(is_connected(agent))
        yield agent


def is_connected(agent: RunningAgent):
    async def claim() -> bool:
        return (await agent.status()).connected

    return claim


def drop(port: int):
    return event((0x20010DB8 << 32, 1), (0x20010DB8 << 32, 2), source_port=port, network=0)


async def remembered(agent: RunningAgent, **fields) -> list[int]:
    call = agent.stub.WatchFlows(pb.WatchFlowsRequest(**fields))
    return [response.flow.source_port async for response in call]


async def test_flows_are_remembered_and_then_followed(directory: Path) -> None:
    state = SimulatedDataplane()
    state.events.report(drop(1), drop(2), suppressed=100)
    async with registered_agent(directory, state) as agent:
        await until(lambda: remembered(agent))
        call = agent.stub.WatchFlows(pb.WatchFlowsRequest(follow=True))
        first = [await call.read(), await call.read()]

        state.events.report(drop(3), suppressed=4)
        followed = await call.read()

        assert [response.flow.source_port for response in (*first, followed)] == [1, 2, 3]
        assert {response.suppressed for response in first} == {0}, "that was before our time"
        assert followed.suppressed == 4
        assert await remembered(agent) == [1, 2, 3]
        assert followed.flow.source.address == "2001:db8::1"


async def test_every_follower_gets_every_flow(directory: Path) -> None:
    state = SimulatedDataplane()
    async with registered_agent(directory, state) as agent:
        calls = [agent.stub.WatchFlows(pb.WatchFlowsRequest(follow=True)) for _ in range(3)]
        for call in calls:
            await call.initial_metadata()
        state.events.report(*map(drop, range(10)))

        for call in calls:
            got = [(await call.read()).flow.source_port for _ in range(10)]
            assert got == list(range(10))
            call.cancel()


async def test_a_restart_reads_on_where_the_last_agent_stopped(directory: Path) -> None:
    state = SimulatedDataplane()
    async with registered_agent(directory, state) as agent:
        state.events.report(drop(1), lost=7)
        await until(lambda: remembered(agent))
    state.events.report(drop(2), lost=5)

    async with registered_agent(directory, state) as agent:
        await until(lambda: remembered(agent))
        call = agent.stub.WatchFlows(pb.WatchFlowsRequest(follow=True))
        first = await call.read()
        state.events.report(drop(3))
        second = await call.read()

    assert (first.flow.source_port, second.flow.source_port) == (2, 3)
    assert (first.lost, second.lost) == (0, 0), "not counted twice"


async def test_an_agent_that_stops_ends_those_who_follow_in_order(directory: Path) -> None:
    state = SimulatedDataplane()
    async with AsyncExitStack() as stack:
        agent = await stack.enter_async_context(registered_agent(directory, state))
        target = f"unix://{agent.config.socket}"
        async with grpc.aio.insecure_channel(target) as channel:
            stub = agent_service_pb2_grpc.AgentServiceStub(channel)
            call = stub.WatchFlows(pb.WatchFlowsRequest(follow=True))
            await call.initial_metadata()

            await stack.aclose()

            assert await call.read() is grpc.aio.EOF
            assert await call.code() is grpc.StatusCode.OK


async def test_what_cannot_be_read_is_a_condition_until_it_can(directory: Path) -> None:
    state = SimulatedDataplane()
    state.events.refuses = True

    async with registered_agent(directory, state) as agent:

        async def is_told() -> bool:
            return "flows_unreadable" in await agent.conditions()

        await until(is_told)


@pytest.mark.parametrize("machine", ["a/b/c", "Web"])
async def test_a_machine_that_cannot_be_is_an_invalid_argument(
    directory: Path, machine: str
) -> None:
    async with registered_agent(directory, SimulatedDataplane()) as agent:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await remembered(agent, machine=machine)

    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
