"""Packets that the gateway itself sends: neighbour advertisements and Packet Too Big."""

from __future__ import annotations

import struct

from netagent.model.addresses import GATEWAY_ADDRESS, GATEWAY_MAC
from oracle.packet import ICMPV6, Address, Packet

ETHERTYPE_IPV6 = b"\x86\xdd"
SOLICITED_NODE_GROUP = bytes.fromhex("ff0200000000000000000001ff000001")

NEIGHBOUR_SOLICITATION, NEIGHBOUR_ADVERTISEMENT, PACKET_TOO_BIG = 135, 136, 2
ANSWER_BYTES_MAX = 1280

_CHECKSUM_FIELDS = {6: 16, 17: 6}
"""Offset of the checksum in the transport header, by protocol."""

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
    mtu = struct.pack(">I", mtu_bytes)
    summed = mtu + _completed(packet, quoted)
    return _icmp(packet.source, 255, PACKET_TOO_BIG, mtu + quoted, summed)


def _completed(packet: Packet, quoted: bytes) -> bytes:
    """Return a quote as it is once its partial checksum, if it has one, is completed."""
    field = _CHECKSUM_FIELDS.get(packet.protocol)
    if field is None or packet.extension_headers or len(packet.transport) < field + 2:
        return quoted
    at = packet.transport_offset
    addresses = packet.source.pack() + packet.destination.pack()
    pseudo_header = addresses + struct.pack(">II", len(packet.transport), packet.protocol)
    so_far = struct.pack(">H", ~internet_checksum(pseudo_header) & 0xFFFF)
    if packet.transport[field : field + 2] != so_far:
        return quoted
    complete = struct.pack(">H", internet_checksum(quoted[at:]))
    return quoted[: at + field] + complete + quoted[at + field + 2 :]


def _icmp(
    destination: Address, hop_limit: int, kind: int, body: bytes, summed: bytes | None = None
) -> bytes:
    """Return a message of the gateway. summed: what its checksum covers, if not `body`."""
    addresses = GATEWAY_ADDRESS.packed + destination.pack()
    begin = struct.pack(">BBH", kind, 0, 0)
    message = begin + body
    pseudo_header = addresses + struct.pack(">II", len(message), ICMPV6)
    checksum = internet_checksum(pseudo_header + begin + (body if summed is None else summed))
    header = struct.pack(">IHBB", 6 << 28, len(message), ICMPV6, hop_limit)
    return header + addresses + message[:2] + struct.pack(">H", checksum) + message[4:]


def internet_checksum(data: bytes) -> int:
    """Return the checksum of RFC 1071 over data, padded with a zero byte if odd."""
    padded = data + b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f">{len(padded) // 2}H", padded))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
