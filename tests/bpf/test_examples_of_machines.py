"""from_machine, from_host and to_machine: an example for every line of the precedence."""

from __future__ import annotations

import pytest
from agreement import run_and_compare
from example_packets import (
    ARRIVING,
    ASH_ID,
    BIRCH_ID,
    MOVED_AWAY,
    NEIGHBOUR,
    NOBODY,
    NOT_ATTACHED,
    datagram,
    example_world,
    gateway_solicitation,
    ip,
    sent_by,
    too_big,
)
from fleet_of_three import (
    ASH,
    BLUE_WEB,
    HOST,
    MTU_BYTES,
    OUTSIDE,
    RED_DATABASE,
    RED_WEB,
    THREE,
    TWO,
    address,
)
from host_under_test import HostUnderTest, read_clocks
from oracle.world import Arrival
from scapy.layers.inet import TCP
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    ICMPv6MLReport2,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6ND_RA,
    ICMPv6ND_RS,
    ICMPv6PacketTooBig,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
)
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Packet, Raw

from netagent.dataplane.abi import MARK_DECIDED, Verdict
from netagent.model.addresses import StableId, machine_mac

pytestmark = pytest.mark.root

V = Verdict


def web(above: Packet | bytes, destination: object = RED_DATABASE, **fields: int) -> Arrival:
    """Return a frame of the machine RED_WEB."""
    header = ip(RED_WEB, destination, **fields)  # type: ignore[arg-type]
    if isinstance(above, bytes):
        header.plen = len(above)
        return sent_by(RED_WEB, bytes(header) + above)
    return sent_by(RED_WEB, header / above)


def host(above: Packet, destination: int = RED_DATABASE) -> Arrival:
    """Return a frame of the host's own stack."""
    return sent_by(ASH_ID, ip(ASH_ID, destination) / above, HOST)  # type: ignore[arg-type]


def visit(destination: StableId) -> Arrival:
    """Return a frame that the host's stack forwards from outside."""
    header = IPv6(src=str(OUTSIDE), dst=str(address(destination)))
    return sent_by(ASH_ID, header / datagram(), HOST)


def whole_packet(**fields: int) -> bytes:
    return bytes(ip(RED_WEB, RED_DATABASE, **fields) / datagram())


