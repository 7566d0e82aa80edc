"""Agents and control together, over a unix socket: what happens when parts come and go."""

from __future__ import annotations

import asyncio
import os
import stat
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from running_agent import RunningAgent, running_agent, until
from simulated_dataplane import SimulatedDataplane

from netagent.api.agent.v1 import agent_service_pb2 as pb
from netagent.api.control.v1 import (
    address_service_pb2,
    address_service_pb2_grpc,
    host_service_pb2,
    host_service_pb2_grpc,
    machine_service_pb2,
    machine_service_pb2_grpc,
    move_service_pb2,
    move_service_pb2_grpc,
    network_service_pb2,
    network_service_pb2_grpc,
)
from netagent.api.types.v1 import types_pb2
from netagent.control.config import ControlConfig
from netagent.control.server import serve_control


@pytest.fixture
def directory() -> AsyncIterator[Path]:
    with TemporaryDirectory(prefix="na-") as name:  # a unix socket's path is short
        yield Path(name)


@pytest.fixture
def target(directory: Path) -> str:
    return f"unix://{directory}/control.sock"


@asynccontextmanager
async def control(directory: Path, store: str = "control") -> AsyncIterator[grpc.aio.Channel]:
    listen = f"unix://{directory}/control.sock"
    async with (
        serve_control(ControlConfig(state_dir=directory / store, listen=listen)),
        grpc.aio.insecure_channel(listen) as channel,
    ):
        yield channel


async def create(channel: grpc.aio.Channel, machine: str, host: str) -> types_pb2.Machine:
    network, name = machine.split("/")
    networks = network_service_pb2_grpc.NetworkServiceStub(channel)
    known = await networks.ListNetworks(network_service_pb2.ListNetworksRequest())
    if network not in {n.name for n in known.networks}:
        await networks.CreateNetwork(network_service_pb2.CreateNetworkRequest(name=network))
    request = machine_service_pb2.CreateMachineRequest(network=network, name=name, host=host)
    machines = machine_service_pb2_grpc.MachineServiceStub(channel)
    return (await machines.CreateMachine(request)).machine


async def move(channel: grpc.aio.Channel, machine: str, destination: str) -> list[int]:
    request = move_service_pb2.MoveAddressRequest(machine=machine, destination=destination)
    stub = move_service_pb2_grpc.MoveServiceStub(channel)
    return [response.move.phase async for response in stub.MoveAddress(request)]


def connected(agent: RunningAgent) -> Callable[[], Any]:
    async def claim() -> bool:
        status = await agent.status()
        return status.connected and not status.conditions

    return claim


def holds_locations(agent: RunningAgent, count: int) -> Callable[[], Any]:
    async def claim() -> bool:
        return len(agent.state.location.rows) == count

    return claim


async def test_agents_learn_each_other_and_what_they_need(directory: Path, target: str) -> None:
    async with (
        control(directory) as channel,
        running_agent(directory, "h1", target, SimulatedDataplane()) as one,
        running_agent(directory, "h2", target, SimulatedDataplane()) as two,
    ):
        await until(connected(one))
        await until(connected(two))
        await create(channel, "red/web", "h1")
        await create(channel, "blue/web", "h2")

        await until(holds_locations(one, 3))
        await until(holds_locations(two, 3))
        assert [len(agent.state.peers) for agent in (one, two)] == [1, 1]
        status = await one.status()
        assert (status.host, status.wireguard, status.mtu_bytes) == ("h1", "wireguard-go", 1408)
        assert [peer.verdict for peer in status.counters] == ["pass_to_mesh"]


async def test_a_move_hands_the_machine_over(directory: Path, target: str) -> None:
    async with (
        control(directory) as channel,
        running_agent(directory, "h1", target, SimulatedDataplane()) as one,
        running_agent(directory, "h2", target, SimulatedDataplane()) as two,
    ):
        await until(connected(one))
        await until(connected(two))
        await create(channel, "red/web", "h1")
        assert (await one.attach("red/web", "tap1")).state == pb.ENDPOINT_STATE_LIVE
        assert (await two.attach("red/web", "tap2")).state == pb.ENDPOINT_STATE_FENCED

        phases = await move(channel, "red/web", "h2")

        assert phases[-1] == types_pb2.MOVE_PHASE_SETTLED

        async def let_go() -> bool:
            return not (await one.stub.ListEndpoints(pb.ListEndpointsRequest())).endpoints

        await until(let_go)
        (endpoint,) = (await two.stub.ListEndpoints(pb.ListEndpointsRequest())).endpoints
        assert endpoint.state == pb.ENDPOINT_STATE_LIVE
        assert (await two.attach("red/web", "tap2")).state == pb.ENDPOINT_STATE_LIVE


