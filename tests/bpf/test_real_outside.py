"""Out and in through the host's own stack: real routes, an uplink, and the programs attached."""

from __future__ import annotations

import select
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from conversation import tcp, tcp_back, udp
from example_packets import example_world, ip, sent_by
from fleet_of_three import (
    ASH,
    FLEET,
    HOST,
    INTERFACES,
    ONE,
    OUTSIDE,
    RED_WEB,
    address,
    constants_of,
)
from host_routes import ROUTER, ROUTER_MAC, set_forwarding
from host_under_test import HostUnderTest, read_clocks
from kernel.namespaces import make_interface, mount_bpffs, own_namespaces, set_up
from policy_books import BOOKS
from scapy.layers.inet6 import ICMPv6PacketTooBig, IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from netagent.dataplane.datapath import Attachment
from netagent.model.addresses import GATEWAY_ADDRESS, GATEWAY_MAC

pytestmark = pytest.mark.root

UPLINK = 105
UPLINK_MAC = "02:00:00:00:00:05"
UPLINK_MTU = 1300
ETH_P_ALL = 3
DEADLINE_S = 5.0


@dataclass(frozen=True, slots=True)
class Wire:
    """The far end of an interface."""

    end: socket.socket

    def send(self, frame: bytes) -> None:
        self.end.send(frame)

    def receive(self) -> bytes:
        """Return the next frame that comes out; fail when none does."""
        ready, _, _ = select.select([self.end], [], [], DEADLINE_S)
        assert ready, "nothing came out"
        return self.end.recv(1 << 16)


@dataclass(frozen=True, slots=True)
class Wires:
    machine: Wire
    uplink: Wire


@pytest.fixture(scope="module")
def wires(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wires]:
    with own_namespaces(), ExitStack() as stack:
        # No addresses of the interfaces' own, so that nobody speaks unasked.
        Path("/proc/sys/net/ipv6/conf/default/addr_gen_mode").write_text("1")
        set_forwarding(True)
        for name, ifindex in {**INTERFACES, "uplink": UPLINK}.items():
            make_interface(name, ifindex)
            set_up(name)
        _route_like_a_host()
        host = HostUnderTest(
            mount_bpffs(tmp_path_factory.mktemp("bpffs")) / "ash", constants_of(ASH)
        )
        stack.callback(host.close)
        host.datapath.attach(ONE, Attachment.MACHINE)
        host.datapath.attach(HOST, Attachment.HOST)
        host.fill(example_world(read_clocks(), BOOKS["strict"]))
        opened = [stack.enter_context(_socket(name)) for name in ("onex", "uplinkx")]
        yield Wires(*map(Wire, opened))


def _socket(name: str) -> socket.socket:
    opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    opened.bind((name, ETH_P_ALL))
    return opened


def _route_like_a_host() -> None:
    """What is outside goes out at the uplink; the fleet's prefix goes to the gateway."""
    gateway, mac = str(GATEWAY_ADDRESS), GATEWAY_MAC.hex(":")
    for command in (
        ["link", "set", "uplink", "address", UPLINK_MAC, "mtu", str(UPLINK_MTU)],
        ["addr", "add", "2001:db8:4::1/128", "dev", "uplink", "nodad"],
        ["neigh", "add", ROUTER, "lladdr", ROUTER_MAC, "dev", "uplink", "nud", "permanent"],
        ["route", "add", "default", "via", ROUTER, "dev", "uplink"],
        [
            "neigh",
            "add",
            gateway,
            "lladdr",
            mac,
            "dev",
            "hostx",
            "nud",
            "permanent",
        ],
        ["route", "add", str(FLEET.prefix), "via", gateway, "dev", "hostx"],
    ):
        subprocess.run(["ip", "-6", *command], check=True)


def from_outside(above: Packet) -> bytes:
    """Return a frame of the router's for the machine."""
    header = IPv6(src=str(OUTSIDE), dst=str(address(RED_WEB)), hlim=60)
    return bytes(Ether(src=ROUTER_MAC, dst=UPLINK_MAC) / header / above)


def test_a_machine_reaches_outside_and_hears_the_answer(wires: Wires) -> None:
    sent = ip(RED_WEB, str(OUTSIDE), hlim=64) / tcp(80)
    wires.machine.send(sent_by(RED_WEB, sent).data)

    went_out = Ether(wires.uplink.receive())

    assert (went_out.src, went_out.dst) == (UPLINK_MAC, ROUTER_MAC)
    assert bytes(went_out[IPv6]) == bytes(sent)[:7] + b"\x3f" + bytes(sent)[8:]

    wires.uplink.send(from_outside(tcp_back(80, "SA")))

    came_in = Ether(wires.machine.receive())
    assert (came_in[IPv6].src, came_in[IPv6].dst) == (str(OUTSIDE), str(address(RED_WEB)))
    assert came_in.src == GATEWAY_MAC.hex(":")


def test_what_nobody_asked_for_stays_outside(wires: Wires) -> None:
    """What comes next out of the machine's interface is what comes after it."""
    wires.uplink.send(from_outside(udp(22)))
    wires.machine.send(sent_by(RED_WEB, ip(RED_WEB, str(OUTSIDE)) / tcp(81)).data)
    wires.uplink.receive()
    wires.uplink.send(from_outside(tcp_back(81, "SA")))

    came_in = Ether(wires.machine.receive())

    assert came_in[IPv6].nh == 6


def test_the_host_says_what_is_too_big_for_its_uplink(wires: Wires) -> None:
    big = ip(RED_WEB, str(OUTSIDE)) / udp(53) / Raw(bytes(UPLINK_MTU))
    wires.machine.send(sent_by(RED_WEB, big).data)

    answer = Ether(wires.machine.receive())

    assert answer[ICMPv6PacketTooBig].mtu == UPLINK_MTU
    assert answer[IPv6].dst == str(address(RED_WEB))
