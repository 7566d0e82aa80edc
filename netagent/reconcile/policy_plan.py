"""How to bring one network's policy in force without a packet ever seeing half of it.

The order is the safety: what nobody refers to any more makes room; classes come before the pairs
that name them; pairs and prefixes go into the slot that is not in force; rules get their counters;
then one write turns to all of it. Whatever fails before that write leaves the old revision whole.
What the new revision no longer uses stays until a later plan: a program may still be reading it.
Pure. Source: docs/adr/0005-policy-in-the-kernel.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from netagent.model.errors import ExhaustedError
from netagent.policy.delta import plan_pairs, plan_prefixes
from netagent.policy.entries import CompiledPolicy
from netagent.reconcile.held_policies import (
    EMPTY_SLOT,
    SLOTS,
    ActivePolicy,
    EndPolicy,
    HeldNetwork,
    HeldPolicies,
    PlacedClass,
    PolicyOperation,
    PolicyPlan,
    RemovePairs,
    RemovePrefixes,
    RemoveRules,
    Room,
    SetPairs,
    SetPrefixes,
    SlotContent,
    TurnTo,
)
from netagent.reconcile.policy_classes import collect_classes, is_there, plan_classes
from netagent.reconcile.policy_rules import number_rules, plan_rules

_NOTHING = HeldNetwork()


def plan_policy(
    held: HeldPolicies, compiled: CompiledPolicy, room: Room, *, may_collect: bool = True
) -> PolicyPlan:
    """Return what brings `compiled` in force; no operations when it is.

    held: all that the kernel holds. compiled.number says which network is meant.
    may_collect: whether no program can still be reading classes that nothing in force refers to.
    Raises ExhaustedError when it does not fit beside what is in force.
    """
    number = compiled.number
    before = held.networks.get(number, _NOTHING)
    content = SlotContent(compiled.pairs, compiled.prefixes)
    slot = _choose_slot(before, content)
    active = ActivePolicy(slot, compiled.version, compiled.defaults)
    rules = number_rules(held, before, compiled, room)
    slots = (content, before.slots[1]) if slot == 0 else (before.slots[0], content)
    after = HeldNetwork(active, slots, frozenset(compiled.classes), rules)
    if before == after and all(is_there(held, one) for one in compiled.classes.values()):
        return PolicyPlan((), _adopt(held, compiled, after))
    networks = {**held.networks, number: after}
    if len(networks) > room.networks:
        raise ExhaustedError(f"networks: {len(networks):,} needed, {room.networks:,} fit")
    collecting, kept = collect_classes(held, after.used) if may_collect else ([], held.classes)
    clearing, networks = _make_room(networks, number, room)
    classes, placing = plan_classes(kept, compiled.classes, room)
    gone = tuple(sorted(before.rules.keys() - rules.keys()))
    work: list[PolicyOperation] = [
        *collecting,
        *clearing,
        *placing,
        *_plan_slot(number, slot, before.slots[slot], content),
        *plan_rules(number, before.rules, rules),
    ]
    if before.active != active:
        work.append(TurnTo(number, active))
    if gone:
        work.append(RemoveRules(number, gone))
    retired = held.retired.union(before.rules[one] for one in gone)
    return PolicyPlan(tuple(work), HeldPolicies(networks, classes, retired))


def plan_drop(held: HeldPolicies, network: int) -> PolicyPlan:
    """Return what takes away all that the kernel holds of a network; first of all its policy."""
    before = held.networks.get(network)
    if before is None:
        return PolicyPlan((), held)
    work: list[PolicyOperation] = [EndPolicy(network)] if before.active else []
    for slot, content in enumerate(before.slots):
        work += _plan_slot(network, slot, content, EMPTY_SLOT)
    if before.rules:
        work.append(RemoveRules(network, tuple(sorted(before.rules))))
    networks = {number: one for number, one in held.networks.items() if number != network}
    retired = held.retired.union(before.rules.values())
    return PolicyPlan(tuple(work), HeldPolicies(networks, held.classes, retired))


def _choose_slot(before: HeldNetwork, content: SlotContent) -> int:
    """Return the slot in force if it has the content already, else the other one."""
    if before.active is None:
        return 0
    if before.slots[before.active.slot] == content:
        return before.active.slot
    return 1 - before.active.slot


def _plan_slot(
    network: int, slot: int, before: SlotContent, after: SlotContent
) -> list[PolicyOperation]:
    """Put removals first, so that the map is never fuller than before or after."""
    work: list[PolicyOperation] = []
    pairs = plan_pairs(before.pairs, after.pairs)
    set_pairs = {pair: one for pair, one in pairs.items() if one is not None}
    if len(set_pairs) < len(pairs):
        surplus = tuple(pair for pair, one in pairs.items() if one is None)
        work.append(RemovePairs(network, slot, surplus))
    if set_pairs:
        work.append(SetPairs(network, slot, set_pairs))
    prefixes = plan_prefixes(before.prefixes, after.prefixes)
    set_prefixes = {prefix: one for prefix, one in prefixes.items() if one is not None}
    if len(set_prefixes) < len(prefixes):
        gone = tuple(prefix for prefix, one in prefixes.items() if one is None)
        work.append(RemovePrefixes(network, slot, gone))
    if set_prefixes:
        work.append(SetPrefixes(network, slot, set_prefixes))
    return work


def _adopt(held: HeldPolicies, compiled: CompiledPolicy, after: HeldNetwork) -> HeldPolicies:
    """Return the same, of the objects that the next compilation shares: quick to compare."""
    found = {
        class_id: PlacedClass(content, held.classes[class_id].ranges)
        for class_id, content in compiled.classes.items()
        if held.classes[class_id].content is not content
    }
    classes = {**held.classes, **found} if found else held.classes
    return replace(held, networks={**held.networks, compiled.number: after}, classes=classes)


def _make_room(
    networks: Mapping[int, HeldNetwork], number: int, room: Room
) -> tuple[list[PolicyOperation], dict[int, HeldNetwork]]:
    """Empty slots of other networks that are not in force, while there is too little room."""
    cleared = dict(networks)
    work: list[PolicyOperation] = []
    pairs = sum(slot.pair_count for one in networks.values() for slot in one.slots)
    prefixes = sum(len(slot.prefixes) for one in networks.values() for slot in one.slots)
    for other, one in sorted(networks.items()):
        if pairs <= room.pairs and prefixes <= room.prefixes:
            break
        for slot in range(SLOTS):
            idle = one.slots[slot]
            if other == number or (one.active and one.active.slot == slot) or idle == EMPTY_SLOT:
                continue
            work += _plan_slot(other, slot, idle, EMPTY_SLOT)
            pairs -= idle.pair_count
            prefixes -= len(idle.prefixes)
            one = _with_empty_slot(one, slot)
            cleared[other] = one
        if one == _NOTHING:
            del cleared[other]
    if pairs > room.pairs or prefixes > room.prefixes:
        raise ExhaustedError(
            f"the policies before and after need {pairs:,} pairs and {prefixes:,} prefixes,"
            f" {room.pairs:,} and {room.prefixes:,} fit"
        )
    return work, cleared


def _with_empty_slot(one: HeldNetwork, slot: int) -> HeldNetwork:
    first, second = one.slots
    return replace(one, slots=(EMPTY_SLOT, second) if slot == 0 else (first, EMPTY_SLOT))
