"""Which rule counts where: a network's rule numbers to indices in rule_counters. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from netagent.policy.entries import DEFAULT_RULE, CompiledPolicy
from netagent.reconcile.held_policies import (
    HeldNetwork,
    HeldPolicies,
    PolicyOperation,
    ResetCounters,
    Room,
    SetRules,
)


def number_rules(
    held: HeldPolicies, before: HeldNetwork, compiled: CompiledPolicy, room: Room
) -> dict[int, int]:
    """Return each rule's index: the one it has, or the lowest that is free.

    The default has one too. An index is not free while flows may still count under it.
    Rules for which none is free have none, and are enforced without being counted.
    """
    numbers = sorted({DEFAULT_RULE, *compiled.rules})
    kept = {number: index for number, index in before.rules.items() if 1 <= index <= room.rules}
    if kept.keys() >= set(numbers):
        return {number: kept[number] for number in numbers}
    taken = held.retired.union(*(one.rules.values() for one in held.networks.values()))
    rules = {}
    free = 1
    for number in numbers:
        if number in kept:
            rules[number] = kept[number]
            continue
        while free in taken:
            free += 1
        if free <= room.rules:
            rules[number] = free
            free += 1
    return rules


def plan_rules(
    network: int, before: Mapping[int, int], after: Mapping[int, int]
) -> list[PolicyOperation]:
    """Return what gives new rules their counters, which begin at 0."""
    new = {number: index for number, index in after.items() if before.get(number) != index}
    if not new:
        return []
    return [ResetCounters(tuple(sorted(new.values()))), SetRules(network, new)]
