"""Flows, fragments and events as the BPF programs keep them; mirrors bpf/lib/abi.h.

Pure. Ids, addresses and ports stand in network byte order in the maps, all else in host order.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum, IntFlag

from netagent.dataplane.abi import Verdict
from netagent.model.addresses import StableId

_U64 = (1 << 64) - 1

EVENT_BYTES = 72


class FlowFlag(IntFlag):
    """`enum flow_flags`."""

    FROM_HIGH = 1
    ANSWERED = 2
    ASKED_EGRESS = 4
    ASKED_INGRESS = 8
    FIN_LOW = 16
    FIN_HIGH = 32
    RESET = 64


@dataclass(frozen=True, slots=True)
class FlowRow:
    """`struct flow`, 32 bytes: the key of both directions.

    low, high: ids; of an outside peer `high` is the lower and `outside` the upper half of its
    address. Ports in host order; ICMPv6 echo: the identifier on the side that asks, 0 on the other.
    """

    low: int
    high: int
    outside: int
    low_port: int
    high_port: int
    protocol: int
    is_outside: bool = False


@dataclass(frozen=True, slots=True)
class FlowStateRow:
    """`struct flow_state`, 32 bytes.

    seen_ns: CLOCK_MONOTONIC; may be negative on a machine that has just booted.
    egress_*, ingress_*: indices in rule_counters, 0 for none.
    """

    seen_ns: int
    generation: int
    flags: FlowFlag
    egress_rule: int = 0
    egress_audit: int = 0
    ingress_rule: int = 0
    ingress_audit: int = 0


@dataclass(frozen=True, slots=True)
class FragmentRow:
    """`struct fragment`, 32 bytes. outside: upper half of an outside peer's address, or 0."""

    source: int
    destination: int
    outside: int
    identification: int
    is_outside: bool = False


@dataclass(frozen=True, slots=True)
class FragmentStateRow:
    """`struct fragment_state`, 24 bytes; fields as in FlowStateRow."""

    seen_ns: int
    generation: int
    egress_rule: int = 0
    ingress_rule: int = 0


class EventKind(IntEnum):
    """`enum event_kind`."""

    DROP = 1
    AUDIT = 2
    FLOW = 3


class Program(IntEnum):
    """`enum program`."""

    FROM_MACHINE = 1
    FROM_MESH = 2
    FROM_HOST = 3
    TO_MACHINE = 4


@dataclass(frozen=True, slots=True)
class EventRow:
    """`struct event`, 72 bytes.

    time_ns: CLOCK_BOOTTIME. *_upper: as in the packet, so on the mesh a locator. Ports in host
    order. direction, network, version, rule, audit_rule: of the policy that spoke; network 0: none.
    """

    time_ns: int
    source_upper: int
    source: StableId
    destination_upper: int
    destination: StableId
    bytes: int
    network: int
    version: int
    rule: int
    audit_rule: int
    source_port: int
    destination_port: int
    kind: EventKind
    verdict: Verdict
    program: Program
    direction: int
    protocol: int
    icmp_type: int
    icmp_code: int
    is_audited: bool


@dataclass(frozen=True, slots=True)
class EventLosses:
    """`struct event_bucket`, summed over processors: what became of events."""

    sent: int
    suppressed: int
    lost: int


def pack_flow(row: FlowRow) -> bytes:
    """Return `struct flow`."""
    return struct.pack(
        ">QQQHHBB2x",
        row.low,
        row.high,
        row.outside,
        row.low_port,
        row.high_port,
        row.protocol,
        row.is_outside,
    )


def unpack_flow(raw: bytes) -> FlowRow:
    """Return the row of a `struct flow`."""
    low, high, outside, *rest = struct.unpack(">QQQHHBB2x", raw)
    low_port, high_port, protocol, is_outside = rest
    return FlowRow(low, high, outside, low_port, high_port, protocol, bool(is_outside))


def pack_flow_state(row: FlowStateRow) -> bytes:
    """Return `struct flow_state`."""
    rules = row.egress_rule, row.egress_audit, row.ingress_rule, row.ingress_audit
    return struct.pack("=QII4I", row.seen_ns & _U64, row.generation, row.flags, *rules)


def unpack_flow_state(raw: bytes) -> FlowStateRow:
    """Return the row of a `struct flow_state`."""
    seen_ns, generation, flags, *rules = struct.unpack("=qII4I", raw)
    return FlowStateRow(seen_ns, generation, FlowFlag(flags), *rules)


def pack_fragment(row: FragmentRow) -> bytes:
    """Return `struct fragment`."""
    upper = struct.pack(">QQQI", row.source, row.destination, row.outside, row.identification)
    return upper + struct.pack("=I", row.is_outside)


def unpack_fragment(raw: bytes) -> FragmentRow:
    """Return the row of a `struct fragment`."""
    source, destination, outside, identification = struct.unpack_from(">QQQI", raw)
    (is_outside,) = struct.unpack_from("=I", raw, 28)
    return FragmentRow(source, destination, outside, identification, bool(is_outside))


def pack_fragment_state(row: FragmentStateRow) -> bytes:
    """Return `struct fragment_state`."""
    rules = row.egress_rule, row.ingress_rule
    return struct.pack("=QIII4x", row.seen_ns & _U64, row.generation, *rules)


def unpack_fragment_state(raw: bytes) -> FragmentStateRow:
    """Return the row of a `struct fragment_state`."""
    return FragmentStateRow(*struct.unpack("=qIII4x", raw))


def unpack_event(raw: bytes) -> EventRow:
    """Return the row of a `struct event`; ValueError when it is none that this release knows."""
    if len(raw) != EVENT_BYTES:
        raise ValueError(f"an event has {EVENT_BYTES} bytes, not {len(raw)}")
    (time_ns,) = struct.unpack_from("=Q", raw)
    addresses = struct.unpack_from(">4Q", raw, 8)
    numbers = struct.unpack_from("=5I", raw, 40)
    ports = struct.unpack_from(">2H", raw, 60)
    kind, verdict, program, direction, protocol, icmp_type, icmp_code, audited = raw[64:72]
    source_upper, source, destination_upper, destination = addresses
    length, network, version, rule, audit_rule = numbers
    source_port, destination_port = ports
    return EventRow(
        time_ns=time_ns,
        source_upper=source_upper,
        source=StableId(source),
        destination_upper=destination_upper,
        destination=StableId(destination),
        bytes=length,
        network=network,
        version=version,
        rule=rule,
        audit_rule=audit_rule,
        source_port=source_port,
        destination_port=destination_port,
        kind=EventKind(kind),
        verdict=Verdict(verdict),
        program=Program(program),
        direction=direction,
        protocol=protocol,
        icmp_type=icmp_type,
        icmp_code=icmp_code,
        is_audited=bool(audited),
    )
