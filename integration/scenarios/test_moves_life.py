"""A move that waits for life commits when the machine shows it at its destination, not before."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

import pytest

from integration.lab.host import Host
from integration.lab.lab import Lab
from integration.lab.machine import Machine
from integration.lab.pace import PACE
from integration.lab.vm.lab import VmLab
from integration.lab.wait import wait_until
from integration.scenarios.traffic import inside
from netagent.api.agent.v1 import agent_service_pb2 as agent_pb
from netagent.api.control.v1 import move_service_pb2 as move_pb
from netagent.api.control.v1.move_service_pb2_grpc import MoveServiceStub
from netagent.api.types.v1 import types_pb2

RARP = 0x8035
MOVE_TIMEOUT_S = 60


def _hand_over_card(host: Host, guest: Machine, card: str) -> str:
    """Attach what stands for a guest's network card on a host; return its MAC."""
    host.run("ip", "link", "add", "tap7", "type", "veth", "peer", "name", card)
    host.namespace.run_outside(
        [
            *("nsenter", "-t", str(host.namespace.pid), "-n", "--"),
            *("ip", "link", "set", card, "netns", str(guest.namespace.pid)),
        ]
    )
    mac = host.attach(agent_pb.AttachRequest(machine=guest.path, interface="tap7")).mac
    guest.run("ip", "link", "set", card, "address", mac, "mtu", "1408", "up")
    return mac


def _show_life(guest: Machine, card: str, mac: str) -> None:
    """Broadcast what QEMU does when a guest goes on."""
    frame = b"\xff" * 6 + bytes.fromhex(mac.replace(":", "")) + struct.pack(">H", RARP) + bytes(46)
    with inside(guest.namespace):
        sender = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    with sender:
        sender.bind((card, 0))
        sender.send(frame)


@pytest.mark.namespaces_only("lays cables from a host into a namespace")
def test_life_at_the_destination_commits(lab: Lab) -> None:
    guest = lab.machine("shop/guest", "host-a", attach=False)
    db = lab.machine("shop/db", "host-b")
    _hand_over_card(lab.hosts["host-a"], guest, "card-a")
    guest.run("ip", "-6", "addr", "add", f"{guest.address}/128", "dev", "card-a", "nodad")
    guest.run("ip", "-6", "route", "add", "default", "via", "fe80::1", "dev", "card-a")
    guest.wait_reaches(db)

    steps = _begin(lab, guest)
    # The card comes up at the destination, and an agent starts anew: neither is life.
    mac = _hand_over_card(lab.hosts["host-c"], guest, "card-c")
    lab.hosts["host-c"].kill_agent()
    lab.hosts["host-c"].start_agent()
    guest.wait_reaches(db)
    assert lab.locate(guest) == "host-a"

    guest.run("ip", "-6", "route", "replace", "default", "via", "fe80::1", "dev", "card-c")
    _show_life(guest, "card-c", mac)

    assert [step.move.phase for step in steps][-1] == types_pb2.MOVE_PHASE_SETTLED
    assert lab.locate(guest) == "host-c"
    wait_until("db reaches it there", lambda: db.reaches(guest.address))


def test_an_agent_under_systemd_hears_life(vm_lab: VmLab) -> None:
    """Its unit leaves it the right to; both hosts hear all that the machine sends."""
    guest, db = vm_lab.machine("shop/guest", "host-a"), vm_lab.machine("shop/db", "host-b")
    guest.wait_reaches(db)
    destination = vm_lab.hosts["host-c"]

    steps = _begin(vm_lab, guest)
    guest.attach(destination)
    destination.kill_agent()
    destination.start_agent()
    assert vm_lab.locate(guest) == "host-a"
    guest.reaches(db.address)

    assert [step.move.phase for step in steps][-1] == types_pb2.MOVE_PHASE_SETTLED
    assert vm_lab.locate(guest) == "host-c"
    db.wait_reaches(guest)


def _begin(lab: Lab, guest: Machine) -> Iterator[move_pb.MoveAddressResponse]:
    """Begin a move to host-c that life commits; return what follows after it is ready."""
    request = move_pb.MoveAddressRequest(
        machine=guest.path, destination="host-c", trigger=types_pb2.MOVE_TRIGGER_LIFE
    )
    steps = MoveServiceStub(lab.channel).MoveAddress(request, timeout=PACE.allow(MOVE_TIMEOUT_S))
    while next(steps).move.phase != types_pb2.MOVE_PHASE_READY:
        pass
    return iter(steps)
