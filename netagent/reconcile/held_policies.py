"""What a kernel holds of policies, and the single steps that change it. Values without behaviour.

A network has two slots, copies of its pairs and prefixes; one of them is in force. Classes are
shared by all networks and slots.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv6Network

from netagent.model.fleet import Identity
from netagent.policy.delta import Pair
from netagent.policy.entries import ClassId, Direction, Interval, PolicyClass, Rows
from netagent.reconcile.intervals import IntervalRange

SLOTS = 2
"""Copies of a network's pairs and prefixes."""

NO_PAIRS: Mapping[Direction, Rows] = {direction: {} for direction in Direction}


@dataclass(frozen=True, slots=True)
class SlotContent:
    """One slot of one network. pairs: all three directions, without empty rows."""

    pairs: Mapping[Direction, Rows] = field(default_factory=lambda: NO_PAIRS)
    prefixes: Mapping[IPv6Network, Identity] = field(default_factory=dict)
    pair_count: int = field(init=False)

    def __post_init__(self) -> None:
        count = sum(len(row) for rows in self.pairs.values() for row in rows.values())
        object.__setattr__(self, "pair_count", count)


EMPTY_SLOT = SlotContent()


@dataclass(frozen=True, slots=True)
class ActivePolicy:
    """What is in force of one network: `struct policy_network`."""

    slot: int
    version: int
    defaults: Mapping[Direction, ClassId]


@dataclass(frozen=True, slots=True)
class HeldNetwork:
    """What the kernel holds of one network.

    active: None when nothing is in force, though slots may hold something.
    used: the classes that the defaults and the slot in force refer to.
    rules: rule number to its index in rule_counters.
    """

    active: ActivePolicy | None = None
    slots: tuple[SlotContent, SlotContent] = (EMPTY_SLOT, EMPTY_SLOT)
    used: frozenset[ClassId] = frozenset()
    rules: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PlacedClass:
    """A class with its place. ranges: protocol to where its intervals are."""

    content: PolicyClass
    ranges: Mapping[int, IntervalRange]


@dataclass(frozen=True, slots=True)
class HeldPolicies:
    """Everything, by network number and by class.

    retired: indices in rule_counters that flows may still count under until the generation rises.
    """

    networks: Mapping[int, HeldNetwork] = field(default_factory=dict)
    classes: Mapping[ClassId, PlacedClass] = field(default_factory=dict)
    retired: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Room:
    """How many entries the maps take. rules: indices in rule_counters, from 1 to this one."""

    networks: int
    pairs: int
    prefixes: int
    class_protocols: int
    intervals: int
    rules: int


@dataclass(frozen=True, slots=True)
class RemoveClasses:
    """Rows of classes, as (class, protocol)."""

    rows: tuple[tuple[ClassId, int], ...]


@dataclass(frozen=True, slots=True)
class SetIntervals:
    """Intervals by place; ranges that adjoin are written at once."""

    tables: tuple[tuple[IntervalRange, tuple[Interval, ...]], ...]


@dataclass(frozen=True, slots=True)
class SetClasses:
    """Rows of classes whose intervals are there."""

    rows: Mapping[tuple[ClassId, int], IntervalRange]


@dataclass(frozen=True, slots=True)
class RemovePairs:
    """Pairs of one slot that is not in force."""

    network: int
    slot: int
    pairs: tuple[Pair, ...]


@dataclass(frozen=True, slots=True)
class SetPairs:
    """Pairs of one slot that is not in force."""

    network: int
    slot: int
    pairs: Mapping[Pair, ClassId]


@dataclass(frozen=True, slots=True)
class RemovePrefixes:
    """Prefixes of one slot that is not in force."""

    network: int
    slot: int
    prefixes: tuple[IPv6Network, ...]


@dataclass(frozen=True, slots=True)
class SetPrefixes:
    """Prefixes of one slot that is not in force."""

    network: int
    slot: int
    prefixes: Mapping[IPv6Network, Identity]


@dataclass(frozen=True, slots=True)
class ResetCounters:
    """Counters of indices that get another rule."""

    indices: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class SetRules:
    """Rule numbers to indices."""

    network: int
    indices: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class RemoveRules:
    """Rule numbers that are gone."""

    network: int
    numbers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TurnTo:
    """The one write that puts a revision in force."""

    network: int
    active: ActivePolicy


@dataclass(frozen=True, slots=True)
class EndPolicy:
    """The one write after which a network has no policy here."""

    network: int


PolicyOperation = (
    RemoveClasses
    | SetIntervals
    | SetClasses
    | RemovePairs
    | SetPairs
    | RemovePrefixes
    | SetPrefixes
    | ResetCounters
    | SetRules
    | RemoveRules
    | TurnTo
    | EndPolicy
)


@dataclass(frozen=True, slots=True)
class PolicyPlan:
    """Operations in the order in which they are safe, and what is held after all of them."""

    operations: tuple[PolicyOperation, ...]
    after: HeldPolicies
