"""Packets that the gateway itself sends: neighbour advertisements and Packet Too Big."""

from __future__ import annotations

import struct

from netagent.model.addresses import GATEWAY_ADDRESS, GATEWAY_MAC
from oracle.packet import ICMPV6, Address, Packet

ETHERTYPE_IPV6 = b"\x86\xdd"
SOLICITED_NODE_GROUP = bytes.fromhex("ff0200000000000000000001ff000001")

NEIGHBOUR_SOLICITATION, NEIGHBOUR_ADVERTISEMENT, PACKET_TOO_BIG = 135, 136, 2
ANSWER_BYTES_MAX = 1280

_ROUTER_SOLICITED_OVERRIDE = 0xE0000000
_TARGET_LINK_LAYER_ADDRESS = b"\x02\x01"


def ethernet(destination_mac: bytes) -> bytes:
    """Return the header of a frame from the gateway, 14 bytes."""
    return destination_mac + GATEWAY_MAC + ETHERTYPE_IPV6


def asks_for_gateway(packet: Packet) -> bool:
    """Whether line 4 applies: a guest's neighbour solicitation for fe80::1."""
    gateway = GATEWAY_ADDRESS.packed
    return (
        packet.destination.pack() in (gateway, SOLICITED_NODE_GROUP)
        and packet.hop_limit == 255
        and packet.extension_headers == 0
        and packet.icmp_type == NEIGHBOUR_SOLICITATION
        and packet.transport[1] == 0
        and len(packet.transport) >= 24
        and packet.transport[8:24] == gateway
        and not packet.source.is_unspecified
        and not packet.source.is_multicast
    )


def neighbour_advertisement(asker: Address) -> bytes:
    """Return the gateway's advertisement, from the IPv6 header on."""
    body = struct.pack(">I", _ROUTER_SOLICITED_OVERRIDE) + GATEWAY_ADDRESS.packed
    option = _TARGET_LINK_LAYER_ADDRESS + GATEWAY_MAC
    return _icmp(asker, 255, NEIGHBOUR_ADVERTISEMENT, body + option)


def packet_too_big(packet: Packet, mtu_bytes: int) -> bytes | None:
    """Return the answer to a packet that is too big, or None where none may be given."""
    if packet.is_icmp_error or packet.is_later_fragment:
        return None
    quoted = packet.raw[: ANSWER_BYTES_MAX - 48]
    return _icmp(packet.source, 255, PACKET_TOO_BIG, struct.pack(">I", mtu_bytes) + quoted)


def _icmp(destination: Address, hop_limit: int, kind: int, body: bytes) -> bytes:
    addresses = GATEWAY_ADDRESS.packed + destination.pack()
    message = struct.pack(">BBH", kind, 0, 0) + body
    pseudo_header = addresses + struct.pack(">II", len(message), ICMPV6)
    checksum = internet_checksum(pseudo_header + message)
    header = struct.pack(">IHBB", 6 << 28, len(message), ICMPV6, hop_limit)
    return header + addresses + message[:2] + struct.pack(">H", checksum) + message[4:]


def internet_checksum(data: bytes) -> int:
    """Return the checksum of RFC 1071 over data, padded with a zero byte if odd."""
    padded = data + b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f">{len(padded) // 2}H", padded))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
