"""Line 3 of access: the packet that an ICMPv6 error quotes."""

from __future__ import annotations

from dataclasses import dataclass

from netagent.model.addresses import Fleet
from oracle.flows import ECHO_REPLY, ECHO_REQUEST
from oracle.packet import ICMPV6, IPV6_HEADER_BYTES, Address, Packet
from oracle.policies import End

ICMP_HEADER_BYTES = 8
TRANSPORT_BYTES_MIN = 8


@dataclass(frozen=True, slots=True)
class Quote:
    """A quoted packet. transport: at least 8 bytes. Its ends are not here unless said so."""

    source: End
    destination: End
    protocol: int
    transport: bytes

    def is_from(self, end: End) -> bool:
        return (self.source.lower, self.source.outside) == (end.lower, end.outside)

    def is_to(self, end: End) -> bool:
        return (self.destination.lower, self.destination.outside) == (end.lower, end.outside)


def read_quote(packet: Packet, fleet: Fleet) -> Quote | None:
    """Return what an error quotes, or None when it is too short for ports, or nobody's flow."""
    quoted = packet.transport[ICMP_HEADER_BYTES:]
    if len(quoted) < IPV6_HEADER_BYTES + TRANSPORT_BYTES_MIN or quoted[0] >> 4 != 6:
        return None
    protocol, transport = quoted[6], quoted[IPV6_HEADER_BYTES:]
    if protocol == ICMPV6 and transport[0] not in (ECHO_REQUEST, ECHO_REPLY):
        return None
    ends = []
    for raw in (quoted[8:24], quoted[24:40]):
        address = Address.parse(raw)
        ends.append(End(address.lower, None if address.is_within(fleet) else address.upper))
    if all(end.outside is not None for end in ends):
        return None
    return Quote(*ends, protocol, transport)
