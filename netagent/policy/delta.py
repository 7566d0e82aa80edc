"""What to write so that a host's entries turn from one compilation into the next.

Order for whoever applies it: classes first, then prefixes, pairs and defaults, then what is gone.
A class never changes under its name, so nothing that is in force changes before it is turned to.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv6Network
from typing import TypeVar

from netagent.model.errors import InvalidError
from netagent.model.fleet import Identity
from netagent.policy.entries import ClassId, CompiledPolicy, Direction, PolicyClass, Rows

Pair = tuple[Direction, Identity, Identity]

_K = TypeVar("_K")
_V = TypeVar("_V")


@dataclass(frozen=True, slots=True)
class PolicyDelta:
    """The difference between two compilations of one network's policy.

    pairs, prefixes, defaults: what to set; None in pairs and prefixes: to remove.
    new_classes: content of those that were not there. old_classes: no longer referred to.
    rules: the new numbers to names, whole; they are for people and no entry depends on them.
    version: the new one, for people.
    """

    pairs: Mapping[Pair, ClassId | None]
    prefixes: Mapping[IPv6Network, Identity | None]
    defaults: Mapping[Direction, ClassId]
    new_classes: Mapping[ClassId, PolicyClass]
    old_classes: frozenset[ClassId]
    rules: Mapping[int, str]
    version: int

    @property
    def is_empty(self) -> bool:
        """Whether no entry changes."""
        changes = self.pairs, self.prefixes, self.defaults, self.new_classes, self.old_classes
        return not any(changes)


@dataclass(frozen=True, slots=True)
class PolicyChange:
    """What a host is told about the policy of one network.

    number: the network's. is_whole: `delta` begins from nothing, whatever is held.
    content: what the policy is called after it; two that are called alike are alike.
    """

    number: int
    network: str
    is_whole: bool
    content: bytes
    delta: PolicyDelta


def empty_policy(network: str, number: int) -> CompiledPolicy:
    """Return what a policy is before anything is known of it: not even defaults."""
    return CompiledPolicy(network, number, 0, {one: {} for one in Direction}, {}, {}, {}, {})


def plan_delta(before: CompiledPolicy, after: CompiledPolicy) -> PolicyDelta:
    """Return what turns `before` into `after`; rows that the two share cost nothing."""
    return PolicyDelta(
        plan_pairs(before.pairs, after.pairs),
        plan_prefixes(before.prefixes, after.prefixes),
        {
            one: class_id
            for one, class_id in after.defaults.items()
            if before.defaults.get(one) != class_id
        },
        {one: after.classes[one] for one in after.classes.keys() - before.classes.keys()},
        frozenset(before.classes.keys() - after.classes.keys()),
        after.rules,
        after.version,
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


def apply_delta(before: CompiledPolicy, delta: PolicyDelta) -> CompiledPolicy:
    """Return what `delta` makes of `before`, sharing every row that it leaves as it is.

    The inverse of plan_delta: its result, applied to its first argument, gives the second.
    Raises InvalidError, naming the network, when the result would be no policy: an entry of a class
    that is not there, a class with other content than it had, a direction without default. Pure.
    """
    where = f"policies[{before.number}]"
    for class_id in delta.new_classes.keys() & before.classes.keys():
        if before.classes[class_id] != delta.new_classes[class_id]:
            raise InvalidError(f"{where}.classes", f"class {class_id:016x} changes its content")
    classes = {i: one for i, one in before.classes.items() if i not in delta.old_classes}
    classes.update(delta.new_classes)
    after = CompiledPolicy(
        before.network,
        before.number,
        delta.version,
        _apply_pairs(before.pairs, delta.pairs),
        {**before.defaults, **delta.defaults},
        classes,
        _without_removed({**before.prefixes, **delta.prefixes}),
        delta.rules,
    )
    _check_references(where, after, delta)
    return after


def _apply_pairs(
    before: Mapping[Direction, Rows], changes: Mapping[Pair, ClassId | None]
) -> dict[Direction, Rows]:
    cells: dict[Direction, dict[Identity, dict[Identity, ClassId | None]]] = {}
    for (direction, source, destination), class_id in changes.items():
        cells.setdefault(direction, {}).setdefault(source, {})[destination] = class_id
    after = dict(before)
    for direction, sources in cells.items():
        rows = dict(before[direction])
        for source, row in sources.items():
            merged = _without_removed({**rows.get(source, {}), **row})
            if merged:
                rows[source] = merged
            else:
                rows.pop(source, None)
        after[direction] = rows
    return after


def _without_removed(changed: dict[_K, _V | None]) -> dict[_K, _V]:
    return {key: value for key, value in changed.items() if value is not None}


def _check_references(where: str, after: CompiledPolicy, delta: PolicyDelta) -> None:
    if after.defaults.keys() != set(Direction):
        raise InvalidError(f"{where}.defaults", "a direction has none")
    used = set(after.defaults.values()) | {one for one in delta.pairs.values() if one is not None}
    unknown = used - after.classes.keys()
    if unknown:
        raise InvalidError(
            f"{where}.pair_classes", f"class {min(unknown):016x} is not known to this network"
        )
    for rows in after.pairs.values() if delta.old_classes else ():
        for row in rows.values():
            if not delta.old_classes.isdisjoint(row.values()):
                left = min(delta.old_classes.intersection(row.values()))
                raise InvalidError(
                    f"{where}.removed_classes", f"pairs still have class {left:016x}"
                )
