"""Lines 2 and 3 of from_machine: the IPv6 header, the walk over extension headers, transport."""

from __future__ import annotations

from dataclasses import dataclass

from netagent.dataplane.abi import Verdict
from netagent.model.addresses import Fleet, StableId
from oracle.world import Dropped

IPV6_HEADER_BYTES = 40
EXTENSION_HEADERS_MAX = 4
TCP_FLAGS_OFFSET = 13

HOP_BY_HOP, ROUTING, FRAGMENT, DESTINATION_OPTIONS = 0, 43, 44, 60
TCP, UDP, ICMPV6, SCTP = 6, 17, 58, 132
WITH_PORTS = frozenset({TCP, UDP, SCTP})

_LOW64 = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Address:
    """An IPv6 address in halves."""

    upper: int
    lower: int

    @classmethod
    def parse(cls, raw: bytes) -> Address:
        value = int.from_bytes(raw, "big")
        return cls(value >> 64, value & _LOW64)

    def pack(self) -> bytes:
        return (self.upper << 64 | self.lower).to_bytes(16, "big")

    @property
    def id(self) -> StableId:
        return StableId(self.lower)

    @property
    def is_multicast(self) -> bool:
        return self.upper >> 56 == 0xFF

    @property
    def is_link_local(self) -> bool:
        return self.upper >> 54 == 0xFE80 >> 6

    @property
    def is_unspecified(self) -> bool:
        return self.upper == self.lower == 0

    def is_within(self, fleet: Fleet) -> bool:
        return self.upper == fleet.prefix_int


@dataclass(frozen=True, slots=True)
class Packet:
    """A packet that lines 2 and 3 let through.

    raw: from the IPv6 header on, with any padding. protocol: of the transport.
    transport: from its header to the end of the payload; empty in a later fragment.
    is_fragment: has a fragment header. is_later_fragment: one other than the first.
    identification: of the last fragment header; None without one.
    """

    raw: bytes
    source: Address
    destination: Address
    hop_limit: int
    protocol: int
    transport: bytes
    transport_offset: int
    extension_headers: int
    is_later_fragment: bool
    identification: int | None

    @property
    def is_fragment(self) -> bool:
        return self.identification is not None

    @property
    def icmp_type(self) -> int | None:
        """Return the ICMPv6 type, or None for another protocol or a later fragment."""
        if self.protocol != ICMPV6 or self.is_later_fragment:
            return None
        return self.transport[0]

    @property
    def icmp_code(self) -> int:
        """Return the ICMPv6 code, or 0 where there is none."""
        return 0 if self.icmp_type is None else self.transport[1]

    @property
    def ports(self) -> tuple[int, int]:
        """Return source and destination port; 0 for both where there are none."""
        return read_ports(self.protocol, self.transport)

    @property
    def tcp_flags(self) -> int:
        """Return the flags of a TCP header that is long enough to have them, else 0."""
        is_there = self.protocol == TCP and len(self.transport) > TCP_FLAGS_OFFSET
        return self.transport[TCP_FLAGS_OFFSET] if is_there else 0

    @property
    def is_icmp_error(self) -> bool:
        return self.icmp_type is not None and self.icmp_type < 128

    def readdress(self, source_upper: int, destination_upper: int) -> bytes:
        """Return the packet with other upper halves and nothing else changed."""
        source = Address(source_upper, self.source.lower).pack()
        destination = Address(destination_upper, self.destination.lower).pack()
        return self.raw[:8] + source + destination + self.raw[IPV6_HEADER_BYTES:]


def parse_packet(raw: bytes) -> Packet:
    """Return the packet; raises Dropped as lines 2 and 3 say."""
    # 2. The fixed header.
    if len(raw) < IPV6_HEADER_BYTES or raw[0] >> 4 != 6:
        raise Dropped(Verdict.DROP_MALFORMED)
    payload_bytes = int.from_bytes(raw[4:6], "big")
    if not 0 < payload_bytes <= len(raw) - IPV6_HEADER_BYTES:
        raise Dropped(Verdict.DROP_MALFORMED)

    # 3. Extension headers. Padding beyond the payload is not part of any header.
    rest = raw[IPV6_HEADER_BYTES : IPV6_HEADER_BYTES + payload_bytes]
    protocol, walked = raw[6], 0
    is_later_fragment, identification = False, None
    while protocol in (HOP_BY_HOP, DESTINATION_OPTIONS, FRAGMENT, ROUTING):
        if protocol == ROUTING or (protocol == HOP_BY_HOP and walked > 0):
            raise Dropped(Verdict.DROP_EXTENSION_HEADER)
        if walked == EXTENSION_HEADERS_MAX:
            raise Dropped(Verdict.DROP_EXTENSION_HEADER)
        header_bytes = _extension_header_bytes(protocol, rest)
        if protocol == FRAGMENT:
            identification = int.from_bytes(rest[4:8], "big")
            is_later_fragment = int.from_bytes(rest[2:4], "big") >> 3 > 0
        protocol, rest = rest[0], rest[header_bytes:]
        walked += 1
        if is_later_fragment:
            break

    # 3. The transport header.
    least = 4 if protocol in WITH_PORTS else 8 if protocol == ICMPV6 else 0
    if not is_later_fragment and len(rest) < least:
        raise Dropped(Verdict.DROP_MALFORMED)
    return Packet(
        raw=raw,
        source=Address.parse(raw[8:24]),
        destination=Address.parse(raw[24:40]),
        hop_limit=raw[7],
        protocol=protocol,
        transport=b"" if is_later_fragment else rest,
        transport_offset=IPV6_HEADER_BYTES + payload_bytes - len(rest),
        extension_headers=walked,
        is_later_fragment=is_later_fragment,
        identification=identification,
    )


def read_ports(protocol: int, transport: bytes) -> tuple[int, int]:
    """Return the ports that a transport header begins with; 0 for both where there are none."""
    if protocol not in WITH_PORTS or len(transport) < 4:
        return 0, 0
    return int.from_bytes(transport[0:2], "big"), int.from_bytes(transport[2:4], "big")


def _extension_header_bytes(protocol: int, rest: bytes) -> int:
    if len(rest) < 8:
        raise Dropped(Verdict.DROP_MALFORMED)
    size = 8 if protocol == FRAGMENT else 8 * (rest[1] + 1)
    if len(rest) < size:
        raise Dropped(Verdict.DROP_MALFORMED)
    return size
