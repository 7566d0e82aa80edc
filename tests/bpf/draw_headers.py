"""Random extension headers and transports, as scapy layers."""

from __future__ import annotations

from random import Random

from draw_flows import IDENTIFICATIONS, PORTS
from fleet_of_three import MTU_BYTES
from scapy.layers.inet import TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    ICMPv6Unknown,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    PadN,
)
from scapy.layers.sctp import SCTP
from scapy.packet import Packet, Raw

ICMP_TYPES = (*range(0, 5), 127, *range(128, 139), 142, 143, 144)
FRAGMENT_OFFSETS = (0, 0, 1, 175, 0x1FFF)


def draw_extension_headers(random: Random) -> list[Packet]:
    """Return mostly none, else up to six in any order."""
    count = random.choice((*[0] * 24, 1, 1, 1, 1, 2, 2, 3, 4, 5, 6))
    return [_draw_extension_header(random) for _ in range(count)]


def _draw_extension_header(random: Random) -> Packet:
    options = [PadN(optdata=bytes(random.choice((0, 4, 12, 124))))]
    match random.choice(("destination", "destination", "fragment", "fragment", "hop", "routing")):
        case "destination":
            return IPv6ExtHdrDestOpt(options=options)
        case "hop":
            return IPv6ExtHdrHopByHop(options=options)
        case "fragment":
            offset = random.choice(FRAGMENT_OFFSETS)
            identification = random.choice(IDENTIFICATIONS)
            return IPv6ExtHdrFragment(offset=offset, m=random.randint(0, 1), id=identification)
        case _:
            return IPv6ExtHdrRouting(addresses=["2001:db8::9"])


def draw_transport(random: Random) -> Packet:
    """Return a transport header with its payload; Raw stands for one of another protocol."""
    kind = random.choice((TCP, UDP, SCTP, ICMPv6EchoRequest, ICMPv6EchoReply, ICMPv6Unknown, Raw))
    payload = b"\x5a" * _draw_size(random)
    if kind is Raw:
        return Raw(payload or b"\0")
    if kind is ICMPv6Unknown:
        code = random.choice((0, 0, 1, 255))
        return ICMPv6Unknown(type=random.choice(ICMP_TYPES), code=code, msgbody=payload)
    if kind in (ICMPv6EchoRequest, ICMPv6EchoReply):
        return kind(id=random.choice(PORTS), data=payload)
    ports = {"sport": random.choice(PORTS), "dport": random.choice(PORTS)}
    if kind is TCP:
        return TCP(**ports, flags=draw_tcp_flags(random)) / Raw(payload)
    return kind(**ports) / Raw(payload)


def draw_tcp_flags(random: Random) -> str:
    return random.choice(("S", "SA", "A", "A", "PA", "FA", "F", "R", "RA", "SF", "SR", ""))


def draw_error(random: Random, quoted: bytes) -> Packet:
    """Return an ICMPv6 error about a packet, which it quotes whole, in part or with a flaw."""
    quote = bytearray(quoted)
    match random.choice((*["whole"] * 8, "cut", "flawed", "longer")):
        case "cut":
            del quote[random.randint(0, len(quote)) :]
        case "flawed":
            quote[random.randint(0, len(quote) - 1)] = random.randint(0, 255)
        case "longer":
            quote += bytes(20)
    kind = random.choice((1, 2, 2, 3, 4, 127, 128))
    return ICMPv6Unknown(type=kind, code=random.choice((0, 0, 4)), msgbody=bytes(4) + bytes(quote))


def _draw_size(random: Random) -> int:
    near_mtu = random.randint(MTU_BYTES - 64, MTU_BYTES + 4)
    return random.choice((random.randint(0, 40), random.randint(0, 40), near_mtu, 2000))