async def test_control_that_comes_back_is_found_and_nothing_is_written(
    directory: Path, target: str
) -> None:
    async with running_agent(directory, "h1", target, SimulatedDataplane()) as agent:
        async with control(directory) as channel:
            await until(connected(agent))
            await create(channel, "red/web", "h1")
            await until(holds_locations(agent, 2))
        before = (await agent.status()).kernel_writes

        async def misses_control() -> bool:
            return await agent.conditions() == ["control_unreachable"]

        await until(misses_control)
        async with control(directory):
            await until(connected(agent))

            assert (await agent.status()).kernel_writes == before


async def test_agent_starts_from_its_replica_while_control_is_away(
    directory: Path, target: str
) -> None:
    async with (
        control(directory) as channel,
        running_agent(directory, "h1", target, SimulatedDataplane()) as agent,
    ):
        await until(connected(agent))
        await create(channel, "red/web", "h1")
        await until(holds_locations(agent, 2))
        await agent.attach("red/web", "tap1")

    rebooted = SimulatedDataplane()
    rebooted.make_link("tap1")
    async with running_agent(directory, "h1", target, rebooted) as agent:
        await until(holds_locations(agent, 2))
        (endpoint,) = (await agent.status()).endpoints

        assert (endpoint.machine, endpoint.state) == ("red/web", pb.ENDPOINT_STATE_LIVE)
        assert len(rebooted.endpoint.rows) == 2


async def test_agent_that_restarts_writes_nothing(directory: Path, target: str) -> None:
    state = SimulatedDataplane()
    async with control(directory) as channel:
        async with running_agent(directory, "h1", target, state) as agent:
            await until(connected(agent))
            await create(channel, "red/web", "h1")
            await until(holds_locations(agent, 2))
            await agent.attach("red/web", "tap1")
        state.journal.clear()

        async with running_agent(directory, "h1", target, state) as agent:
            await until(connected(agent))

            assert [name for name, _ in state.journal] == ["generation.raise"]
            assert (await agent.status()).kernel_writes == 0


async def test_another_fleet_is_refused_and_the_data_path_stays(
    directory: Path, target: str
) -> None:
    async with running_agent(directory, "h1", target, SimulatedDataplane()) as agent:
        async with control(directory) as channel:
            await until(connected(agent))
            await create(channel, "red/web", "h1")
            await until(holds_locations(agent, 2))
        agent.state.journal.clear()

        async with control(directory, "another"):

            async def is_refused() -> bool:
                return await agent.conditions() == ["registration_refused"]

            await until(is_refused)
            assert agent.state.journal == []
            assert len(agent.state.location.rows) == 2


async def test_a_batch_that_does_not_fit_is_refused_and_told(directory: Path, target: str) -> None:
    small = SimulatedDataplane(location_capacity=2)
    async with (
        control(directory) as channel,
        running_agent(directory, "h1", target, small) as agent,
    ):
        await until(connected(agent))
        await create(channel, "red/one", "h1")
        await until(holds_locations(agent, 2))

        await create(channel, "red/two", "h1")

        async def tells() -> bool:
            return await agent.conditions() == ["batch_rejected"]

        await until(tells)
        (condition,) = (await agent.status()).conditions
        assert "map location: 3 entries are needed and 2 fit" in condition.detail
        machines = machine_service_pb2_grpc.MachineServiceStub(channel)
        await machines.DeleteMachine(machine_service_pb2.DeleteMachineRequest(machine="red/two"))
        await until(connected(agent))


async def test_attach_says_what_is_wrong(directory: Path, target: str) -> None:
    async with AsyncExitStack() as stack:
        agent = await stack.enter_async_context(
            running_agent(directory, "h1", target, SimulatedDataplane())
        )
        async with control(directory) as channel:
            await until(connected(agent))
            await create(channel, "red/web", "h1")
            await create(channel, "blue/web", "h1")
            await create(channel, "blue/db", "h1")
            await agent.attach("red/web", "tap1")

            for machine, interface, code, text in (
                ("red/none", "tap2", grpc.StatusCode.NOT_FOUND, "red/none"),
                ("web", "tap2", grpc.StatusCode.INVALID_ARGUMENT, "blue/web"),
                ("red/web", "tap2", grpc.StatusCode.ALREADY_EXISTS, "is attached to tap1"),
                ("db", "tap1", grpc.StatusCode.ALREADY_EXISTS, "is machine red/web's"),
                ("db", "netagent0", grpc.StatusCode.INVALID_ARGUMENT, "is the agent's own"),
            ):
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await agent.attach(machine, interface)
                assert (caught.value.code(), text in caught.value.details()) == (code, True), (
                    machine
                )
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await agent.stub.Attach(pb.AttachRequest(machine="db", interface="tap9"))
            assert caught.value.code() is grpc.StatusCode.NOT_FOUND
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await agent.stub.Attach(pb.AttachRequest(machine="db", netns="/proc/self/ns/net"))
            assert "the host's own namespace" in caught.value.details()

        assert (await agent.attach("db", "tap3")).machine == "blue/db"
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await agent.attach("red/none", "tap4")
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        await agent.stub.Detach(pb.DetachRequest(machine="db"))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await agent.stub.Detach(pb.DetachRequest(machine="db"))
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_attach_repeats_why_control_refuses_this_host(directory: Path, target: str) -> None:
    async with control(directory) as channel:
        hosts = host_service_pb2_grpc.HostServiceStub(channel)
        request = host_service_pb2.RegisterHostRequest(
            name="h1",
            region=1,
            public_key=b"\x07" * 32,
            endpoint=types_pb2.Endpoint(address="10.0.0.9", port=51820),
        )
        await hosts.RegisterHost(request)
        async with running_agent(directory, "h1", target, SimulatedDataplane()) as agent:

            async def is_refused() -> bool:
                return await agent.conditions() == ["registration_refused"]

            await until(is_refused)
            (condition,) = (await agent.status()).conditions
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await agent.attach("red/web", "tap1")

    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert condition.detail in caught.value.details()


