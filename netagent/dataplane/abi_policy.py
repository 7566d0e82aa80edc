"""Compiled policy as it stands in the BPF maps; mirrors bpf/lib/abi.h.

Pure. All in host order, except for the bytes of an address.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv6Network

from netagent.dataplane.abi import Counter
from netagent.reconcile.held_policies import SLOTS
from netagent.reconcile.intervals import IntervalRange

__all__ = ["SLOTS", "IntervalRange"]

PAIR = struct.Struct("=IIIBB2x")
"""`struct policy_pair`: network, source, destination, direction, slot."""

PREFIX = struct.Struct("=III16s")
"""`struct policy_prefix`: bits, network, slot, address."""

CLASS = struct.Struct("=QI4x")
"""`struct policy_class`: class, protocol."""

INTERVAL = struct.Struct("=HBBII")
"""`struct policy_interval`: first port, is allowed, is audited, rule, audited rule."""

PREFIX_FIXED_BITS = 64
"""Bits of `struct policy_prefix` before the address, network and slot: they match as a whole."""


GENERATIONS = 1 << 32
"""Generations wrap here."""


@dataclass(frozen=True, slots=True)
class PolicyRevision:
    """One revision within `struct policy_network`. defaults: class ids by direction, three."""

    slot: int
    version: int
    defaults: tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class PolicyNetworkRow:
    """`struct policy_network`, 72 bytes. turn: the generation from which `new` is in force."""

    turn: int
    old: PolicyRevision
    new: PolicyRevision

    def is_turned(self, generation: int) -> bool:
        """Whether `new` is in force under a generation."""
        return (generation - self.turn) % GENERATIONS < GENERATIONS // 2

    def in_force(self, generation: int) -> PolicyRevision:
        """Return the revision that programs ask under a generation."""
        return self.new if self.is_turned(generation) else self.old


@dataclass(frozen=True, slots=True)
class PolicyPairRow:
    """`struct policy_pair`, 16 bytes: a key. direction: 0 inside, 1 egress, 2 ingress."""

    network: int
    source: int
    destination: int
    direction: int
    slot: int


@dataclass(frozen=True, slots=True)
class PolicyPrefixRow:
    """`struct policy_prefix`, 28 bytes: a key."""

    network: int
    slot: int
    prefix: IPv6Network


@dataclass(frozen=True, slots=True)
class PolicyClassRow:
    """`struct policy_class`, 16 bytes: a key. protocol 0: all that the class does not list."""

    class_id: int
    protocol: int


@dataclass(frozen=True, slots=True)
class PolicyIntervalRow:
    """`struct policy_interval`, 12 bytes. rule 0: the default."""

    first_port: int
    is_allowed: bool
    rule: int
    audit_rule: int | None


@dataclass(frozen=True, slots=True)
class RuleRow:
    """`struct rule`, 8 bytes: a key. number 0: the default."""

    network: int
    number: int


@dataclass(frozen=True, slots=True)
class RuleCounter:
    """`struct rule_counter`, summed over processors."""

    allowed: Counter
    denied: Counter
    audited: Counter


def pack_number(number: int) -> bytes:
    """Return a number of 32 bits."""
    return struct.pack("=I", number)


def unpack_number(raw: bytes) -> int:
    """Return a number of 32 bits."""
    return int(struct.unpack("=I", raw)[0])


def pack_class_id(class_id: int) -> bytes:
    """Return a class id, 8 bytes."""
    return struct.pack("=Q", class_id)


def unpack_class_id(raw: bytes) -> int:
    """Return a class id."""
    return int(struct.unpack("=Q", raw)[0])


def pack_state(generation: int) -> bytes:
    """Return `struct policy_state`, 8 bytes."""
    return struct.pack("=I4x", generation)


def unpack_state(raw: bytes) -> int:
    """Return the generation of a `struct policy_state`."""
    return int(struct.unpack("=I4x", raw)[0])


def pack_policy_network(row: PolicyNetworkRow) -> bytes:
    """Return `struct policy_network`."""
    old, new = row.old, row.new
    return struct.pack(
        "=I4xII3QII3Q",
        row.turn,
        *(old.slot, old.version, *old.defaults),
        *(new.slot, new.version, *new.defaults),
    )


def unpack_policy_network(raw: bytes) -> PolicyNetworkRow:
    """Return the row of a `struct policy_network`."""
    turn, *fields = struct.unpack("=I4xII3QII3Q", raw)
    old, new = (
        PolicyRevision(slot, version, (inside, egress, ingress))
        for slot, version, inside, egress, ingress in (fields[:5], fields[5:])
    )
    return PolicyNetworkRow(turn, old, new)


def pack_policy_pair(row: PolicyPairRow) -> bytes:
    """Return `struct policy_pair`."""
    identities = row.network, row.source, row.destination
    return PAIR.pack(*identities, row.direction, row.slot)


def unpack_policy_pair(raw: bytes) -> PolicyPairRow:
    """Return the row of a `struct policy_pair`."""
    return PolicyPairRow(*PAIR.unpack(raw))


def pack_policy_prefix(row: PolicyPrefixRow) -> bytes:
    """Return `struct policy_prefix`."""
    bits = PREFIX_FIXED_BITS + row.prefix.prefixlen
    return PREFIX.pack(bits, row.network, row.slot, row.prefix.network_address.packed)


def unpack_policy_prefix(raw: bytes) -> PolicyPrefixRow:
    """Return the row of a `struct policy_prefix`."""
    bits, network, slot, address = PREFIX.unpack(raw)
    return PolicyPrefixRow(network, slot, IPv6Network((address, bits - PREFIX_FIXED_BITS)))


def pack_policy_class(row: PolicyClassRow) -> bytes:
    """Return `struct policy_class`."""
    return CLASS.pack(row.class_id, row.protocol)


def unpack_policy_class(raw: bytes) -> PolicyClassRow:
    """Return the row of a `struct policy_class`."""
    return PolicyClassRow(*CLASS.unpack(raw))


def pack_interval_range(row: IntervalRange) -> bytes:
    """Return `struct interval_range`."""
    return struct.pack("=II", row.first, row.count)


def unpack_interval_range(raw: bytes) -> IntervalRange:
    """Return the row of a `struct interval_range`."""
    return IntervalRange(*struct.unpack("=II", raw))


def pack_policy_interval(row: PolicyIntervalRow) -> bytes:
    """Return `struct policy_interval`."""
    is_audited = row.audit_rule is not None
    rules = row.rule, row.audit_rule or 0
    return INTERVAL.pack(row.first_port, row.is_allowed, is_audited, *rules)


def unpack_policy_interval(raw: bytes) -> PolicyIntervalRow:
    """Return the row of a `struct policy_interval`."""
    first_port, is_allowed, is_audited, rule, audit_rule = INTERVAL.unpack(raw)
    return PolicyIntervalRow(first_port, bool(is_allowed), rule, audit_rule if is_audited else None)


def pack_rule(row: RuleRow) -> bytes:
    """Return `struct rule`."""
    return struct.pack("=II", row.network, row.number)


def unpack_rule(raw: bytes) -> RuleRow:
    """Return the row of a `struct rule`."""
    return RuleRow(*struct.unpack("=II", raw))
