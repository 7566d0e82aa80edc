"""The process: where it listens, what else it serves, and that kill -9 loses nothing."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from contextlib import suppress
from ipaddress import IPv6Network
from pathlib import Path

import grpc
import grpc.aio
import pytest
from control_fleet import Agent, Fleet, Stubs, running_fleet, until
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from netagent.api.control.v1 import machine_service_pb2 as machines_pb
from netagent.api.control.v1 import move_service_pb2 as moves_pb
from netagent.api.types.v1 import types_pb2
from netagent.control.config import ControlConfig
from netagent.control.server import serve_control
from netagent.model.errors import ConfigError, NetagentError, StateError, UnavailableError

NETAGENT = str(Path(sys.executable).parent / "netagent")


async def start_process(directory: Path) -> tuple[asyncio.subprocess.Process, str]:
    target = f"unix://{directory}/run/control.sock"
    process = await asyncio.create_subprocess_exec(
        *(NETAGENT, "control", "run", "--state-dir", str(directory / "state"), "--listen", target),
        stderr=asyncio.subprocess.PIPE,
    )
    return process, target


async def test_kill_9_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    acknowledged: dict[str, str] = {}

    async def create(stubs: Stubs, network: str, count: int) -> None:
        for number in range(count):
            path = f"{network}/r{len(acknowledged)}-{number}"
            acknowledged[path] = (await stubs.machine(path)).address

    for round_number in range(3):
        process, target = await start_process(tmp_path)
        try:
            options = (("grpc.use_local_subchannel_pool", 1),)
            async with grpc.aio.insecure_channel(target, options=options) as channel:
                async with asyncio.timeout(20):
                    await channel.channel_ready()
                stubs = Stubs(channel)
                found = await read_all(stubs)
                assert {path: found.get(path) for path in acknowledged} == acknowledged
                assert len(set(found.values())) == len(found)
                networks = [f"r{round_number}-{letter}" for letter in "abc"]
                for network in networks:
                    await stubs.network(network)
                creating = [
                    asyncio.ensure_future(create(stubs, network, 10_000)) for network in networks
                ]
                enough = len(acknowledged) + 100
                await until(lambda enough=enough: len(acknowledged) >= enough)
                os.kill(process.pid, signal.SIGKILL)
                answers = await asyncio.gather(*creating, return_exceptions=True)
                assert all(isinstance(answer, grpc.aio.AioRpcError) for answer in answers)
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            await process.communicate()

    assert len(acknowledged) >= 300


async def test_kill_9_in_the_middle_of_moves_leaves_each_machine_one_owner(
    tmp_path: Path,
) -> None:
    committed: dict[str, int] = {}
    hosts = {1: "h1", 2: "h2"}

    async def shuttle(stubs: Stubs, machine: str) -> None:
        while True:
            here = (await stubs.get(machine)).host
            call = stubs.move(machine, hosts[2] if here == "h1" else hosts[1])
            with suppress(grpc.aio.AioRpcError):
                while (response := await call.read()) is not grpc.aio.EOF:
                    if response.move.phase == types_pb2.MOVE_PHASE_COMMITTED:
                        committed[machine] = response.move.epoch
            await stubs.get(machine)

    for round_number in range(3):
        process, target = await start_process(tmp_path)
        try:
            options = (("grpc.use_local_subchannel_pool", 1),)
            async with grpc.aio.insecure_channel(target, options=options) as channel:
                async with asyncio.timeout(20):
                    await channel.channel_ready()
                stubs = Stubs(channel)
                if round_number == 0:
                    await stubs.host(1)
                    await stubs.host(2)
                    await stubs.network("n")
                    for number in range(8):
                        await stubs.machine(f"n/m{number}", "h1")
                agents = [Agent(stubs, host) for host in hosts.values()]
                syncing = [asyncio.ensure_future(agent.run()) for agent in agents]

                async def has_ended(stubs: Stubs = stubs) -> bool:
                    request = moves_pb.ListMovesRequest(active_only=True)
                    return not (await stubs.moves.ListMoves(request)).moves

                await until(lambda agents=agents: all(agent.revision for agent in agents))
                await until(has_ended)
                await until(lambda agents=agents: not any(agents[0].transitions.values()))
                for machine, epoch in committed.items():
                    assert (await stubs.get(machine)).epoch >= epoch
                for number in range(8):
                    found = await stubs.get(f"m{number}")
                    # Every move is there and back, so the owner follows from the epoch alone.
                    assert found.host == ("h1" if found.epoch % 2 else "h2")
                moving = [
                    asyncio.ensure_future(shuttle(stubs, f"n/m{number}")) for number in range(8)
                ]
                enough = sum(committed.values()) + 60
                await until(lambda enough=enough: sum(committed.values()) >= enough)
                os.kill(process.pid, signal.SIGKILL)
                await asyncio.gather(*moving, *syncing, return_exceptions=True)
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            await process.communicate()


async def read_all(stubs: Stubs) -> dict[str, str]:
    found: dict[str, str] = {}
    token = ""
    while True:
        request = machines_pb.ListMachinesRequest(page_size=1000, page_token=token)
        page = await stubs.machines.ListMachines(request)
        found |= {f"{m.network}/{m.name}": m.address for m in page.machines}
        token = page.next_page_token
        if not token:
            return found


async def test_sigterm_ends_the_process_at_once_and_cleanly(tmp_path: Path) -> None:
    process, target = await start_process(tmp_path)
    try:
        async with grpc.aio.insecure_channel(target) as channel:
            async with asyncio.timeout(20):
                await channel.channel_ready()
            await Stubs(channel).host(1)

        process.send_signal(signal.SIGTERM)

        async with asyncio.timeout(10):
            _, log = await process.communicate()
        assert process.returncode == 0
        lines = log.decode().splitlines()
        assert any(" INFO control serving listen=unix://" in line for line in lines)
        assert lines[-1].endswith("control stopping")
    finally:
        with suppress(ProcessLookupError):
            process.kill()


async def test_health_and_reflection_are_served(fleet: Fleet) -> None:
    health = health_pb2_grpc.HealthStub(fleet.stubs.channel)
    for service in ("", "netagent.api.control.v1.MoveService"):
        answer = await health.Check(health_pb2.HealthCheckRequest(service=service))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    reflection = reflection_pb2_grpc.ServerReflectionStub(fleet.stubs.channel)
    call = reflection.ServerReflectionInfo()
    await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
    listed = await call.read()
    names = {service.name for service in listed.list_services_response.service}
    assert {
        f"netagent.api.control.v1.{name}Service"
        for name in ("Host", "Machine", "Move", "Network", "Sync")
    } <= names
    await call.done_writing()


async def test_the_fleet_keeps_its_prefix(tmp_path: Path) -> None:
    prefix = IPv6Network("fd12:3456:789a:1::/64")
    async with running_fleet(tmp_path, prefix=prefix) as fleet:
        first = fleet.control.fleet
        assert first.prefix == prefix
    async with running_fleet(tmp_path) as fleet:
        assert fleet.control.fleet == first

    with pytest.raises(ConfigError, match=r"prefix: .* is not that of this fleet"):
        async with running_fleet(tmp_path, prefix=IPv6Network("fd00::/64")):
            pass


async def test_a_new_fleet_gets_a_random_prefix(tmp_path: Path) -> None:
    async with running_fleet(tmp_path / "a") as one, running_fleet(tmp_path / "b") as other:
        assert one.control.fleet.prefix != other.control.fleet.prefix
        assert one.control.fleet.prefix.subnet_of(IPv6Network("fd00::/8"))
        assert one.control.fleet.fleet_id != other.control.fleet.fleet_id


async def test_the_socket_is_its_owners(fleet: Fleet) -> None:
    status = os.stat(fleet.control.targets[0].removeprefix("unix://"))

    assert status.st_mode & 0o777 == 0o600


async def test_a_socket_left_by_a_dead_process_is_replaced(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "control.sock"))

    async with running_fleet(tmp_path) as fleet:
        await fleet.stubs.host(1)


async def test_a_socket_of_a_living_process_is_not_touched(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as living:
        living.bind(str(tmp_path / "control.sock"))
        living.listen()

        with pytest.raises(StateError, match="another process listens"):
            async with running_fleet(tmp_path):
                pass

        assert (tmp_path / "control.sock").is_socket()


async def test_two_processes_do_not_share_their_state(fleet: Fleet, tmp_path: Path) -> None:
    config = ControlConfig(state_dir=fleet.config.state_dir, listen="127.0.0.1:0")

    with pytest.raises(StateError, match="another process uses"):
        async with serve_control(config):
            pass


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "[::1]:0"])
async def test_loopback_is_listened_on(tmp_path: Path, listen: str) -> None:
    async with serve_control(ControlConfig(state_dir=tmp_path, listen=listen)) as control:
        assert not control.targets[0].endswith(":0")
        async with grpc.aio.insecure_channel(control.targets[0]) as channel:
            await Stubs(channel).host(1)


async def test_several_addresses_are_listened_on(tmp_path: Path) -> None:
    listen = f"unix://{tmp_path}/run/control.sock, 127.0.0.1:0"
    async with serve_control(ControlConfig(state_dir=tmp_path, listen=listen)) as control:
        for target in control.targets:
            async with grpc.aio.insecure_channel(target) as channel:
                await Stubs(channel).host(1)

    assert len(control.targets) == 2


@pytest.mark.parametrize(
    ("listen", "error"),
    [
        ("0.0.0.0:0", ConfigError),
        ("[::]:0", ConfigError),
        ("192.0.2.1:7400", ConfigError),
        ("localhost:7400", ConfigError),
        ("127.0.0.1", ConfigError),
        ("127.0.0.1:", ConfigError),
        ("127.0.0.1:x", ConfigError),
        ("127.0.0.1:65536", ConfigError),
        ("unix:relative.sock", ConfigError),
        ("unix:///" + "x" * 200, ConfigError),
        ("", ConfigError),
        ("127.0.0.1:0,", ConfigError),
        ("127.0.0.1:0,0.0.0.0:0", ConfigError),
        ("unix:///proc/nowhere/control.sock", UnavailableError),
    ],
)
async def test_where_it_does_not_listen(
    tmp_path: Path, listen: str, error: type[NetagentError]
) -> None:
    with pytest.raises(error, match="listen: "):
        async with serve_control(ControlConfig(state_dir=tmp_path / "state", listen=listen)):
            pass


async def test_what_is_no_socket_is_not_removed(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious")
    config = ControlConfig(state_dir=tmp_path, listen=f"unix://{tmp_path}/file")

    with pytest.raises(ConfigError, match="is no socket"):
        async with serve_control(config):
            pass

    assert (tmp_path / "file").read_text() == "precious"


async def test_elsewhere_only_when_told_and_loudly(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = ControlConfig(state_dir=tmp_path, listen="0.0.0.0:0", insecure=True)

    with caplog.at_level(logging.WARNING, "netagent.control"):
        async with serve_control(config):
            pass

    assert any("INSECURE" in record.getMessage() for record in caplog.records)


async def test_an_address_in_use_is_said(tmp_path: Path) -> None:
    async with serve_control(ControlConfig(state_dir=tmp_path / "a", listen="127.0.0.1:0")) as one:
        config = ControlConfig(state_dir=tmp_path / "b", listen=one.targets[0])

        with pytest.raises(UnavailableError, match="listen: cannot listen on"):
            async with serve_control(config):
                pass
