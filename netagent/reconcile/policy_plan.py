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
from netagent.policy.entries import DEFAULT_RULE, ClassId, CompiledPolicy, PolicyClass
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
from netagent.reconcile.intervals import place

_NOTHING = HeldNetwork()


def plan_policy(held: HeldPolicies, compiled: CompiledPolicy, room: Room) -> PolicyPlan:
    """Return what brings `compiled` in force; no operations when it is.

    held: all that the kernel holds. compiled.number says which network is meant.
    Raises ExhaustedError when it does not fit beside what is in force.
    """
    number = compiled.number
    before = held.networks.get(number, _NOTHING)
    content = SlotContent(compiled.pairs, compiled.prefixes)
    slot = _choose_slot(before, content)
    active = ActivePolicy(slot, compiled.version, compiled.defaults)
    rules = _number_rules(held, before, compiled, room)
    slots = (content, before.slots[1]) if slot == 0 else (before.slots[0], content)
    after = HeldNetwork(active, slots, frozenset(compiled.classes), rules)
    networks = {**held.networks, number: after}
    garbage = _find_garbage(held, after.used)
    kept = {one: placed for one, placed in held.classes.items() if one not in garbage}
    classes, placing = _plan_classes(kept, compiled.classes, room)
    gone = tuple(sorted(before.rules.keys() - rules.keys()))
    work: list[PolicyOperation] = [
        *placing,
        *_plan_slot(number, slot, before.slots[slot], content),
        *_plan_rules(number, before.rules, rules),
    ]
    if before.active != active:
        work.append(TurnTo(number, active))
    if gone:
        work.append(RemoveRules(number, gone))
    if not work:
        # From now on what is held is known by the objects that the next compilation shares.
        return PolicyPlan((), replace(held, networks=networks, classes={**held.classes, **classes}))
    if len(networks) > room.networks:
        raise ExhaustedError(f"networks: {len(networks):,} needed, {room.networks:,} fit")
    clearing, networks = _make_room(networks, number, room)
    if garbage:
        rows = [(one, protocol) for one in garbage for protocol in held.classes[one].ranges]
        clearing.insert(0, RemoveClasses(tuple(sorted(rows))))
    retired = held.retired.union(before.rules[one] for one in gone)
    return PolicyPlan((*clearing, *work), HeldPolicies(networks, classes, retired))


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


def _find_garbage(held: HeldPolicies, needed: frozenset[ClassId]) -> set[ClassId]:
    """Return the classes that nothing in force refers to, nor will."""
    used = needed.union(*(one.used for one in held.networks.values()))
    return {one for one in held.classes if one not in used}


def _plan_classes(
    held: Mapping[ClassId, PlacedClass], wanted: Mapping[ClassId, PolicyClass], room: Room
) -> tuple[dict[ClassId, PlacedClass], list[PolicyOperation]]:
    """Return all classes held afterwards, and what writes the new ones.

    A class that is there with other content was damaged: what is wrong gets another place.
    """
    classes = dict(held)
    needs: dict[tuple[ClassId, int], int] = {}
    surplus: list[tuple[ClassId, int]] = []
    for class_id, content in wanted.items():
        there = held.get(class_id)
        if there is not None and there.content is content:
            continue
        if there is not None and there.content == content:
            classes[class_id] = PlacedClass(content, there.ranges)
            continue
        known = there.content.protocols if there is not None else {}
        surplus += [(class_id, protocol) for protocol in known.keys() - content.protocols.keys()]
        for protocol, intervals in content.protocols.items():
            if known.get(protocol) != intervals:
                needs[class_id, protocol] = len(intervals)
    if not needs and not surplus:
        return classes, []
    used = [one for placed in held.values() for one in placed.ranges.values()]
    places = place(needs, used, room.intervals)
    for class_id in sorted({one for one, _ in (*needs, *surplus)}):
        content = wanted[class_id]
        kept = held[class_id].ranges if class_id in held else {}
        ranges = {
            protocol: places.get((class_id, protocol)) or kept[protocol]
            for protocol in content.protocols
        }
        classes[class_id] = PlacedClass(content, ranges)
    rows = sum(len(placed.ranges) for placed in classes.values())
    if rows > room.class_protocols:
        raise ExhaustedError(
            f"classes of the policies before and after need {rows:,} entries by protocol,"
            f" {room.class_protocols:,} fit"
        )
    tables = sorted(
        ((range_, wanted[one].protocols[protocol]) for (one, protocol), range_ in places.items()),
        key=lambda table: table[0].first,
    )
    work: list[PolicyOperation] = []
    if tables:
        work += [SetIntervals(tuple(tables)), SetClasses(places)]
    if surplus:
        work.append(RemoveClasses(tuple(sorted(surplus))))
    return classes, work


def _number_rules(
    held: HeldPolicies, before: HeldNetwork, compiled: CompiledPolicy, room: Room
) -> dict[int, int]:
    """Return each rule's index: the one it has, or the lowest that is free."""
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
        if free > room.rules:
            raise ExhaustedError(f"rules of all networks: more than {room.rules:,}, which fit")
        rules[number] = free
        free += 1
    return rules


def _plan_rules(
    network: int, before: Mapping[int, int], after: Mapping[int, int]
) -> list[PolicyOperation]:
    new = {number: index for number, index in after.items() if before.get(number) != index}
    if not new:
        return []
    return [ResetCounters(tuple(sorted(new.values()))), SetRules(network, new)]


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
    if pairs > room.pairs or prefixes > room.prefixes:
        raise ExhaustedError(
            f"the policies before and after need {pairs:,} pairs and {prefixes:,} prefixes,"
            f" {room.pairs:,} and {room.prefixes:,} fit"
        )
    return work, cleared


def _with_empty_slot(one: HeldNetwork, slot: int) -> HeldNetwork:
    first, second = one.slots
    return replace(one, slots=(EMPTY_SLOT, second) if slot == 0 else (first, EMPTY_SLOT))
