"""Policies to compiled entries, from scratch or from what the last compilation left.

Theory. Let S(x) be the rules whose `from` matches identity x and D(y) those whose `to` matches y,
as bit masks over rule numbers. The pair (x, y) is decided by S(x) & D(y) alone, so a change of one
rule or one identity touches exactly the pairs where that product changes, and pairs with the same
product share their class. A full compilation is the same procedure with every pair touched.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from netagent.model.fleet import Identity
from netagent.policy.classes import ClassBuilder
from netagent.policy.entries import STRANGER, ClassId, CompiledPolicy, Direction
from netagent.policy.fleet import FleetSnapshot
from netagent.policy.language import Policy, Rule, Verdict
from netagent.policy.pairs import PairTable
from netagent.policy.resolve import Universe, bits_of, is_universal, make_universe


@dataclass(frozen=True, slots=True)
class Compilation:
    """A compiled policy, and what makes the next compilation cheap.

    entries: the result; all else is private to this module and may be dropped at any time.
    """

    entries: CompiledPolicy
    policy: Policy
    universe: Universe
    builder: ClassBuilder
    masks: Mapping[int, tuple[int, int]]
    """Rule number to (who is matched by `from`, who by `to`)."""
    sources: tuple[int, ...]
    """Position to S(x)."""
    destinations: tuple[int, ...]
    """Position to D(y)."""
    uses: Mapping[ClassId, int]


def assign_numbers(policy: Policy, kept: Mapping[str, int]) -> dict[str, int]:
    """Return a number from 1 for each rule's name: the kept one, or the lowest that is free.

    kept: the numbers of the revision before, whose rules may have gone: their numbers are not free
    yet, since counters and events still use them.
    """
    taken = set(kept.values())
    numbers: dict[str, int] = {}
    free = 1
    for rule in policy.rules:
        if rule.name in kept:
            numbers[rule.name] = kept[rule.name]
            continue
        while free in taken:
            free += 1
        numbers[rule.name] = free
        free += 1
    return numbers


def compile_policy(
    policy: Policy,
    fleet: FleetSnapshot,
    version: int = 0,
    previous: Compilation | None = None,
    numbers: Mapping[str, int] | None = None,
) -> Compilation:
    """Return the compiled form of `policy` over `fleet`.

    policy: free of problems (`check_references`). version: of the policy, for messages.
    previous: any earlier compilation of the same network; it saves work and changes nothing in the
    result, except that rules keep their numbers.
    numbers: rule numbers to keep, by name, when there is no previous one (after a restart).
    Raises PolicyError when a machine that a rule names shares its identity.
    """
    if previous is not None and previous.policy.network != policy.network:
        previous = None
    if numbers is None:
        rules = previous.entries.rules if previous is not None else {}
        numbers = {name: number for number, name in rules.items()}
    numbers = assign_numbers(policy, numbers)
    names = {number: name for name, number in sorted(numbers.items(), key=lambda one: one[1])}
    universe = make_universe(policy, fleet, previous.universe if previous is not None else None)
    change = _compare(policy, numbers, names, previous)
    builder = _make_builder(policy, numbers, previous, change)
    masks = _resolve_rules(policy, numbers, universe, previous, change)
    width = max(universe.identities) + 1
    step = _Step(policy, universe, builder, masks, width)
    table = step.run(previous, change)
    used = table.used_classes()
    entries = CompiledPolicy(
        network=policy.network,
        number=fleet.networks.get(policy.network, 0),
        version=version,
        pairs=table.rows,
        defaults=table.defaults,
        classes={class_id: builder.classes[class_id] for class_id in used},
        prefixes=universe.prefixes,
        rules=names,
    )
    return Compilation(
        entries,
        policy,
        universe,
        builder,
        masks,
        tuple(step.sources),
        tuple(step.destinations),
        table.uses,
    )


@dataclass(frozen=True, slots=True)
class _Change:
    """How a policy differs from the one compiled before.

    is_fresh: in a way that leaves nothing of use (first time, other order, mode or default).
    stale: mask of the numbers of rules that are new, gone or different.
    """

    is_fresh: bool
    stale: int = 0

    def is_stale(self, number: int) -> bool:
        """Whether a rule is among those that changed."""
        return self.is_fresh or bool(self.stale >> number & 1)


def _compare(
    policy: Policy,
    numbers: Mapping[str, int],
    names: Mapping[int, str],
    previous: Compilation | None,
) -> _Change:
    if previous is None:
        return _Change(is_fresh=True)
    before = previous.policy
    old_numbers = {name: number for number, name in previous.entries.rules.items()}
    is_renumbered = any(numbers.get(name, one) != one for name, one in old_numbers.items())
    if (policy.mode, policy.default) != (before.mode, before.default) or is_renumbered:
        return _Change(is_fresh=True)
    old = {rule.name: rule for rule in before.rules}
    kept = [rule.name for rule in policy.rules if rule.name in old]
    kept_set = set(kept)
    if kept != [rule.name for rule in before.rules if rule.name in kept_set]:
        return _Change(is_fresh=True)
    stale = 0
    for rule in policy.rules:
        if old.get(rule.name) is not rule and old.get(rule.name) != rule:
            stale |= 1 << numbers[rule.name]
    for number, name in previous.entries.rules.items():
        if name not in kept_set:
            stale |= 1 << number
    return _Change(is_fresh=False, stale=stale)


def _make_builder(
    policy: Policy, numbers: Mapping[str, int], previous: Compilation | None, change: _Change
) -> ClassBuilder:
    if previous is not None and not change.is_fresh and not change.stale:
        return previous.builder
    builder = ClassBuilder(policy, numbers)
    if previous is not None and not change.is_fresh:
        builder.adopt(previous.builder, change.stale)
    return builder


def _resolve_rules(
    policy: Policy,
    numbers: Mapping[str, int],
    universe: Universe,
    previous: Compilation | None,
    change: _Change,
) -> dict[int, tuple[int, int]]:
    is_same = previous is not None and universe is previous.universe
    masks = {}
    for rule in policy.rules:
        number = numbers[rule.name]
        if previous is not None and is_same and not change.is_stale(number):
            masks[number] = previous.masks[number]
        else:
            masks[number] = universe.mask(rule.source), universe.mask(rule.destination)
    return masks


class _Step:
    """One compilation at work."""

    def __init__(
        self,
        policy: Policy,
        universe: Universe,
        builder: ClassBuilder,
        masks: Mapping[int, tuple[int, int]],
        width: int,
    ) -> None:
        self._policy = policy
        self._universe = universe
        self._builder = builder
        self._masks = masks
        self.sources = [0] * width
        self.destinations = [0] * width

    def run(self, previous: Compilation | None, change: _Change) -> PairTable:
        """Return the pairs, having filled `sources` and `destinations`."""
        if previous is None or change.is_fresh:
            # A pair that no rule matches has the default's class: right in an empty table.
            touched = self._fill({}, stale=0)
            table = PairTable.empty()
            table.set_defaults(self._defaults())
        else:
            kept = previous.sources[: len(self.sources)]
            self.sources[: len(kept)] = kept
            self.destinations[: len(kept)] = previous.destinations[: len(kept)]
            touched = self._fill(previous.masks, change.stale)
            table = PairTable.copy_of(previous.entries, previous.uses)
            gone = previous.universe.positions.keys() - self._universe.positions.keys()
            table.forget(identity for _, identity in gone)
            # Only a changed rule that matches every pair of a direction changes a default, and it
            # has touched all of them.
            table.set_defaults(self._defaults())
        self._write(table, touched)
        return table

    def _fill(self, before: Mapping[int, tuple[int, int]], stale: int) -> dict[int, int]:
        """Bring S and D up to date; return position to the positions of touched destinations."""
        touched: dict[int, int] = {}
        for number in self._masks.keys() | before.keys():
            old_from, old_to = before.get(number, (0, 0))
            new_from, new_to = self._masks.get(number, (0, 0))
            bit = 1 << number
            flipped_from, flipped_to = old_from ^ new_from, old_to ^ new_to
            # A removed position may lie beyond the width of this step; nobody reads it there.
            for one in bits_of(flipped_from & (1 << len(self.sources)) - 1):
                self.sources[one] ^= bit
            for one in bits_of(flipped_to & (1 << len(self.destinations)) - 1):
                self.destinations[one] ^= bit
            if stale & bit:
                flipped_from = old_from | new_from
            for one in bits_of(flipped_from):
                touched[one] = touched.get(one, 0) | old_to | new_to
            if flipped_to:
                for one in bits_of((old_from | new_from) & ~flipped_from):
                    touched[one] = touched.get(one, 0) | flipped_to
        return touched

    def _defaults(self) -> dict[Direction, ClassId]:
        """Classes of pairs that only rules of utmost generality match.

        Decided by the words of the rules, so that an identity more or less changes no default.
        """
        network = self._policy.network
        own_from = own_to = 0
        for number, rule in self._rules_by_number().items():
            if is_universal(rule.source, network):
                own_from |= 1 << number
            if is_universal(rule.destination, network):
                own_to |= 1 << number
        stranger = self._universe.positions["", STRANGER]
        return {
            Direction.INSIDE: self._class(self._policy.default, own_from & own_to),
            Direction.EGRESS: self._class(Verdict.DENY, own_from & self.destinations[stranger]),
            Direction.INGRESS: self._class(Verdict.DENY, self.sources[stranger] & own_to),
        }

    def _rules_by_number(self) -> dict[int, Rule]:
        return dict(zip(self._masks, self._policy.rules, strict=True))

    def _class(self, default: Verdict, mask: int) -> ClassId:
        found = self._builder.ids[default].get(mask)
        return self._builder.build(default, mask) if found is None else found

    def _write(self, table: PairTable, touched: Mapping[int, int]) -> None:
        own, peers = self._universe.own, self._universe.peers
        identities = self._universe.identities
        stranger = self._universe.positions["", STRANGER]
        columns: dict[int, list[tuple[int, Identity]]] = {}

        def columns_of(mask: int) -> list[tuple[int, Identity]]:
            if mask not in columns:
                columns[mask] = [(one, identities[one]) for one in bits_of(mask)]
            return columns[mask]

        to_own: dict[int, ClassId] = {}
        for source, mask in touched.items():
            if source not in identities:
                continue
            if own >> source & 1:
                fallback = table.defaults[Direction.INSIDE]
                cells = self._cells(source, columns_of(mask & own), self._policy.default, fallback)
                table.update(Direction.INSIDE, identities[source], cells)
                fallback = table.defaults[Direction.EGRESS]
                edge = self._class(Verdict.DENY, self.sources[source] & self.destinations[stranger])
                first = columns_of(mask & 1 << stranger)
                cells = self._cells(source, first, Verdict.DENY, fallback)
                rest = columns_of(mask & peers & ~(1 << stranger))
                cells += self._cells(source, rest, Verdict.DENY, edge)
                table.update(Direction.EGRESS, identities[source], cells)
            elif source == stranger:
                fallback = table.defaults[Direction.INGRESS]
                cells = self._cells(source, columns_of(mask & own), Verdict.DENY, fallback)
                table.update(Direction.INGRESS, identities[source], cells)
            else:
                cells = []
                reach = self.sources[stranger]
                for one in columns_of(mask & own):
                    if one[0] not in to_own:
                        product = reach & self.destinations[one[0]]
                        to_own[one[0]] = self._class(Verdict.DENY, product)
                    cells += self._cells(source, (one,), Verdict.DENY, to_own[one[0]])
                table.update(Direction.INGRESS, identities[source], cells)

    def _cells(
        self,
        source: int,
        columns: Iterable[tuple[int, Identity]],
        default: Verdict,
        fallback: ClassId,
    ) -> list[tuple[Identity, ClassId | None]]:
        """Return each destination's class, or None where lookup finds it without an entry."""
        rules = self.sources[source]
        destinations = self.destinations
        known = self._builder.ids[default]
        cells: list[tuple[Identity, ClassId | None]] = []
        for position, identity in columns:
            product = rules & destinations[position]
            class_id = known.get(product)
            if class_id is None:
                class_id = self._builder.build(default, product)
            cells.append((identity, None if class_id == fallback else class_id))
        return cells
