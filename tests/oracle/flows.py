"""Line 4 of access: the one entry that both directions of a flow share, and when it is known."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from operator import or_

from netagent.dataplane.abi_flows import FlowFlag, FlowRow, FlowStateRow
from oracle.packet import ICMPV6, TCP, Packet, read_ports
from oracle.policies import End

ECHO_REQUEST, ECHO_REPLY = 128, 129
FIN, SYN, RST, ACK = 0x01, 0x02, 0x04, 0x10

SECOND_NS = 1_000_000_000
TCP_TIMEOUT_NS = 7200 * SECOND_NS
OTHER_TIMEOUT_NS = 120 * SECOND_NS
UNANSWERED_TIMEOUT_NS = 60 * SECOND_NS
CLOSED_TIMEOUT_NS = 30 * SECOND_NS
FRAGMENT_TIMEOUT_NS = 30 * SECOND_NS

BOTH_FIN = FlowFlag.FIN_LOW | FlowFlag.FIN_HIGH
ASKED = FlowFlag.ASKED_EGRESS | FlowFlag.ASKED_INGRESS
NO_FLAGS = FlowFlag(0)


@dataclass(frozen=True, slots=True)
class Talk:
    """Who talks to whom as one packet says it; flow: the entry it belongs to.

    is_from_high: its source is the entry's `high` end.
    is_reply: it is an echo reply, which no flow begins with; None where nothing tells.
    """

    flow: FlowRow
    is_from_high: bool
    is_reply: bool | None


def talk_of(source: End, destination: End, protocol: int, transport: bytes) -> Talk | None:
    """Return what a packet says of its flow; None for ICMPv6 that belongs to none."""
    source_port, destination_port = read_ports(protocol, transport)
    is_reply = None
    if protocol == ICMPV6:
        identifier = int.from_bytes(transport[4:6], "big")
        if transport[0] == ECHO_REQUEST:
            source_port, is_reply = identifier, False
        elif transport[0] == ECHO_REPLY:
            destination_port, is_reply = identifier, True
        else:
            return None
    near, far = (source.lower, source_port), (destination.lower, destination_port)
    if source.outside is None and destination.outside is None:
        is_from_high = near > far
    else:
        is_from_high = source.outside is not None
    low, high = (far, near) if is_from_high else (near, far)
    outside = source.outside if source.outside is not None else destination.outside
    is_outside = outside is not None
    flow = FlowRow(low[0], high[0], outside or 0, low[1], high[1], protocol, is_outside)
    return Talk(flow, is_from_high, is_reply)


def is_alive(flow: FlowRow, state: FlowStateRow, now_ns: int) -> bool:
    """Whether an entry's last packet is not longer ago than its time-out."""
    timeouts = [TCP_TIMEOUT_NS if flow.protocol == TCP else OTHER_TIMEOUT_NS]
    if not state.flags & FlowFlag.ANSWERED:
        timeouts.append(UNANSWERED_TIMEOUT_NS)
    if state.flags & FlowFlag.RESET or state.flags & BOTH_FIN == BOTH_FIN:
        timeouts.append(CLOSED_TIMEOUT_NS)
    return now_ns - state.seen_ns <= min(timeouts)


def is_of(talk: Talk, state: FlowStateRow) -> bool:
    """Whether a packet can be of the flow: who is asked with an echo does not ask in it."""
    return talk.is_reply is None or talk.is_reply == goes_back(talk, state)


def goes_back(talk: Talk, state: FlowStateRow) -> bool:
    """Whether a packet goes to the end that began."""
    return talk.is_from_high != bool(state.flags & FlowFlag.FROM_HIGH)


def begins_anew(packet: Packet) -> bool:
    return bool(packet.tcp_flags & SYN) and not packet.tcp_flags & ACK


def flags_of(packet: Packet, talk: Talk) -> FlowFlag:
    """Return what one packet adds to its flow's entry."""
    flags = []
    if packet.tcp_flags & FIN:
        flags.append(FlowFlag.FIN_HIGH if talk.is_from_high else FlowFlag.FIN_LOW)
    if packet.tcp_flags & RST:
        flags.append(FlowFlag.RESET)
    return reduce(or_, flags, NO_FLAGS)
