"""Writes single steps of a plan into the maps of policies, many rows with one call.

Knows nothing of their order: netagent.reconcile.policy_plan does.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv6Network

from netagent.dataplane import abi_policy
from netagent.dataplane.abi_policy import (
    GENERATIONS,
    INTERVAL,
    PAIR,
    PREFIX,
    PREFIX_FIXED_BITS,
    IntervalRange,
    PolicyClassRow,
    PolicyNetworkRow,
    PolicyRevision,
    RuleRow,
    unpack_state,
)
from netagent.dataplane.policy_tables import PolicyTables
from netagent.policy.delta import Pair
from netagent.policy.entries import Direction, Interval
from netagent.policy.language import Verdict
from netagent.reconcile.held_policies import (
    ActivePolicy,
    EndPolicy,
    PolicyOperation,
    RemoveClasses,
    RemovePairs,
    RemovePrefixes,
    RemoveRules,
    ResetCounters,
    SetClasses,
    SetIntervals,
    SetPairs,
    SetPrefixes,
    SetRules,
    TurnTo,
)


def write_policies(tables: PolicyTables, operation: PolicyOperation) -> int:
    """Carry out one operation; return how many rows it wrote.

    Every row is atomic, several together are not; DataplaneError when the kernel refuses one.
    """
    match operation:
        case RemoveClasses(rows=rows):
            tables.policy_class.delete(PolicyClassRow(*row) for row in rows)
            return len(rows)
        case SetIntervals(tables=placed):
            return _write_intervals(tables, placed)
        case SetClasses(rows=ranges):
            tables.policy_class.update(
                {PolicyClassRow(*row): range_ for row, range_ in ranges.items()}
            )
            return len(ranges)
        case RemovePairs(network=network, slot=slot, pairs=gone_pairs):
            tables.pair.remove(_pair_keys(network, slot, gone_pairs), len(gone_pairs))
            return len(gone_pairs)
        case SetPairs(network=network, slot=slot, pairs=pairs):
            values = b"".join(map(abi_policy.pack_class_id, pairs.values()))
            tables.pair.put(_pair_keys(network, slot, tuple(pairs)), values, len(pairs))
            return len(pairs)
        case RemovePrefixes(network=network, slot=slot, prefixes=gone_prefixes):
            keys = _prefix_keys(network, slot, gone_prefixes)
            tables.prefix.remove(keys, len(gone_prefixes))
            return len(gone_prefixes)
        case SetPrefixes(network=network, slot=slot, prefixes=prefixes):
            values = b"".join(map(abi_policy.pack_number, prefixes.values()))
            keys = _prefix_keys(network, slot, tuple(prefixes))
            tables.prefix.put(keys, values, len(prefixes))
            return len(prefixes)
        case ResetCounters(indices=indices):
            for index in indices:
                tables.rule_counters.reset(2 * index)
                tables.rule_counters.reset(2 * index + 1)
            return 0
        case SetRules(network=network, indices=by_number):
            tables.rule_index.update(
                {RuleRow(network, number): index for number, index in by_number.items()}
            )
            return len(by_number)
        case RemoveRules(network=network, numbers=numbers):
            tables.rule_index.delete(RuleRow(network, number) for number in numbers)
            return len(numbers)
        case TurnTo(network=network, active=active):
            tables.network.update({network: _turning_row(tables, network, active)})
            return 1
        case EndPolicy(network=network):
            tables.network.delete([network])
            return 1


def _write_intervals(
    tables: PolicyTables, placed: Sequence[tuple[IntervalRange, tuple[Interval, ...]]]
) -> int:
    """Write what adjoins at once. placed: ascending."""
    parts: list[bytes] = []
    start = end = placed[0][0].first
    for range_, intervals in placed:
        if range_.first != end:
            tables.interval.write(start, b"".join(parts))
            parts, start = [], range_.first
        parts += [_interval(one) for one in intervals]
        end = range_.first + range_.count
    tables.interval.write(start, b"".join(parts))
    return sum(range_.count for range_, _ in placed)


def _turning_row(tables: PolicyTables, network: int, active: ActivePolicy) -> PolicyNetworkRow:
    """Return the row that puts a revision in force when the generation rises; a first one now."""
    generation = unpack_state(tables.state.read(0, 1))
    before = tables.network.get(network)
    inside, egress, ingress = (active.defaults[one] for one in Direction)
    new = PolicyRevision(active.slot, active.version, (inside, egress, ingress))
    old = before.in_force(generation) if before is not None else new
    return PolicyNetworkRow((generation + 1) % GENERATIONS, old, new)


def _pair_keys(network: int, slot: int, pairs: Sequence[Pair]) -> bytes:
    pack = PAIR.pack
    return b"".join(
        [
            pack(network, source, destination, direction.value, slot)
            for direction, source, destination in pairs
        ]
    )


def _prefix_keys(network: int, slot: int, prefixes: Sequence[IPv6Network]) -> bytes:
    return b"".join(
        PREFIX.pack(PREFIX_FIXED_BITS + one.prefixlen, network, slot, one.network_address.packed)
        for one in prefixes
    )


def _interval(one: Interval) -> bytes:
    is_audited = one.audit_rule is not None
    is_allowed = one.verdict is Verdict.ALLOW
    return INTERVAL.pack(one.first, is_allowed, is_audited, one.rule, one.audit_rule or 0)
