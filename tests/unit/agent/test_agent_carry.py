"""Carrying between two agents' parts over a real stream: what is taken, and from whom."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import IPv6Address

import grpc
import grpc.aio
import pytest
from agent_rig import DB, WEB
from simulated_dataplane import SimulatedConnections

from netagent.agent import carrier, mesh_server
from netagent.agent.carrier import Carrier
from netagent.agent.carry_service import CarryService
from netagent.agent.mesh_server import MeshServer
from netagent.agent.move_reports import MoveReports
from netagent.agent.pulse import Pulse
from netagent.api.agent.v1 import carry_service_pb2 as pb
from netagent.api.agent.v1 import carry_service_pb2_grpc
from netagent.api.convert_carry import FLOWS_MAX, flows_to_messages
from netagent.model.addresses import StableId, make_id
from netagent.model.flows import CarriedFlow
from netagent.moves.reports import Alive, Carried
from netagent.reconcile.moving import Departure

LOOPBACK, ELSEWHERE = IPv6Address("::1"), IPv6Address("fd00::9")
EPOCH = 5
VIP = make_id(1, 1, 9)


def flow(stable_id: StableId, number: int) -> CarriedFlow:
    ends = stable_id.to_bytes(8, "big") + (2**63 + number).to_bytes(8, "big")
    return CarriedFlow(ends + bytes(16), 0, 2)


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> int:
    """Have both sides use a port that is free here."""
    with socket.socket(socket.AF_INET6) as probe:
        probe.bind(("::1", 0))
        number = int(probe.getsockname()[1])
    monkeypatch.setattr(carrier, "CARRY_PORT", number)
    monkeypatch.setattr(mesh_server, "CARRY_PORT", number)
    monkeypatch.setattr(mesh_server, "RETRY_S", 0.01)
    monkeypatch.setattr(carrier, "RETRY_S", 0.01)
    return number


def held_by(stable_id: StableId) -> tuple[StableId, ...]:
    return (VIP,) if stable_id == WEB else ()


class Destination:
    """Takes flows of WEB and VIP under EPOCH from `source`; None: WEB does not move there."""

    def __init__(self) -> None:
        self.connections = SimulatedConnections()
        self.source: IPv6Address | None = LOOPBACK
        self.address = LOOPBACK
        self.changed = Pulse()

    async def find_source(
        self, stable_id: StableId, epoch: int, wait_s: float
    ) -> IPv6Address | None:
        return self.source if (stable_id, epoch) == (WEB, EPOCH) else None

    async def find_address(self) -> IPv6Address:
        return self.address

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        service = CarryService(self.find_source, held_by, self.connections.take_over)
        server = MeshServer(service, self.find_address, self.changed)
        task = asyncio.create_task(server.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


class Source:
    """Carries WEB to the loopback address; `reports` holds what was reported."""

    def __init__(self, group: asyncio.TaskGroup) -> None:
        self.connections = SimulatedConnections()
        self.reports: asyncio.Queue[Carried] = asyncio.Queue()
        self._group = group
        self._carrier = Carrier(self._flows_of, lambda _, carried: self.reports.put_nowait(carried))

    def _flows_of(self, stable_id: StableId) -> list[CarriedFlow]:
        return self.connections.flows_of(stable_id, *held_by(stable_id))

    def take(self, *departures: Departure) -> None:
        self._carrier.take(self._group, departures)

    async def report(self) -> Carried:
        async with asyncio.timeout(10):
            return await self.reports.get()


@asynccontextmanager
async def carrying() -> AsyncIterator[Source]:
    async with asyncio.TaskGroup() as group:
        source = Source(group)
        yield source
        source.take()


def leaving(*, is_committed: bool = False) -> Departure:
    return Departure(WEB, EPOCH, LOOPBACK, is_committed)


async def test_all_flows_are_carried_and_then_what_came_until_the_commit(port: int) -> None:
    destination = Destination()
    async with destination.serving(), carrying() as source:
        many = [flow(WEB, number) for number in range(2 * FLOWS_MAX + 1)]
        source.connections.take_over([*many, flow(DB, 1)])
        source.take(leaving())
        assert await source.report() == Carried(len(many), is_final=False)
        assert list(destination.connections.flows.values()) == many

        source.connections.take_over([flow(WEB, 90_000)])
        source.take(leaving())
        source.take(leaving(is_committed=True))

        assert await source.report() == Carried(len(many) + 1, is_final=True)
        assert flow(WEB, 90_000).key in destination.connections.flows


async def test_an_agent_that_starts_after_the_commit_carries_all(port: int) -> None:
    destination = Destination()
    async with destination.serving(), carrying() as source:
        source.connections.take_over([flow(WEB, 1)])
        source.take(leaving(is_committed=True))
        assert await source.report() == Carried(1, is_final=True)


async def test_carrying_goes_on_when_the_destination_and_the_kernel_are_there(port: int) -> None:
    destination = Destination()
    async with carrying() as source:
        source.connections.take_over([flow(WEB, 1)])
        source.connections.refuses = True
        source.take(leaving())
        async with destination.serving():
            source.connections.refuses = False
            assert await source.report() == Carried(1, is_final=False)


async def test_nothing_is_carried_once_the_move_is_over(port: int) -> None:
    destination = Destination()
    async with carrying() as source:
        source.connections.take_over([flow(WEB, 1)])
        source.take(leaving())
        source.take()
        async with destination.serving():
            source.take(Departure(DB, 1, LOOPBACK, False))
            source.take()
    assert destination.connections.flows == {}
    assert source.reports.empty()


async def test_flows_of_a_floating_address_are_taken_with_the_machine_that_has_it(
    port: int,
) -> None:
    destination = Destination()
    async with destination.serving(), carrying() as source:
        source.connections.take_over([flow(WEB, 1), flow(VIP, 1), flow(DB, 1)])
        source.take(leaving())
        assert await source.report() == Carried(2, is_final=False)
    assert {flow(WEB, 1).key, flow(VIP, 1).key} == set(destination.connections.flows)


async def refusal_of(
    port: int, begin: pb.BeginCarry | None, flows: list[CarriedFlow]
) -> grpc.aio.AioRpcError:
    async def requests() -> AsyncIterator[pb.CarryRequest]:
        if begin is not None:
            yield pb.CarryRequest(begin=begin)
        for message in flows_to_messages(flows):
            yield pb.CarryRequest(flows=message)

    async with grpc.aio.insecure_channel(f"[::1]:{port}") as channel:
        stub = carry_service_pb2_grpc.CarryServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Carry(requests(), wait_for_ready=True, timeout=10)
    return caught.value


@pytest.mark.parametrize(
    ("source", "begin", "flows", "code", "words"),
    [
        pytest.param(
            *(None, pb.BeginCarry(id=WEB, epoch=EPOCH), [flow(WEB, 1)]),
            *(grpc.StatusCode.FAILED_PRECONDITION, "does not move to this host"),
            id="no-move",
        ),
        pytest.param(
            *(LOOPBACK, pb.BeginCarry(id=WEB, epoch=EPOCH - 1), [flow(WEB, 1)]),
            *(grpc.StatusCode.FAILED_PRECONDITION, "does not move to this host under epoch 4"),
            id="an-older-move",
        ),
        pytest.param(
            *(ELSEWHERE, pb.BeginCarry(id=WEB, epoch=EPOCH), [flow(WEB, 1)]),
            *(grpc.StatusCode.FAILED_PRECONDITION, "moves from fd00::9, not from ::1"),
            id="another-host",
        ),
        pytest.param(
            *(LOOPBACK, pb.BeginCarry(id=WEB, epoch=EPOCH), [flow(WEB, 1), flow(DB, 1)]),
            *(grpc.StatusCode.INVALID_ARGUMENT, "a flow of another machine"),
            id="another-machines-flow",
        ),
        pytest.param(
            *(LOOPBACK, None, [flow(WEB, 1)]),
            *(grpc.StatusCode.INVALID_ARGUMENT, "has to be the first message"),
            id="no-begin",
        ),
    ],
)
async def test_flows_are_taken_for_a_move_that_names_them_from_its_source_alone(
    port: int,
    source: IPv6Address | None,
    begin: pb.BeginCarry | None,
    flows: list[CarriedFlow],
    code: grpc.StatusCode,
    words: str,
) -> None:
    destination = Destination()
    destination.source = source
    async with destination.serving():
        refused = await refusal_of(port, begin, flows)
    assert refused.code() is code
    assert words in (refused.details() or "")
    assert destination.connections.flows == {}


async def test_the_server_waits_for_its_address(port: int) -> None:
    destination = Destination()
    destination.address = ELSEWHERE
    async with destination.serving(), carrying() as source:
        source.take(leaving())
        destination.address = LOOPBACK
        assert await source.report() == Carried(0, is_final=False)


async def test_what_holds_is_said_again_on_a_new_stream_and_forgotten_with_its_move() -> None:
    reports = MoveReports()
    said: asyncio.Queue[tuple[int, int, str]] = asyncio.Queue()

    async def write(request: object) -> None:
        report = request.report  # type: ignore[attr-defined]
        said.put_nowait((report.id, report.epoch, report.WhichOneof("kind")))

    reports.say(WEB, EPOCH, Carried(3))
    for _ in range(2):
        stream = asyncio.create_task(reports.send(write))
        assert await said.get() == (WEB, EPOCH, "carried")
        stream.cancel()
    stream = asyncio.create_task(reports.send(write))
    assert await said.get() == (WEB, EPOCH, "carried")
    reports.say(DB, 1, Alive())
    assert await said.get() == (DB, 1, "alive")
    stream.cancel()
    reports.keep_only({(DB, 1)})
    stream = asyncio.create_task(reports.send(write))
    assert await said.get() == (DB, 1, "alive")
    assert said.empty()
    stream.cancel()
