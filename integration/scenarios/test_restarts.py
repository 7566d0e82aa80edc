"""kill -9 of every daemon under traffic: no packet is lost, and what comes back converges."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from integration.lab.host import Host
from integration.lab.lab import Lab
from integration.lab.pace import PACE
from integration.lab.probe import probing
from integration.lab.stream import streaming
from integration.lab.wait import wait_until
from integration.scenarios.kernel import ENDPOINT, LOCATION, TRANSITION, table
from integration.scenarios.traffic import pings, place_of
from netagent.api.control.v1 import move_service_pb2 as move_pb
from netagent.api.control.v1.move_service_pb2_grpc import MoveServiceStub
from netagent.api.types.v1 import types_pb2


def _data_path(host: Host) -> list[str]:
    """Return what must stay when an agent is killed: map ids, interfaces, program ids."""
    found = []
    for layout in (LOCATION, TRANSITION, ENDPOINT):
        with table(host, layout) as opened:
            found.append(f"{layout.name} {opened.map_id}")
    for line in host.run("ip", "-o", "link").splitlines():
        number, name = line.split(": ")[:2]
        interface = name.partition("@")[0]
        found.append(f"{number} {interface}")
        for side in ("ingress", "egress"):
            found.append(host.run("tc", "filter", "show", "dev", interface, side, check=False))
    return found


def _handshakes(lab: Lab) -> str:
    """Return when WireGuard agreed on keys, for whoever has to explain a loss."""
    host = lab.hosts["host-a"]
    unix_ns = time.time_ns() - time.monotonic_ns()
    return f"handshakes (clock + {unix_ns}): {host.run('wg', 'show', 'all', 'latest-handshakes')}"


def test_killing_every_daemon_loses_no_packet(lab: Lab) -> None:
    web, db = lab.machine("shop/web", "host-a"), lab.machine("shop/db", "host-b")
    web.wait_reaches(db)
    before = {name: _data_path(host) for name, host in lab.hosts.items()}

    with (
        probing(place_of(web), place_of(db), lab.directory) as probe,
        streaming(web.namespace, db.namespace, db.address) as stream,
    ):
        connection = stream.connection()
        killed_ns = {}
        for host in lab.hosts.values():
            killed_ns[host.name] = time.monotonic_ns()
            host.kill_agent()
            host.start_agent()
        killed_ns["control"] = time.monotonic_ns()
        lab.kill_control()
        lab.start_control()
        for host in lab.hosts.values():
            host.wait_in_step()
        assert stream.is_alive_after(connection)
        record = probe.stop()

    print(record.whole())
    lost_ns = [sent for sent, _, back in record.packets if not back]
    assert not lost_ns, f"lost at {lost_ns}, killed at {killed_ns}, {_handshakes(lab)}"
    assert {name: _data_path(host) for name, host in lab.hosts.items()} == before
    for host in lab.hosts.values():
        status = host.status()
        assert (status.kernel_writes, status.drift_mended) == (0, 0), host.name
        assert not status.conditions


def test_an_agent_learns_what_changed_while_it_was_dead(lab: Lab) -> None:
    web, db = lab.machine("shop/web", "host-a"), lab.machine("shop/db", "host-b")
    web.wait_reaches(db)
    host = lab.hosts["host-a"]

    host.kill_agent()
    new = lab.machine("shop/new", "host-c")
    lab.move(db, "host-c")
    host.start_agent()

    web.wait_reaches(db)
    web.wait_reaches(new)
    assert pings(place_of(new), web.address)


@pytest.mark.namespaces_only("an interface that was handed over stays: see test_vm_hosts.py")
def test_a_machine_that_left_while_its_agent_was_dead_is_let_go(lab: Lab) -> None:
    web, db = lab.machine("shop/web", "host-a"), lab.machine("shop/db", "host-b")
    host = lab.hosts["host-a"]

    host.kill_agent()
    lab.move(web, "host-c")
    host.start_agent()

    wait_until("host-a lets go of it", lambda: not host.status().endpoints)
    web.wait_reaches(db)
    assert len(web.run("ip", "-6", "-o", "addr", "show", "to", web.address).splitlines()) == 1


@pytest.mark.parametrize("phase", ["PREPARING", "COMMITTED"])
def test_a_move_goes_on_after_control_is_killed(lab: Lab, phase: str) -> None:
    web, db = lab.machine("shop/web", "host-a"), lab.machine("shop/db", "host-b")
    web.wait_reaches(db)
    web.attach(lab.hosts["host-c"])
    moves = MoveServiceStub(lab.channel)
    request = move_pb.MoveAddressRequest(machine="shop/web", destination="host-c")
    wanted = types_pb2.MovePhase.Value(f"MOVE_PHASE_{phase}")

    move_id = next(
        step.move.move_id
        for step in moves.MoveAddress(request, timeout=PACE.allow(30))
        if step.move.phase == wanted
    )
    lab.kill_control()
    lab.start_control()

    get = move_pb.GetMoveRequest(move_id=move_id)
    settled = types_pb2.MOVE_PHASE_SETTLED
    wait_until(
        "it settles", lambda: moves.GetMove(get, timeout=PACE.allow(10)).move.phase == settled, 30
    )
    assert lab.locate(web) == "host-c"
    wait_until("host-a lets go", _has_no_endpoint(lab.hosts["host-a"]))
    web.wait_reaches(db)
    for host in lab.hosts.values():
        with table(host, TRANSITION) as transitions:
            wait_until("no transition is left", lambda opened=transitions: not opened.items())


def _has_no_endpoint(host: Host) -> Callable[[], bool]:
    return lambda: not host.status().endpoints
