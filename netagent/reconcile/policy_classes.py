"""Which classes to write, where, and which to remove: they are shared by all networks and slots.

A class never changes under its name, so new ones go in beside those in force. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping

from netagent.model.errors import ExhaustedError
from netagent.policy.entries import ClassId, PolicyClass
from netagent.reconcile.held_policies import (
    HeldPolicies,
    PlacedClass,
    PolicyOperation,
    RemoveClasses,
    Room,
    SetClasses,
    SetIntervals,
)
from netagent.reconcile.intervals import place


def is_there(held: HeldPolicies, wanted: PolicyClass) -> bool:
    """Whether a class is held as it should be."""
    there = held.classes.get(wanted.class_id)
    return there is not None and (there.content is wanted or there.content == wanted)


def collect_classes(
    held: HeldPolicies, needed: frozenset[ClassId]
) -> tuple[list[PolicyOperation], Mapping[ClassId, PlacedClass]]:
    """Return what removes classes that nothing in force refers to, and the classes that stay.

    needed: those that will be referred to.
    """
    used = needed.union(*(one.used for one in held.networks.values()))
    garbage = held.classes.keys() - used
    if not garbage:
        return [], held.classes
    rows = [(one, protocol) for one in garbage for protocol in held.classes[one].ranges]
    kept = {one: placed for one, placed in held.classes.items() if one not in garbage}
    return [RemoveClasses(tuple(sorted(rows)))], kept


def plan_classes(
    held: Mapping[ClassId, PlacedClass], wanted: Mapping[ClassId, PolicyClass], room: Room
) -> tuple[Mapping[ClassId, PlacedClass], list[PolicyOperation]]:
    """Return all classes held afterwards, and what writes the new ones.

    A class that is there with other content was damaged: what is wrong gets another place.
    Raises ExhaustedError when they do not fit.
    """
    wrong = {
        class_id: content
        for class_id, content in wanted.items()
        if class_id not in held or held[class_id].content != content
    }
    if not wrong:
        return held, []
    needs: dict[tuple[ClassId, int], int] = {}
    surplus: list[tuple[ClassId, int]] = []
    for class_id, content in sorted(wrong.items()):
        known = held[class_id].content.protocols if class_id in held else {}
        surplus += [(class_id, protocol) for protocol in known.keys() - content.protocols.keys()]
        for protocol, intervals in content.protocols.items():
            if known.get(protocol) != intervals:
                needs[class_id, protocol] = len(intervals)
    used = [one for placed in held.values() for one in placed.ranges.values()]
    places = place(needs, used, room.intervals)
    classes = dict(held)
    for class_id, content in wrong.items():
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
