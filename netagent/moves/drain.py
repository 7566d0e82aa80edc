"""Plans where the machines of a host go when it is emptied.

Greedy, and the same for the same fleet: machines that must be kept apart first, each to the host
with the fewest machines that may have it. Not the best packing there is, but one that a person can
follow, and that leaves the other hosts as even as they were.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from netagent.model.fleet import Machine

_Bond = tuple[str, str, str]
"""Network, label key and value: machines that have one in common are kept apart."""


@dataclass(frozen=True, slots=True)
class DrainRules:
    """What a drain has to respect.

    destinations: the hosts that may be used. capacity: most machines of one host, None: any.
    select: only machines with these labels go. keep_apart: label keys; no two machines of a network
    with the same value of one of these come to be on one host.
    """

    destinations: Sequence[str]
    capacity: int | None = None
    select: Mapping[str, str] | None = None
    keep_apart: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class DrainPlan:
    """Who goes where. assignments: (NETWORK/NAME, host), by name; unplaced: (NETWORK/NAME, why)."""

    assignments: tuple[tuple[str, str], ...]
    unplaced: tuple[tuple[str, str], ...]


def plan_drain(
    leaving: Iterable[Machine], staying: Iterable[Machine], rules: DrainRules
) -> DrainPlan:
    """Return where each machine that leaves a host goes.

    leaving: the machines of the host that do not move yet.
    staying: all that are on one of the destinations, or on the way there with `host` set to it.
    Pure; every machine that `rules` select is in the plan once.
    """
    loads: Counter[str] = Counter(dict.fromkeys(rules.destinations, 0))
    held: dict[str, set[_Bond]] = {host: set() for host in rules.destinations}
    for machine in staying:
        if machine.host in held:
            loads[machine.host] += 1
            held[machine.host] |= _bonds(machine, rules)
    selected = [machine for machine in leaving if _is_selected(machine, rules)]
    assignments: dict[str, str] = {}
    unplaced: dict[str, str] = {}
    for machine in sorted(selected, key=lambda one: (-len(_bonds(one, rules)), one.path)):
        bonds = _bonds(machine, rules)
        roomy = [h for h in loads if rules.capacity is None or loads[h] < rules.capacity]
        fitting = [host for host in roomy if bonds.isdisjoint(held[host])]
        if not fitting:
            unplaced[machine.path] = _explain(machine, rules, has_room=bool(roomy))
            continue
        host = min(fitting, key=lambda one: (loads[one], one))
        assignments[machine.path] = host
        loads[host] += 1
        held[host] |= bonds
    return DrainPlan(tuple(sorted(assignments.items())), tuple(sorted(unplaced.items())))


def _is_selected(machine: Machine, rules: DrainRules) -> bool:
    return all(machine.labels.get(key) == value for key, value in (rules.select or {}).items())


def _bonds(machine: Machine, rules: DrainRules) -> set[_Bond]:
    return {
        (machine.network, key, machine.labels[key])
        for key in rules.keep_apart
        if key in machine.labels
    }


def _explain(machine: Machine, rules: DrainRules, *, has_room: bool) -> str:
    if not rules.destinations:
        return "there is no host to go to"
    if not has_room:
        return f"every host has {rules.capacity} machines"
    bonds = ", ".join(f"{key}={value}" for _, key, value in sorted(_bonds(machine, rules)))
    return f"every host with room has a machine with {bonds} already"
