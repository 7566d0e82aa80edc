"""Attached to interfaces: where packets come out, and frames too short for a test run."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from example_packets import datagram, example_world, gateway_solicitation, ip, sent_by
from fleet_of_three import (
    ASH,
    HOST,
    INTERFACES,
    MESH,
    ONE,
    RED_DATABASE,
    RED_WEB,
    TWO,
    constants_of,
    interface,
)
from host_under_test import HostUnderTest, read_clocks
from kernel.namespaces import make_interface, mount_bpffs, own_namespaces, set_up
from oracle.programs import decide
from oracle.world import Arrival, World

from netagent.dataplane.abi import Verdict
from netagent.dataplane.datapath import Attachment
from netagent.model.addresses import StableId, make_id

pytestmark = pytest.mark.root

NEIGHBOUR = make_id(1, 1, 10)
ETH_P_ALL = 3
DEADLINE_S = 5.0


class Wires:
    """The far ends of the host's interfaces: what a machine, or WireGuard, would see."""

    def __init__(
        self, host: HostUnderTest, world: World, sockets: dict[int, socket.socket]
    ) -> None:
        self.host = host
        self.world = world
        self._sockets = sockets

    def send(self, arrival: Arrival) -> None:
        """Send as the machine at that interface."""
        self._sockets[arrival.ifindex].send(arrival.data)

    def receive(self) -> tuple[int, bytes]:
        """Return the index of the interface where the next frame comes out, and the frame."""
        sockets = list(self._sockets.values())
        ready, _, _ = select.select(sockets, [], [], DEADLINE_S)
        assert ready, "nothing came out"
        ifindex = next(index for index, sock in self._sockets.items() if sock is ready[0])
        return ifindex, ready[0].recv(1 << 16)


@pytest.fixture(scope="module")
def wires(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wires]:
    with own_namespaces(), ExitStack() as stack:
        Path("/proc/sys/net/ipv6/conf/default/disable_ipv6").write_text("1")
        for name, ifindex in INTERFACES.items():
            make_interface(name, ifindex)
            set_up(name)
        bpffs = mount_bpffs(tmp_path_factory.mktemp("bpffs"))
        host = HostUnderTest(bpffs / "ash", constants_of(ASH))
        stack.callback(host.close)
        for ifindex in set(INTERFACES.values()) - {MESH, HOST}:
            host.datapath.attach(ifindex, Attachment.MACHINE)
        host.datapath.attach(HOST, Attachment.HOST)
        world = example_world(read_clocks())
        world = replace(
            world,
            endpoints={**world.endpoints, NEIGHBOUR: interface(NEIGHBOUR, TWO, is_peer=False)},
        )
        world = host.fill(world)
        sockets = {}
        for name, ifindex in INTERFACES.items():
            sock = stack.enter_context(socket.socket(socket.AF_PACKET, socket.SOCK_RAW))
            sock.bind((f"{name}x", ETH_P_ALL))
            sockets[ifindex] = sock
        yield Wires(host, world, sockets)


@pytest.mark.parametrize(
    ("destination", "out"), [(NEIGHBOUR, TWO), (RED_DATABASE, MESH), (RED_WEB, ONE)]
)
def test_a_packet_comes_out_where_the_oracle_says(
    wires: Wires, destination: StableId, out: int
) -> None:
    arrival = sent_by(RED_WEB, ip(RED_WEB, destination) / datagram())
    expected = decide(wires.world, "from_machine", arrival)
    assert expected.ifindex == out
    wires.send(arrival)
    ifindex, frame = wires.receive()
    assert ifindex == out
    assert frame[14:] == expected.packet


def test_the_gateways_answer_comes_back_where_the_question_was_asked(wires: Wires) -> None:
    arrival = sent_by(RED_WEB, gateway_solicitation("fe80::5"))
    expected = decide(wires.world, "from_machine", arrival)
    wires.send(arrival)
    ifindex, frame = wires.receive()
    assert (ifindex, frame) == (ONE, (expected.ethernet or b"") + (expected.packet or b""))


def test_a_machine_that_is_told_of_the_mtu_hears_it_on_its_own_interface(wires: Wires) -> None:
    arrival = sent_by(RED_WEB, ip(RED_WEB, RED_DATABASE) / datagram(1400))
    expected = decide(wires.world, "from_machine", arrival)
    wires.send(arrival)
    ifindex, frame = wires.receive()
    assert (ifindex, frame[14:]) == (ONE, expected.packet)


@pytest.mark.parametrize("size", [14, 15, 20, 38, 47, 53])
def test_a_frame_shorter_than_an_ipv6_header_is_malformed(wires: Wires, size: int) -> None:
    whole = sent_by(RED_WEB, ip(RED_WEB, RED_DATABASE) / datagram())
    before = wires.host.datapath.counters()
    wires.send(replace(whole, data=whole.data[:size]))
    wires.send(whole)
    wires.receive()
    after = wires.host.datapath.counters()
    gained = {v: after[v].packets - before[v].packets for v in after if after[v] != before[v]}
    assert gained == {Verdict.DROP_MALFORMED: 1, Verdict.PASS_TO_MESH: 1}


def test_what_the_hosts_stack_sends_to_a_machine_stops_at_its_interface(wires: Wires) -> None:
    """A frame put out through the interface itself, as routing would."""
    before = wires.host.datapath.counters()[Verdict.DROP_OUTSIDE].packets
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as stack:
        stack.bind(("two", 0))
        with pytest.raises(OSError, match="No buffer space"):
            stack.send(sent_by(RED_WEB, ip(RED_WEB, NEIGHBOUR) / datagram()).data)
    assert wires.host.datapath.counters()[Verdict.DROP_OUTSIDE].packets == before + 1
