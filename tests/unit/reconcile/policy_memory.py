"""Maps of policies in memory that carry out one operation after the other, as the kernel's do."""

from __future__ import annotations

from netagent.policy.entries import ClassId, Direction, Interval, PolicyClass
from netagent.reconcile.held_policies import (
    ActivePolicy,
    EndPolicy,
    HeldNetwork,
    HeldPolicies,
    PlacedClass,
    PolicyOperation,
    RemoveClasses,
    RemovePairs,
    RemovePrefixes,
    RemoveRules,
    ResetCounters,
    Room,
    SetClasses,
    SetIntervals,
    SetPairs,
    SetPrefixes,
    SetRules,
    SlotContent,
    TurnTo,
)
from netagent.reconcile.intervals import IntervalRange


class PolicyMemory:
    """What the maps hold. Refuses what must not happen to what is in force."""

    def __init__(self, room: Room) -> None:
        self.room = room
        self.active: dict[int, ActivePolicy] = {}
        self.pairs: dict = {}
        self.prefixes: dict = {}
        self.classes: dict[tuple[ClassId, int], IntervalRange] = {}
        self.intervals: dict[int, Interval] = {}
        self.rules: dict[tuple[int, int], int] = {}
        self.reset: set[int] = set()

    def carry_out(self, operation: PolicyOperation) -> None:
        match operation:
            case RemoveClasses(rows=rows):
                for row in rows:
                    del self.classes[row]
            case SetIntervals(tables=tables):
                for range_, intervals in tables:
                    self._write_intervals(range_, intervals)
            case SetClasses(rows=ranges):
                self.classes.update(ranges)
                assert len(self.classes) <= self.room.class_protocols
            case SetPairs(network=network, slot=slot, pairs=pairs):
                self._check_idle(network, slot)
                self.pairs.update({(network, slot, pair): one for pair, one in pairs.items()})
                assert len(self.pairs) <= self.room.pairs
            case RemovePairs(network=network, slot=slot, pairs=gone):
                self._check_idle(network, slot)
                for pair in gone:
                    del self.pairs[network, slot, pair]
            case SetPrefixes(network=network, slot=slot, prefixes=prefixes):
                self._check_idle(network, slot)
                rows = {(network, slot, prefix): one for prefix, one in prefixes.items()}
                self.prefixes.update(rows)
                assert len(self.prefixes) <= self.room.prefixes
            case RemovePrefixes(network=network, slot=slot, prefixes=gone):
                self._check_idle(network, slot)
                for prefix in gone:
                    del self.prefixes[network, slot, prefix]
            case ResetCounters(indices=indices):
                self.reset.update(indices)
            case SetRules(network=network, indices=indices):
                self.rules.update({(network, number): one for number, one in indices.items()})
                assert set(indices.values()) <= self.reset, "counters begin at 0"
                assert len(set(self.rules.values())) == len(self.rules), "each has its own"
                assert all(1 <= one <= self.room.rules for one in indices.values())
            case RemoveRules(network=network, numbers=numbers):
                for number in numbers:
                    self.reset.discard(self.rules.pop((network, number)))
            case TurnTo(network=network, active=active):
                self.active[network] = active
                assert len(self.active) <= self.room.networks
            case EndPolicy(network=network):
                del self.active[network]

    def _check_idle(self, network: int, slot: int) -> None:
        active = self.active.get(network)
        assert active is None or active.slot != slot, "a program is reading this slot"

    def _write_intervals(self, range_: IntervalRange, intervals: tuple[Interval, ...]) -> None:
        assert len(intervals) == range_.count
        places = set(range(range_.first, range_.first + range_.count))
        assert max(places) < self.room.intervals
        for used in self.classes.values():
            assert places.isdisjoint(range(used.first, used.first + used.count))
        self.intervals.update(zip(sorted(places), intervals, strict=True))

    def slot(self, network: int, slot: int) -> SlotContent:
        pairs: dict = {direction: {} for direction in Direction}
        for (owner, one, (direction, source, destination)), class_id in self.pairs.items():
            if (owner, one) == (network, slot):
                pairs[direction].setdefault(source, {})[destination] = class_id
        prefixes = {
            prefix: identity
            for (owner, one, prefix), identity in self.prefixes.items()
            if (owner, one) == (network, slot)
        }
        return SlotContent(pairs, prefixes)

    def policy_class(self, class_id: ClassId) -> PolicyClass:
        protocols = {
            protocol: tuple(
                self.intervals[at] for at in range(range_.first, range_.first + range_.count)
            )
            for (one, protocol), range_ in self.classes.items()
            if one == class_id
        }
        return PolicyClass(class_id, protocols)

    def classes_in_force(self, network: int) -> set[ClassId]:
        active = self.active[network]
        rows = self.slot(network, active.slot).pairs.values()
        found = {one for row in rows for cells in row.values() for one in cells.values()}
        return found | set(active.defaults.values())

    def observe(self) -> HeldPolicies:
        """Return what an agent finds that has just started."""
        owners = {key[0] for table in (self.pairs, self.prefixes, self.rules) for key in table}
        networks = {}
        for number in owners | self.active.keys():
            networks[number] = HeldNetwork(
                self.active.get(number),
                (self.slot(number, 0), self.slot(number, 1)),
                frozenset(self.classes_in_force(number) if number in self.active else ()),
                {rule: one for (owner, rule), one in self.rules.items() if owner == number},
            )
        ids = {class_id for class_id, _ in self.classes}
        classes = {
            class_id: PlacedClass(
                self.policy_class(class_id),
                {
                    protocol: range_
                    for (one, protocol), range_ in self.classes.items()
                    if one == class_id
                },
            )
            for class_id in ids
        }
        return HeldPolicies(networks, classes)