async def test_the_socket_tells_what_it_serves(directory: Path, target: str) -> None:
    async with (
        running_agent(directory, "h1", target, SimulatedDataplane()) as agent,
        grpc.aio.insecure_channel(f"unix://{agent.config.socket}") as channel,
    ):
        call = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo()
        await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
        answer = await call.read()
        call.cancel()

    names = [service.name for service in answer.list_services_response.service]
    assert "netagent.api.agent.v1.AgentService" in names


async def test_a_namespace_is_one_machines(directory: Path, target: str) -> None:
    async with (
        control(directory) as channel,
        running_agent(directory, "h1", target, SimulatedDataplane()) as agent,
    ):
        await until(connected(agent))
        await create(channel, "red/web", "h1")
        await create(channel, "red/db", "h1")
        with other_netns() as path:
            await agent.stub.Attach(pb.AttachRequest(machine="red/web", netns=str(path)))
            alias = directory / "alias"
            alias.symlink_to(path)

            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await agent.stub.Attach(pb.AttachRequest(machine="red/db", netns=str(alias)))

    assert caught.value.code() is grpc.StatusCode.ALREADY_EXISTS
    assert f"netns: {alias} is red/web's already" in caught.value.details()


@contextmanager
def other_netns() -> Iterator[Path]:
    """A network namespace, named by the process that holds it."""
    # Root needs no user namespace, and in a chroot there is none to be had.
    as_root = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    command = ["unshare", *as_root, "--net", "sh", "-c", "echo; read line"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdin is not None
        holder.stdout.readline()
        yield Path(f"/proc/{holder.pid}/ns/net")
        holder.stdin.close()


async def test_only_root_may_open_the_socket(directory: Path, target: str) -> None:
    async with running_agent(directory, "h1", target, SimulatedDataplane()) as agent:
        mode = (await asyncio.to_thread(agent.config.socket.stat)).st_mode

        assert stat.S_IMODE(mode) == 0o600


async def test_a_floating_address_has_its_holders_interface_over_restarts(
    directory: Path, target: str
) -> None:
    state = SimulatedDataplane()
    async with control(directory) as channel:
        addresses = address_service_pb2_grpc.AddressServiceStub(channel)

        async def assign(machine: str) -> int:
            """Return the interface of the address, once all hosts have applied it."""
            request = address_service_pb2.AssignAddressRequest(address="vip", machine=machine)
            response = await addresses.AssignAddress(request)
            assert not response.lagging_hosts
            (stable_id,) = state.location.rows.keys() - ids
            return state.endpoint.rows[stable_id].ifindex

        async with running_agent(directory, "h1", target, state) as agent:
            await until(connected(agent))
            await create(channel, "red/web", "h1")
            await create(channel, "red/db", "h1")
            made = address_service_pb2.CreateAddressRequest(network="red", name="vip")
            await addresses.CreateAddress(made)
            await until(holds_locations(agent, 3))
            ids = set(state.location.rows)
            web, db = await agent.attach("red/web", "tap1"), await agent.attach("red/db", "tap2")

            assert await assign("web") == web.ifindex
            assert await assign("db") == db.ifindex
            with pytest.raises(grpc.aio.AioRpcError, match="red/vip is a floating address"):
                await agent.attach("red/vip", "tap3")
        state.journal.clear()

        async with running_agent(directory, "h1", target, state) as agent:
            await until(connected(agent))
            assert [name for name, _ in state.journal] == ["generation.raise"]
            assert await assign("web") == web.ifindex
