"""A control process in the test's own loop, its stubs, and agents that speak Sync."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import IPv6Address
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from netagent.api.control.v1 import address_service_pb2 as addresses_pb
from netagent.api.control.v1 import (
    address_service_pb2_grpc,
    host_service_pb2_grpc,
    machine_service_pb2_grpc,
    move_service_pb2_grpc,
    network_service_pb2_grpc,
    policy_service_pb2_grpc,
    sync_service_pb2_grpc,
)
from netagent.api.control.v1 import host_service_pb2 as hosts_pb
from netagent.api.control.v1 import machine_service_pb2 as machines_pb
from netagent.api.control.v1 import move_service_pb2 as moves_pb
from netagent.api.control.v1 import network_service_pb2 as networks_pb
from netagent.api.control.v1 import sync_service_pb2 as sync_pb
from netagent.api.convert_policy_reading import policies_from_messages
from netagent.api.convert_sync import report_to_message
from netagent.api.types.v1 import types_pb2
from netagent.control.config import ControlConfig
from netagent.control.server import Control, serve_control
from netagent.model.addresses import StableId
from netagent.moves.reports import Report
from netagent.policy.delta import apply_delta, empty_policy
from netagent.policy.entries import CompiledPolicy

DEADLINE_S = 30


async def until(condition: Callable[[], bool | Awaitable[bool]]) -> None:
    """Wait until a condition holds."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            holds = condition()
            if isinstance(holds, Awaitable):
                holds = await holds
            if holds:
                return
            await asyncio.sleep(0.002)


def key_of(number: int) -> bytes:
    return b"\x01" + number.to_bytes(31, "big")


