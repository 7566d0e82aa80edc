"""Reads all that a kernel holds of policies. Changes nothing, so any thread may do it at any time.

What is written meanwhile is seen in part: a difference found this way is a suspicion.
"""

from __future__ import annotations

from ipaddress import IPv6Network

from netagent.dataplane.abi_policy import (
    INTERVAL,
    PAIR,
    PREFIX,
    PREFIX_FIXED_BITS,
    PolicyRevision,
)
from netagent.dataplane.policy_tables import PolicyTables
from netagent.model.fleet import Identity
from netagent.policy.entries import ClassId, Direction, Interval, PolicyClass
from netagent.policy.language import Verdict
from netagent.reconcile.held_policies import (
    SLOTS,
    ActivePolicy,
    HeldNetwork,
    HeldPolicies,
    PlacedClass,
    SlotContent,
)
from netagent.reconcile.intervals import IntervalRange

_PORT_MAX = 0xFFFF
_SlotKey = tuple[int, int]
"""Network and slot."""
_NOWHERE = IntervalRange(0, 0)
"""What a row that points beyond the array is taken for: its class is then damaged."""
_Pairs = dict[Direction, dict[Identity, dict[Identity, ClassId]]]


def read_policies(tables: PolicyTables) -> HeldPolicies:
    """Return everything that the maps of policies hold.

    Rows that no release writes (a slot or direction that does not exist) are not seen.
    """
    # A revision whose turn has not come yet was written by somebody who went on to raise the
    # generation, or whose successor does so before it writes anything.
    active = {number: row.new for number, row in tables.network.items().items()}
    rules: dict[int, dict[int, int]] = {}
    for row, index in tables.rule_index.items().items():
        rules.setdefault(row.network, {})[row.number] = index
    pairs = _read_pairs(tables)
    prefixes = _read_prefixes(tables)
    numbers = {*active, *rules, *(one for one, _ in pairs), *(one for one, _ in prefixes)}
    networks = {}
    for number in sorted(numbers):
        slots = [
            SlotContent(
                {one: pairs.get((number, slot), {}).get(one, {}) for one in Direction},
                prefixes.get((number, slot), {}),
            )
            for slot in range(SLOTS)
        ]
        networks[number] = _network(active.get(number), slots, rules.get(number, {}))
    return HeldPolicies(networks, _read_classes(tables))


def _network(
    row: PolicyRevision | None, slots: list[SlotContent], rules: dict[int, int]
) -> HeldNetwork:
    first, second = slots
    if row is None or row.slot >= SLOTS:
        return HeldNetwork(None, (first, second), frozenset(), rules)
    defaults = {one: ClassId(row.defaults[one.value]) for one in Direction}
    used = set(defaults.values())
    for by_source in slots[row.slot].pairs.values():
        for by_destination in by_source.values():
            used.update(by_destination.values())
    active = ActivePolicy(row.slot, row.version, defaults)
    return HeldNetwork(active, (first, second), frozenset(used), rules)


def _read_pairs(tables: PolicyTables) -> dict[_SlotKey, _Pairs]:
    found: dict[_SlotKey, _Pairs] = {}
    rows: dict[tuple[int, int, int, int], dict[Identity, ClassId]] = {}
    directions = {one.value: one for one in Direction}
    for keys, values in tables.pair.batches():
        classes = memoryview(values).cast("Q")
        for key, class_id in zip(PAIR.iter_unpack(keys), classes, strict=True):
            network, source, destination, direction, slot = key
            row = rows.get((network, slot, direction, source))
            if row is None:
                row = {}
                if direction in directions and slot < SLOTS:
                    rows[network, slot, direction, source] = row
                    by_direction = found.setdefault((network, slot), {})
                    by_source = by_direction.setdefault(directions[direction], {})
                    by_source[source] = row
            row[destination] = ClassId(class_id)
    return found


def _read_prefixes(tables: PolicyTables) -> dict[_SlotKey, dict[IPv6Network, Identity]]:
    found: dict[_SlotKey, dict[IPv6Network, Identity]] = {}
    for keys, values in tables.prefix.batches():
        identities = memoryview(values).cast("I")
        for key, identity in zip(PREFIX.iter_unpack(keys), identities, strict=True):
            bits, network, slot, address = key
            if bits >= PREFIX_FIXED_BITS and slot < SLOTS:
                prefix = IPv6Network((address, bits - PREFIX_FIXED_BITS))
                found.setdefault((network, slot), {})[prefix] = Identity(identity)
    return found


def _read_classes(tables: PolicyTables) -> dict[ClassId, PlacedClass]:
    ranges: dict[ClassId, dict[int, IntervalRange]] = {}
    end = 0
    for row, range_ in tables.policy_class.items().items():
        if range_.first + range_.count > tables.interval.capacity:
            range_ = _NOWHERE
        ranges.setdefault(ClassId(row.class_id), {})[row.protocol] = range_
        end = max(end, range_.first + range_.count)
    raw = tables.interval.read(0, end)
    known: dict[bytes, tuple[Interval, ...]] = {}
    classes = {}
    for class_id, by_protocol in ranges.items():
        protocols = {}
        for protocol, range_ in by_protocol.items():
            first, last = range_.first, range_.first + range_.count
            part = raw[first * INTERVAL.size : last * INTERVAL.size]
            # Many classes say the same about a protocol.
            if part not in known:
                known[part] = _intervals(part)
            protocols[protocol] = known[part]
        classes[class_id] = PlacedClass(PolicyClass(class_id, protocols), by_protocol)
    return classes


def _intervals(part: bytes) -> tuple[Interval, ...]:
    intervals: list[Interval] = []
    last = _PORT_MAX
    for row in reversed(list(INTERVAL.iter_unpack(part))):
        first, is_allowed, is_audited, rule, audit_rule = row
        verdict = Verdict.ALLOW if is_allowed else Verdict.DENY
        audited = audit_rule if is_audited else None
        intervals.append(Interval(first, last, verdict, rule, audited))
        last = first - 1
    return tuple(reversed(intervals))