MACHINE_EXAMPLES: dict[str, tuple[Arrival, Verdict]] = {
    "1 an ARP request": (
        Arrival(bytes(Ether(src=machine_mac(RED_WEB).hex(":")) / ARP()), 102),
        V.DROP_NOT_IPV6,
    ),
    "1 a frame with a VLAN tag": (
        Arrival(bytes(Ether() / Dot1Q(vlan=5) / IPv6() / datagram()), 102),
        V.DROP_NOT_IPV6,
    ),
    "2 IPv6 by EtherType, another version within": (
        sent_by(RED_WEB, whole_packet(version=4)),
        V.DROP_MALFORMED,
    ),
    "2 a payload length of nothing": (
        sent_by(RED_WEB, whole_packet(plen=0, nh=59)),
        V.DROP_MALFORMED,
    ),
    "2 a payload longer than the frame": (
        sent_by(RED_WEB, whole_packet(plen=17)),
        V.DROP_MALFORMED,
    ),
    "2 padding behind the payload stays": (
        sent_by(RED_WEB, whole_packet() + b"\0\0\0"),
        V.PASS_TO_MESH,
    ),
    "3 a routing header": (
        web(IPv6ExtHdrRouting(addresses=["2001:db8::1"]) / datagram()),
        V.DROP_EXTENSION_HEADER,
    ),
    "3 four headers": (
        web(
            _options := IPv6ExtHdrDestOpt()
            / IPv6ExtHdrDestOpt()
            / IPv6ExtHdrDestOpt()
            / IPv6ExtHdrDestOpt()
            / datagram()
        ),
        V.PASS_TO_MESH,
    ),
    "3 five headers": (web(IPv6ExtHdrDestOpt() / _options), V.DROP_EXTENSION_HEADER),
    "3 hop-by-hop first": (web(IPv6ExtHdrHopByHop() / datagram()), V.PASS_TO_MESH),
    "3 hop-by-hop second": (
        web(IPv6ExtHdrDestOpt() / IPv6ExtHdrHopByHop() / datagram()),
        V.DROP_EXTENSION_HEADER,
    ),
    "3 options that say they are longer than the packet": (
        web(b"\x3a\x10" + bytes(14), nh=60),
        V.DROP_MALFORMED,
    ),
    "3 half a fragment header": (web(b"\x11\0\0\0", nh=44), V.DROP_MALFORMED),
    "3 half a TCP port": (web(b"\0\1\0", nh=6), V.DROP_MALFORMED),
    "3 ICMPv6 without identifier": (web(b"\x80\0\0\0\0\1\0", nh=58), V.DROP_MALFORMED),
    "3 a first fragment without ports": (
        web(b"\x11\0\0\1\0\0\0\7" + b"\0\1\0", nh=44),
        V.DROP_MALFORMED,
    ),
    "3 a later fragment has no ports": (
        web(b"\x11\0\0\x08\0\0\0\7" + b"\0", nh=44),
        V.PASS_TO_MESH,
    ),
    "3 nothing is walked behind a later fragment's header": (
        web(b"\x2b\0\0\x08\0\0\0\7" + b"\0", nh=44),
        V.PASS_TO_MESH,
    ),
    "3 a routing header behind a first fragment's": (
        web(IPv6ExtHdrFragment(m=1) / IPv6ExtHdrRouting(addresses=["::1"]) / datagram()),
        V.DROP_EXTENSION_HEADER,
    ),
    "3 authentication": (web(bytes(24), nh=51), V.PASS_TO_MESH),
    "3 encrypted": (web(bytes(24), nh=50), V.PASS_TO_MESH),
    "3 no next header": (web(b"\0", nh=59), V.PASS_TO_MESH),
    "4 the gateway's MAC is asked for at its group": (
        sent_by(RED_WEB, gateway_solicitation(str(address(RED_WEB)))),
        V.PASS_NEIGHBOUR_ANSWERED,
    ),
    "4 the gateway is probed": (
        sent_by(RED_WEB, gateway_solicitation("fe80::5", "fe80::1")),
        V.PASS_NEIGHBOUR_ANSWERED,
    ),
    "4 not from afar": (
        sent_by(RED_WEB, gateway_solicitation("fe80::5", hop_limit=254)),
        V.DROP_LINK_LOCAL,
    ),
    "4 not for another target": (
        sent_by(RED_WEB, gateway_solicitation("fe80::5", target="fe80::2")),
        V.DROP_LINK_LOCAL,
    ),
    "4 not for duplicate address detection": (
        sent_by(RED_WEB, gateway_solicitation("::")),
        V.DROP_LINK_LOCAL,
    ),
    "5 router solicitation": (
        sent_by(RED_WEB, IPv6(src="fe80::5", dst="ff02::2") / ICMPv6ND_RS()),
        V.DROP_LINK_LOCAL,
    ),
    "5 a ping to the gateway": (web(ICMPv6EchoRequest(), "fe80::1"), V.DROP_LINK_LOCAL),
    "5 to everybody": (web(datagram(), "ff0e::1"), V.DROP_LINK_LOCAL),
    "6 another's address": (
        sent_by(NEIGHBOUR, ip(NEIGHBOUR, RED_WEB) / datagram(), 102),
        V.DROP_SPOOFED_ADDRESS,
    ),
    "6 an address of nobody": (
        sent_by(RED_WEB, ip(NOBODY, RED_DATABASE) / datagram()),
        V.DROP_SPOOFED_ADDRESS,
    ),
    "6 an address of elsewhere": (
        sent_by(RED_WEB, IPv6(src="2001:db8::1", dst=str(address(RED_DATABASE))) / datagram()),
        V.DROP_SPOOFED_ADDRESS,
    ),
    "6 the host's locator": (
        sent_by(RED_WEB, IPv6(src="fc1a:1:1::1", dst=str(address(RED_DATABASE))) / datagram()),
        V.DROP_SPOOFED_ADDRESS,
    ),
    "7 another's MAC": (
        sent_by(RED_WEB, ip(RED_WEB, RED_DATABASE) / datagram(), mac=machine_mac(NEIGHBOUR)),
        V.DROP_SPOOFED_MAC,
    ),
    "8 the copy that stayed behind": (
        sent_by(MOVED_AWAY, ip(MOVED_AWAY, RED_DATABASE) / datagram(), TWO),
        V.DROP_NOT_LOCATED_HERE,
    ),
    "8 the copy that has not arrived": (
        sent_by(ARRIVING, ip(ARRIVING, RED_DATABASE) / datagram(), THREE),
        V.DROP_NOT_LOCATED_HERE,
    ),
    "9 the internet": (web(datagram(), "2001:db8::1"), V.DROP_DENIED_EGRESS),
    "9 a host's locator": (web(datagram(), "fc1a:1:2::1"), V.DROP_DENIED_EGRESS),
    "10 a router advertisement to a peer": (web(ICMPv6ND_RA()), V.DROP_NEIGHBOUR_DISCOVERY),
    "10 a neighbour advertisement to a peer": (web(ICMPv6ND_NA()), V.DROP_NEIGHBOUR_DISCOVERY),
    "10 a solicitation to a peer": (web(ICMPv6ND_NS()), V.DROP_NEIGHBOUR_DISCOVERY),
    "10 a listener report to a peer": (web(ICMPv6MLReport2()), V.DROP_NEIGHBOUR_DISCOVERY),
    "11 nobody has that address": (web(datagram(), NOBODY), V.DROP_UNKNOWN_DESTINATION),
    "12 another network": (web(datagram(), BLUE_WEB), V.DROP_DENIED_EGRESS),
    "12 a host, unasked": (web(datagram(), BIRCH_ID), V.DROP_DENIED_EGRESS),
    "12 a host, in answer": (web(datagram(), ASH_ID), V.PASS_TO_HOST),
    "12 a host, in answer, too late": (
        web(datagram(destination_port=4001), ASH_ID),
        V.DROP_DENIED_EGRESS,
    ),
    "12 a host, in answer by another protocol": (
        web(TCP(sport=443, dport=4000), ASH_ID),
        V.DROP_DENIED_EGRESS,
    ),
    "12 a host, echo reply": (web(ICMPv6EchoReply(id=77), ASH_ID), V.PASS_TO_HOST),
    "12 a host, echo reply nobody asked for": (
        web(ICMPv6EchoReply(id=78), ASH_ID),
        V.DROP_DENIED_EGRESS,
    ),
    "12 a host, echo request": (web(ICMPv6EchoRequest(id=77), ASH_ID), V.DROP_DENIED_EGRESS),
    "12 a host, an error": (
        web(ICMPv6DestUnreach() / Raw(bytes(48)), ASH_ID),
        V.DROP_DENIED_EGRESS,
    ),
    "12 a host, a first fragment in answer": (
        web(IPv6ExtHdrFragment(m=1) / datagram(), ASH_ID),
        V.PASS_TO_HOST,
    ),
    "12 a host, a later fragment of nothing": (
        web(IPv6ExtHdrFragment(offset=1) / Raw(bytes(8)), ASH_ID),
        V.DROP_FRAGMENT,
    ),
    "13 as long as the MTU": (web(datagram(MTU_BYTES - 48)), V.PASS_TO_MESH),
    "13 one byte longer": (web(too_big()), V.DROP_TOO_BIG),
    "13 one byte longer, to a neighbour": (web(too_big(), NEIGHBOUR), V.DROP_TOO_BIG),
    "13 an error that is too big": (
        web(ICMPv6PacketTooBig() / Raw(bytes(1400))),
        V.DROP_TOO_BIG,
    ),
    "13 a later fragment that is too big": (
        web(IPv6ExtHdrFragment(offset=170, id=7) / Raw(bytes(1400))),
        V.DROP_TOO_BIG,
    ),
    "14 a neighbour": (web(datagram(), NEIGHBOUR), V.PASS_TO_LOCAL_MACHINE),
    "14 a neighbour that is not attached": (web(datagram(), NOT_ATTACHED), V.DROP_NO_ENDPOINT),
    "15 a peer on another host": (web(TCP(sport=1, dport=80)), V.PASS_TO_MESH),
    "15 one that is leaving for here is still there": (web(datagram(), ARRIVING), V.PASS_TO_MESH),
    "15 hop limits are the machines' own": (web(datagram(), hlim=1), V.PASS_TO_MESH),
}