class Stubs:
    """One channel, and short ways to say the usual."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel
        self.hosts = host_service_pb2_grpc.HostServiceStub(channel)
        self.networks = network_service_pb2_grpc.NetworkServiceStub(channel)
        self.machines = machine_service_pb2_grpc.MachineServiceStub(channel)
        self.policies = policy_service_pb2_grpc.PolicyServiceStub(channel)
        self.addresses = address_service_pb2_grpc.AddressServiceStub(channel)
        self.moves = move_service_pb2_grpc.MoveServiceStub(channel)
        self.sync = sync_service_pb2_grpc.SyncServiceStub(channel)

    async def host(self, number: int, **changes: Any) -> types_pb2.Host:
        fields = {
            "name": f"h{number}",
            "region": 1,
            "public_key": key_of(number),
            "endpoint": types_pb2.Endpoint(address=f"192.0.2.{number}", port=51820),
        }
        request = hosts_pb.RegisterHostRequest(**{**fields, **changes})
        return (await self.hosts.RegisterHost(request)).host

    async def network(self, name: str) -> types_pb2.Network:
        return (
            await self.networks.CreateNetwork(networks_pb.CreateNetworkRequest(name=name))
        ).network

    async def machine(self, path: str, host: str = "", **labels: str) -> types_pb2.Machine:
        network, _, name = path.partition("/")
        request = machines_pb.CreateMachineRequest(
            network=network, name=name, host=host, labels=labels
        )
        return (await self.machines.CreateMachine(request)).machine

    async def get(self, machine: str) -> types_pb2.Machine:
        return (
            await self.machines.GetMachine(machines_pb.GetMachineRequest(machine=machine))
        ).machine

    async def delete(self, machine: str, etag: str = "") -> None:
        request = machines_pb.DeleteMachineRequest(machine=machine, etag=etag)
        await self.machines.DeleteMachine(request)

    async def address(self, path: str, machine: str = "") -> types_pb2.FloatingAddress:
        network, _, name = path.partition("/")
        request = addresses_pb.CreateAddressRequest(network=network, name=name, machine=machine)
        return (await self.addresses.CreateAddress(request)).address

    async def assign(
        self, address: str, machine: str, expected: str = "", etag: str = ""
    ) -> addresses_pb.AssignAddressResponse:
        request = addresses_pb.AssignAddressRequest(
            address=address, machine=machine, expected_holder=expected, etag=etag
        )
        return await self.addresses.AssignAddress(request)

    async def release(
        self, address: str, expected: str = ""
    ) -> addresses_pb.ReleaseAddressResponse:
        request = addresses_pb.ReleaseAddressRequest(address=address, expected_holder=expected)
        return await self.addresses.ReleaseAddress(request)

    def move(self, machine: str, destination: str, etag: str = "", **fields: Any) -> Any:
        request = moves_pb.MoveAddressRequest(
            machine=machine, destination=destination, etag=etag, **fields
        )
        return self.moves.MoveAddress(request)

    async def commit(self, move_id: str) -> types_pb2.Move:
        request = moves_pb.CommitMoveRequest(move_id=move_id)
        return (await self.moves.CommitMove(request)).move

    async def abort(self, move_id: str, reason: str = "") -> types_pb2.Move:
        request = moves_pb.AbortMoveRequest(move_id=move_id, reason=reason)
        return (await self.moves.AbortMove(request)).move

    async def connected(self, name: str) -> types_pb2.Host:
        return (await self.hosts.GetHost(hosts_pb.GetHostRequest(name=name))).host


@dataclass
class Agent:
    """One Sync stream: keeps what it is told, answers when it is let."""

    stubs: Stubs
    host: str
    revision: int = 0
    is_snapshot: bool | None = None
    hosts: set[str] = field(default_factory=set)
    tables: dict[int, dict[int, tuple[int, int, int, str]]] = field(default_factory=dict)
    transitions: dict[int, dict[int, tuple[int, int, int]]] = field(default_factory=dict)
    holders: dict[int, int] = field(default_factory=dict)
    policies: dict[int, CompiledPolicy] = field(default_factory=dict)
    contents: dict[int, bytes] = field(default_factory=dict)
    opinion: types_pb2.Opinion | None = None
    is_silent: bool = False
    questions: list[types_pb2.FlowQuestion] = field(default_factory=list)
    batches: list[list[sync_pb.Update]] = field(default_factory=list)
    answering: asyncio.Event = field(default_factory=asyncio.Event)
    reject: str = ""
    reports_moves: bool = False
    call: Any = None
    writing: asyncio.Lock = field(default_factory=asyncio.Lock)
    locator: int = 0
    on_applied: Callable[[Agent], None] = lambda agent: None
    fleet_id: str = ""
    error: grpc.aio.AioRpcError | None = None

    async def run(self) -> None:
        self.answering.set()
        call = self.call = self.stubs.sync.Sync()
        hello = sync_pb.Hello(
            host=self.host,
            protocol_version=1,
            revision=self.revision,
            networks=sorted(self.tables),
            fleet_id=self.fleet_id,
            reports_moves=self.reports_moves,
            policies=[
                sync_pb.HeldPolicy(network=network, content=content)
                for network, content in sorted(self.contents.items())
            ],
        )
        parts: list[sync_pb.Update] = []
        try:
            await self._write(sync_pb.SyncRequest(hello=hello))
            async for response in call:
                if response.WhichOneof("message") == "welcome":
                    self.is_snapshot = response.welcome.snapshot
                    self.fleet_id = response.welcome.fleet.fleet_id
                    continue
                if response.WhichOneof("message") == "question":
                    answer = self._answer_question(response.question)
                    if not self.is_silent:
                        await self._write(answer)
                    continue
                parts.append(response.update)
                if response.update.revision:
                    self.batches.append(parts)
                    await self.answering.wait()
                    await self._write(self._answer(parts))
                    parts = []
        except grpc.aio.AioRpcError as error:
            self.error = error
        finally:
            call.cancel()

    def _answer(self, parts: list[sync_pb.Update]) -> sync_pb.SyncRequest:
        revision = parts[-1].revision
        if self.reject:
            reason, self.reject = self.reject, ""
            return sync_pb.SyncRequest(rejected=sync_pb.Rejected(revision=revision, reason=reason))
        for part in parts:
            self._take(part)
        self._take_policies([table for part in parts for table in part.policies])
        for network in [n for part in parts for n in part.dropped_policies]:
            self.policies.pop(network, None)
            self.contents.pop(network, None)
        self.revision = revision
        self.on_applied(self)
        return sync_pb.SyncRequest(applied=sync_pb.Applied(revision=revision))

    def _take(self, part: sync_pb.Update) -> None:
        self.hosts -= set(part.removed_hosts)
        self.hosts |= {host.name for host in part.hosts}
        for table in part.locations:
            rows = {} if table.whole else self.tables[table.network]
            columns = zip(table.locators, table.identities, table.epochs, table.names, strict=True)
            rows.update(zip(table.ids, columns, strict=True))
            for stable_id in table.removed_ids:
                rows.pop(stable_id, None)
            self.tables[table.network] = rows
            holders = table.holders or [0] * len(table.ids)
            self.holders.update(zip(table.ids, holders, strict=True))
        for table in part.transitions:
            rows = {} if table.whole else self.transitions[table.network]
            columns = zip(table.sources, table.destinations, table.epochs, strict=True)
            rows.update(zip(table.ids, columns, strict=True))
            for stable_id in table.removed_ids:
                rows.pop(stable_id, None)
            self.transitions[table.network] = rows
        for network in part.dropped_networks:
            self.tables.pop(network, None)
            self.transitions.pop(network, None)

    def _take_policies(self, tables: list[sync_pb.PolicyTable]) -> None:
        for change in policies_from_messages(tables):
            empty = empty_policy(change.network, change.number)
            before = empty if change.is_whole else self.policies[change.number]
            self.policies[change.number] = apply_delta(before, change.delta)
            self.contents[change.number] = change.content

    def _answer_question(self, question: sync_pb.Question) -> sync_pb.SyncRequest:
        self.questions.append(question.flow)
        answer = sync_pb.Answer(number=question.number)
        if self.opinion is None:
            answer.problem = "does not know"
        else:
            answer.opinion.CopyFrom(self.opinion)
        return sync_pb.SyncRequest(answer=answer)

    async def report(self, stable_id: int, epoch: int, report: Report) -> None:
        """Tell control something about a move."""
        message = report_to_message(StableId(stable_id), epoch, report)
        await self._write(sync_pb.SyncRequest(report=message))

    async def _write(self, message: sync_pb.SyncRequest) -> None:
        async with self.writing:  # gRPC takes one at a time
            await self.call.write(message)

    def names(self, network: int) -> list[str]:
        return sorted(name for _, _, _, name in self.tables.get(network, {}).values())


@dataclass
class Fleet:
    """A control process that can be stopped and started, with stubs."""

    config: ControlConfig
    stack: AsyncExitStack
    stubs: Stubs = field(init=False)
    control: Control = field(init=False)
    serving: AsyncExitStack = field(default_factory=AsyncExitStack)

    async def start(self) -> None:
        options = (("grpc.use_local_subchannel_pool", 1),)
        channel = grpc.aio.insecure_channel(self.config.listen, options=options)
        self.stubs = Stubs(await self.serving.enter_async_context(channel))
        self.control = await self.serving.enter_async_context(serve_control(self.config))

    async def stop(self) -> None:
        await self.serving.aclose()

    async def agent(self, agent: Agent | str) -> Agent:
        """Run an agent until the test ends or it is told to leave, and wait until it is in step."""
        if isinstance(agent, str):
            agent = Agent(self.stubs, agent)
        running = asyncio.ensure_future(agent.run())
        self.stack.push_async_callback(leave, running)
        agent.task = running  # type: ignore[attr-defined]
        before = len(agent.batches)
        await until(lambda: len(agent.batches) > before or running.done())
        return agent

    async def leave(self, agent: Agent) -> None:
        await leave(agent.task)  # type: ignore[attr-defined]

        async def is_gone() -> bool:
            return not (await self.stubs.connected(agent.host)).connected

        await until(is_gone)


async def leave(running: asyncio.Future[None]) -> None:
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def finish(call: Any) -> list[Any]:
    """Return what a move still has to say."""
    responses = []
    async with asyncio.timeout(20):
        while (response := await call.read()) is not grpc.aio.EOF:
            responses.append(response)
    return responses


@asynccontextmanager
async def running_fleet(directory: Path, **options: Any) -> AsyncIterator[Fleet]:
    config = ControlConfig(
        state_dir=directory / "state", listen=f"unix://{directory}/control.sock", **options
    )
    async with AsyncExitStack() as stack:
        fleet = Fleet(config, stack)
        stack.push_async_callback(fleet.stop)
        await fleet.start()
        yield fleet


@asynccontextmanager
async def refused(code: grpc.StatusCode, begins: str) -> AsyncIterator[None]:
    """Expect a call to be refused with a code and a text that begins so."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        yield
    assert caught.value.code() is code, caught.value.details()
    details = caught.value.details() or ""
    assert details.startswith(begins), details


async def populate(stubs: Stubs, hosts: int = 3) -> tuple[int, int]:
    """Hosts, one machine on each of the first two; return the machines' ids."""
    for number in range(1, hosts + 1):
        await stubs.host(number)
    await stubs.network("blue")
    one = await stubs.machine("blue/one", "h1", app="one")
    two = await stubs.machine("blue/two", "h2", app="two")
    return id_of(one.address), id_of(two.address)


def id_of(address: str) -> int:
    """Return the stable id in a stable address."""
    return int(IPv6Address(address)) & ((1 << 64) - 1)
