"""What is told of a packet through the ring buffer: the last paragraphs of "Access"."""

from __future__ import annotations

from dataclasses import dataclass

from netagent.dataplane.abi import Verdict
from netagent.dataplane.abi_flows import EventKind, EventRow, Program
from oracle.answers import ETHERTYPE_IPV6
from oracle.flows import ECHO_REPLY, ECHO_REQUEST
from oracle.packet import Packet, parse_packet
from oracle.policies import Answer
from oracle.programs import ETHERNET_BYTES
from oracle.world import Arrival, Dropped, Outcome

_NOT_REPORTED = (None, Verdict.DROP_LINK_LOCAL, Verdict.DROP_NOT_IPV6)
_UNREADABLE = (Verdict.DROP_MALFORMED, Verdict.DROP_EXTENSION_HEADER)


@dataclass(frozen=True, slots=True)
class About:
    """What an event says of the packet itself. Addresses are those that stood in it."""

    source: bytes
    destination: bytes
    ports: tuple[int, int]
    protocol: int
    icmp: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Report:
    """An event but for its time. about: None when lines 1 to 3 leave open what it says there.

    policy: network, version, direction, rule, audited rule and whether there is one.
    """

    kind: EventKind
    verdict: Verdict
    program: Program
    bytes: int
    policy: tuple[int, int, int, int, int, bool]
    about: About | None


def reports_of(program: str, arrival: Arrival, outcome: Outcome) -> list[Report]:
    """Return what is told of a packet that arrived, in order."""
    verdict = outcome.verdict
    if verdict in _NOT_REPORTED or verdict is None:
        return []
    answers = outcome.effects.answers
    if verdict.is_drop:
        told = [(EventKind.DROP, answers[-1] if answers else None)]
    else:
        told = [(EventKind.AUDIT, one) for one in answers if one.audit_rule is not None]
        if outcome.effects.is_new_flow:
            told.append((EventKind.FLOW, answers[0] if answers else None))
    about = None if verdict in _UNREADABLE else _about(program, arrival)
    number = Program[program.upper()]
    return [
        Report(kind, verdict, number, len(arrival.data), _policy(answer), about)
        for kind, answer in told
    ]


def report_of(event: EventRow) -> Report:
    """Return what an event says."""
    about = About(
        event.source_upper.to_bytes(8, "big") + event.source.to_bytes(8, "big"),
        event.destination_upper.to_bytes(8, "big") + event.destination.to_bytes(8, "big"),
        (event.source_port, event.destination_port),
        event.protocol,
        (event.icmp_type, event.icmp_code),
    )
    rules = event.rule, event.audit_rule, event.is_audited
    policy = event.network, event.version, event.direction, *rules
    return Report(event.kind, event.verdict, event.program, event.bytes, policy, about)


def _policy(answer: Answer | None) -> tuple[int, int, int, int, int, bool]:
    if answer is None:
        return 0, 0, 0, 0, 0, False
    is_audited = answer.audit_rule is not None
    whose = answer.network, answer.version, answer.direction.value
    return *whose, answer.rule, answer.audit_rule or 0, is_audited


def _about(program: str, arrival: Arrival) -> About | None:
    data = arrival.data
    if program != "from_mesh":
        if data[12:14] != ETHERTYPE_IPV6:
            return None
        data = data[ETHERNET_BYTES:]
    try:
        packet = parse_packet(data)
    except Dropped:
        return None
    icmp = packet.icmp_type or 0, packet.icmp_code
    addresses = packet.source.pack(), packet.destination.pack()
    return About(*addresses, _ports(packet), packet.protocol, icmp)


def _ports(packet: Packet) -> tuple[int, int]:
    if packet.icmp_type == ECHO_REQUEST:
        return int.from_bytes(packet.transport[4:6], "big"), 0
    if packet.icmp_type == ECHO_REPLY:
        return 0, int.from_bytes(packet.transport[4:6], "big")
    return packet.ports