HOST_EXAMPLES: dict[str, tuple[Arrival, Verdict]] = {
    "6 the host does not speak for machines": (
        sent_by(RED_WEB, ip(RED_WEB, RED_DATABASE) / datagram(), HOST),
        V.DROP_SPOOFED_ADDRESS,
    ),
    "6 outside, to a machine that nobody opened": (visit(RED_WEB), V.DROP_DENIED_INGRESS),
    "6 outside, to a machine elsewhere": (visit(RED_DATABASE), V.DROP_OUTSIDE),
    "6 outside, to nobody": (visit(NOBODY), V.DROP_OUTSIDE),
    "6 outside, to the host itself": (visit(ASH_ID), V.PASS_TO_HOST),
    "6 outside, to outside": (
        sent_by(ASH_ID, IPv6(src=str(OUTSIDE), dst="2001:db8::2") / datagram(), HOST),
        V.DROP_OUTSIDE,
    ),
    "6 outside, a router advertisement": (
        sent_by(ASH_ID, IPv6(src=str(OUTSIDE), dst=str(address(RED_WEB))) / ICMPv6ND_RA(), HOST),
        V.DROP_NEIGHBOUR_DISCOVERY,
    ),
    "9 the host, to outside": (
        sent_by(ASH_ID, ip(ASH_ID, str(OUTSIDE)) / datagram(), HOST),
        V.DROP_OUTSIDE,
    ),
    "12 another host": (host(datagram(), BIRCH_ID), V.PASS_TO_MESH),
    "12 a machine of any network": (host(datagram(), BLUE_WEB), V.PASS_TO_LOCAL_MACHINE),
    "12 a machine elsewhere": (host(TCP(sport=5, dport=80)), V.PASS_TO_MESH),
    "12 echo": (host(ICMPv6EchoRequest(id=9)), V.PASS_TO_MESH),
    "12 echo reply, of which the receiver is asked": (host(ICMPv6EchoReply(id=9)), V.PASS_TO_MESH),
    "12 an error": (host(ICMPv6DestUnreach() / Raw(bytes(48))), V.PASS_TO_MESH),
    "12 a protocol without ports": (
        sent_by(ASH_ID, ip(ASH_ID, RED_DATABASE, nh=50) / Raw(bytes(8)), HOST),
        V.PASS_TO_MESH,
    ),
    "12 a first fragment": (host(IPv6ExtHdrFragment(m=1) / datagram()), V.PASS_TO_MESH),
    "12 a later fragment of another host's": (
        host(IPv6ExtHdrFragment(offset=1) / Raw(bytes(8)), BIRCH_ID),
        V.PASS_TO_MESH,
    ),
    "13 too big": (host(too_big()), V.DROP_TOO_BIG),
}

TO_MACHINE_EXAMPLES: dict[str, tuple[Arrival, Verdict | None]] = {
    "1 decided already": (sent_by(RED_WEB, whole_packet(), mark=MARK_DECIDED), None),
    "2 from the host's stack": (sent_by(RED_WEB, whole_packet()), V.DROP_OUTSIDE),
    "2 ARP from the host's stack": (Arrival(bytes(Ether() / ARP()), 102), V.DROP_OUTSIDE),
}

CASES = [
    pytest.param(program, arrival, verdict, id=f"{program} {name}")
    for program, examples in (
        ("from_machine", MACHINE_EXAMPLES),
        ("from_host", HOST_EXAMPLES),
        ("to_machine", TO_MACHINE_EXAMPLES),
    )
    for name, (arrival, verdict) in examples.items()
]


@pytest.mark.parametrize(("program", "arrival", "verdict"), CASES)
def test_example(
    hosts: dict[str, HostUnderTest], program: str, arrival: Arrival, verdict: Verdict | None
) -> None:
    world = hosts[ASH].fill(example_world(read_clocks()))
    expected, _ = run_and_compare(hosts[ASH], world, program, arrival)
    assert expected.verdict == verdict
