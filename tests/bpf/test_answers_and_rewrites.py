"""What the gateway answers and what the programs write into packets, spelt out in scapy."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from agreement import run_and_compare
from example_packets import (
    ASH_ID,
    WELCOME,
    WELCOME_ECHO,
    datagram,
    example_world,
    gateway_solicitation,
    ip,
    sent_by,
)
from fleet_of_three import ASH, BIRCH, BLUE_WEB, LOCATORS, MTU_BYTES, RED_DATABASE, RED_WEB, address
from host_under_test import HostUnderTest, Result, read_clocks
from oracle.world import Action, Arrival
from scapy.layers.inet import TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6EchoReply,
    ICMPv6ND_NA,
    ICMPv6NDOptDstLLAddr,
    ICMPv6PacketTooBig,
    IPv6,
)
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw
from scapy.utils import checksum

from netagent.dataplane.abi import Verdict
from netagent.model.addresses import GATEWAY_MAC, StableId, machine_mac

pytestmark = pytest.mark.root


def web(above: Packet, destination: StableId = RED_DATABASE) -> Arrival:
    """Return a frame of the machine RED_WEB."""
    return sent_by(RED_WEB, ip(RED_WEB, destination) / above)


Send = Callable[[str, Arrival], Result]


@pytest.fixture
def send(hosts: dict[str, HostUnderTest]) -> Send:
    """Return a function that runs a packet through a program of ash."""
    hosts[ASH].fill(example_world(read_clocks()))
    return hosts[ASH].run


def test_the_gateway_answers_with_its_mac_to_whoever_asked(send: Send) -> None:
    answer = send("from_machine", sent_by(RED_WEB, gateway_solicitation("fe80::5")))
    expected = (
        Ether(src=GATEWAY_MAC.hex(":"), dst=machine_mac(RED_WEB).hex(":"))
        / IPv6(src="fe80::1", dst="fe80::5", hlim=255)
        / ICMPv6ND_NA(tgt="fe80::1", R=1, S=1, O=1)
        / ICMPv6NDOptDstLLAddr(lladdr=GATEWAY_MAC.hex(":"))
    )
    assert answer.action == Action.REDIRECT
    assert answer.data == bytes(expected)


@pytest.mark.parametrize("beyond", [1, 400, 1900])
def test_packet_too_big_names_the_mtu_and_quotes_the_packet(send: Send, beyond: int) -> None:
    sent = ip(RED_WEB, RED_DATABASE) / datagram(MTU_BYTES - 48 + beyond)
    answer = send("from_machine", sent_by(RED_WEB, sent))
    expected = (
        Ether(src=GATEWAY_MAC.hex(":"), dst=machine_mac(RED_WEB).hex(":"))
        / IPv6(src="fe80::1", dst=str(address(RED_WEB)), hlim=255)
        / ICMPv6PacketTooBig(mtu=MTU_BYTES)
        / Raw(bytes(sent)[: 1280 - 48])
    )
    assert answer.data == bytes(expected)


@pytest.mark.parametrize(
    ("transport", "field"), [(TCP(dport=80), 40 + 16), (UDP(dport=80), 40 + 6)], ids=["tcp", "udp"]
)
def test_packet_too_big_is_right_once_a_partial_checksum_is_completed(
    send: Send, transport: Packet, field: int
) -> None:
    """As by an interface towards the machine that has no checksum offload."""
    payload = Raw(bytes(range(256)) * 8)
    sent = bytearray(bytes(ip(RED_WEB, RED_DATABASE) / transport / payload))
    length = len(sent) - 40
    pseudo_header = sent[8:40] + length.to_bytes(4) + bytes([0, 0, 0, sent[6]])
    sent[field : field + 2] = (~checksum(pseudo_header) & 0xFFFF).to_bytes(2)

    answer = bytearray(send("from_machine", sent_by(RED_WEB, Raw(bytes(sent)))).data)

    begin = len(Ether()) + 48
    assert answer[begin:] == sent[: 1280 - 48]
    completed = checksum(bytes(answer[begin + 40 :])).to_bytes(2)
    answer[begin + field : begin + field + 2] = completed
    given = IPv6(bytes(answer[14:]))
    told = given[ICMPv6PacketTooBig].cksum
    del given[ICMPv6PacketTooBig].cksum
    assert told == IPv6(bytes(given))[ICMPv6PacketTooBig].cksum


@pytest.mark.parametrize(
    ("segment_payload", "verdict"),
    [(MTU_BYTES - 60, Verdict.PASS_TO_MESH), (MTU_BYTES - 59, Verdict.DROP_TOO_BIG)],
)
def test_of_a_gso_packet_the_segment_counts(
    hosts: dict[str, HostUnderTest], segment_payload: int, verdict: Verdict
) -> None:
    world = hosts[ASH].fill(example_world(read_clocks()))
    segments = ip(RED_WEB, RED_DATABASE) / TCP(sport=5, dport=80) / Raw(bytes(2 * segment_payload))
    arrival = sent_by(RED_WEB, segments, gso_size=segment_payload)
    expected, _ = run_and_compare(hosts[ASH], world, "from_machine", arrival)
    assert expected.verdict == verdict


def test_only_the_upper_halves_change_on_the_way_to_the_mesh(send: Send) -> None:
    sent = web(datagram())
    encoded = send("from_machine", sent).data[14:]
    upper = LOCATORS[ASH].to_bytes(8, "big"), LOCATORS[BIRCH].to_bytes(8, "big")
    packet = sent.data[14:]
    assert encoded == packet[:8] + upper[0] + packet[16:24] + upper[1] + packet[32:]


def test_what_answers_a_host_keeps_the_flow_alive(send: Send) -> None:
    before_ns = read_clocks().coarse_ns
    after_datagram = send("from_machine", web(datagram(), ASH_ID)).flows
    after_echo = send("from_machine", web(ICMPv6EchoReply(id=77), ASH_ID)).flows
    assert after_datagram[WELCOME].seen_ns >= before_ns
    assert after_echo[WELCOME_ECHO].seen_ns >= before_ns


def test_a_count_is_exact_over_many_packets(hosts: dict[str, HostUnderTest]) -> None:
    hosts[ASH].fill(example_world(read_clocks()))
    counted = hosts[ASH].run("from_machine", web(datagram(), BLUE_WEB), repeat=1000).counted
    assert {verdict: counter.packets for verdict, counter in counted.items()} == {
        Verdict.DROP_DENIED_EGRESS: 1000
    }
