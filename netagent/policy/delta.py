"""What to write so that a host's entries turn from one compilation into the next.

Order for whoever applies it: classes first, then prefixes, pairs and defaults, then what is gone.
A class never changes under its name, so nothing that is in force changes before it is turned to.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv6Network

from netagent.model.fleet import Identity
from netagent.policy.entries import ClassId, CompiledPolicy, Direction, PolicyClass, Rows

Pair = tuple[Direction, Identity, Identity]


@dataclass(frozen=True, slots=True)
class PolicyDelta:
    """The difference between two compilations of one network's policy.

    pairs, prefixes, defaults: what to set; None in pairs and prefixes: to remove.
    new_classes: content of those that were not there. old_classes: no longer referred to.
    rules: the new numbers to names, whole; they are for people and no entry depends on them.
    """

    pairs: Mapping[Pair, ClassId | None]
    prefixes: Mapping[IPv6Network, Identity | None]
    defaults: Mapping[Direction, ClassId]
    new_classes: Mapping[ClassId, PolicyClass]
    old_classes: frozenset[ClassId]
    rules: Mapping[int, str]

    @property
    def is_empty(self) -> bool:
        """Whether no entry changes."""
        changes = self.pairs, self.prefixes, self.defaults, self.new_classes, self.old_classes
        return not any(changes)


def plan_delta(before: CompiledPolicy, after: CompiledPolicy) -> PolicyDelta:
    """Return what turns `before` into `after`; rows that the two share cost nothing."""
    return PolicyDelta(
        plan_pairs(before.pairs, after.pairs),
        plan_prefixes(before.prefixes, after.prefixes),
        {
            one: after.defaults[one]
            for one in Direction
            if before.defaults[one] != after.defaults[one]
        },
        {one: after.classes[one] for one in after.classes.keys() - before.classes.keys()},
        frozenset(before.classes.keys() - after.classes.keys()),
        after.rules,
    )


def plan_pairs(
    before: Mapping[Direction, Rows], after: Mapping[Direction, Rows]
) -> dict[Pair, ClassId | None]:
    """Return the pairs to set, or (None) to remove; rows that the two share cost nothing."""
    pairs: dict[Pair, ClassId | None] = {}
    for direction in Direction:
        old_rows, new_rows = before[direction], after[direction]
        for source in old_rows.keys() | new_rows.keys():
            old, new = old_rows.get(source, {}), new_rows.get(source, {})
            if old is new:
                continue
            for destination in old.keys() - new.keys():
                pairs[direction, source, destination] = None
            for destination, class_id in new.items():
                if old.get(destination) != class_id:
                    pairs[direction, source, destination] = class_id
    return pairs


def plan_prefixes(
    before: Mapping[IPv6Network, Identity], after: Mapping[IPv6Network, Identity]
) -> dict[IPv6Network, Identity | None]:
    """Return the prefixes to set, or (None) to remove."""
    prefixes: dict[IPv6Network, Identity | None] = dict.fromkeys(before.keys() - after.keys())
    for prefix, identity in after.items():
        if before.get(prefix) != identity:
            prefixes[prefix] = identity
    return prefixes
