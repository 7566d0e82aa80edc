"""Plans: from a delta (the short way, at once) and from the kernel's tables (the auditor's way).

The short way trusts that the kernel holds what was written before and costs only what has changed.
The auditor's way compares everything; it also runs after a start and after a failure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Generic, TypeVar

from netagent.model.addresses import Locator, StableId
from netagent.model.fleet import Location, Transition
from netagent.reconcile.handover import await_programs, find_handed_over, plan_handover
from netagent.reconcile.operations import (
    Activate,
    EndpointBinding,
    Operation,
    Prepare,
    RaiseGeneration,
    Rank,
    Release,
    RemoveEndpoints,
    RemoveLocations,
    RemovePolicies,
    RemoveTransitions,
    SetEndpoints,
    SetLocations,
    SetPolicies,
    SetTransitions,
    order,
    plan_peers,
)
from netagent.reconcile.view import Delta, View, host_location

_R = TypeVar("_R")


@dataclass(frozen=True, slots=True)
class RowDiff(Generic[_R]):
    """What one table lacks or has wrong, and what it has too much; ids ascending."""

    wrong: dict[StableId, _R]
    surplus: tuple[StableId, ...]


@dataclass(frozen=True, slots=True)
class HeldTransition:
    """A transition as the kernel holds it. deadline_ns: CLOCK_BOOTTIME."""

    row: Transition
    deadline_ns: int


@dataclass(frozen=True, slots=True)
class Tables:
    """Desired rows of the three tables. floating: which ids are floating addresses."""

    locations: Mapping[StableId, Location] = field(default_factory=dict)
    transitions: Mapping[StableId, Transition] = field(default_factory=dict)
    endpoints: Mapping[StableId, EndpointBinding] = field(default_factory=dict)
    floating: Set[StableId] = frozenset()


@dataclass(frozen=True, slots=True)
class ObservedTables:
    """What the kernel holds."""

    locations: Mapping[StableId, Location] = field(default_factory=dict)
    transitions: Mapping[StableId, HeldTransition] = field(default_factory=dict)
    endpoints: Mapping[StableId, EndpointBinding] = field(default_factory=dict)


def plan_changes(
    view: View,
    delta: Delta,
    own_name: str,
    own_locator: Locator,
    attached: set[StableId],
    bindings: Mapping[StableId, EndpointBinding] = MappingProxyType({}),
    *,
    is_kernel_known: bool = True,
) -> tuple[Operation, ...]:
    """Return the operations of one delta, in order.

    view: as it is before the delta. attached: machines with an interface here. bindings: at least
    of those that get a floating address. is_kernel_known: whether the kernel is in step with
    `view`; that is not certain before the first batch of a run.
    """
    handed = find_handed_over(view, delta, is_kernel_known=is_kernel_known)
    locations = {i: row.location for i, row in sorted(delta.locations.items())}
    arrived = tuple(
        stable_id
        for stable_id, location in locations.items()
        if stable_id in attached and location.locator == own_locator
    )
    return order(
        (
            *plan_handover(view, delta, attached, bindings, is_kernel_known=is_kernel_known),
            *_plan_host_changes(view, delta, own_name),
            RemoveLocations(tuple(sorted(delta.removed_locations))),
            SetPolicies(tuple(held.compiled for _, held in sorted(delta.policies.items()))),
            SetTransitions(
                {i: row for i, row in sorted(delta.transitions.items()) if i not in handed}
            ),
            SetLocations(locations),
            Prepare(
                tuple(
                    stable_id
                    for stable_id, transition in sorted(delta.transitions.items())
                    if stable_id in attached and transition.destination == own_locator
                )
            ),
            Activate(arrived),
            RemovePolicies(tuple(sorted(delta.dropped_policies))),
            *((RaiseGeneration(),) if changes_verdicts(view, delta) else ()),
            RemoveTransitions(tuple(sorted(delta.removed_transitions.keys() - handed))),
            Release(tuple(sorted(delta.removed_transitions.keys() & attached))),
        )
    )


def changes_verdicts(view: View, delta: Delta) -> bool:
    """Whether a known flow may have to be judged otherwise after `delta`; view: before it.

    A machine that moves keeps its identity, and one that comes has no flows yet. One that goes may
    come back with another identity while its flows are remembered, so these are outdated when it
    goes; hosts all have one identity.
    """
    if delta.policies or delta.dropped_policies or delta.removed_locations:
        return True
    return any(
        (held := view.location(stable_id)) is not None and held.identity != row.location.identity
        for stable_id, row in delta.locations.items()
    )


def _plan_host_changes(view: View, delta: Delta, own_name: str) -> tuple[Operation, ...]:
    if not (delta.hosts or delta.removed_hosts):
        return ()
    after = {name: host for name, host in view.hosts.items() if name not in delta.removed_hosts}
    after |= delta.hosts
    ids = {host.stable_id for host in after.values()}
    gone = {host.stable_id for host in view.hosts.values()} - ids
    return (
        RemoveLocations(tuple(sorted(gone))),
        *plan_peers(view.hosts.values(), after.values(), own_name),
        SetLocations({host.stable_id: host_location(host) for host in delta.hosts.values()}),
    )


def plan_tables(
    desired: Tables,
    observed: ObservedTables,
    *,
    may_prune: bool,
    now_ns: int,
    refresh_below_ns: int,
) -> tuple[Operation, ...]:
    """Return the operations that bring the kernel's tables to `desired`; empty when in step.

    A floating address whose location is to change is taken from its former holder first, and given
    to the new one last, as in handover.py.
    may_prune: whether `desired` is known to be whole in this run. If not, nothing is removed, and a
    kernel row with a newer epoch than the desired one stays: the kernel was told later than the
    replica. So do the other rows of a floating address whose location stays for that reason.
    refresh_below_ns: a transition whose deadline is nearer than this is written again.
    """
    held_transitions = {stable_id: held.row for stable_id, held in observed.transitions.items()}
    locations = all_locations = _diff(desired.locations, observed.locations)
    transitions = _diff(desired.transitions, held_transitions)
    endpoints = _diff(desired.endpoints, observed.endpoints)
    if not may_prune:
        locations = _keep_newer(locations, observed.locations, lambda row: row.epoch)
        transitions = _keep_newer(transitions, held_transitions, lambda row: row.epoch)
        outdated = desired.floating & (all_locations.wrong.keys() - locations.wrong.keys())
        endpoints = _without(endpoints, outdated)
        transitions = _without(transitions, outdated)
    fading = {
        stable_id: row
        for stable_id, row in desired.transitions.items()
        if stable_id in observed.transitions
        and held_transitions[stable_id] == row
        and observed.transitions[stable_id].deadline_ns - now_ns < refresh_below_ns
    }
    misjudged = bool(locations.surplus) or any(
        stable_id in observed.locations and observed.locations[stable_id].identity != row.identity
        for stable_id, row in locations.wrong.items()
    )
    turning = desired.floating & locations.wrong.keys()
    strays = {i for i in endpoints.surplus if i in locations.wrong or i in locations.surplus}
    taken = tuple(sorted(strays | (turning & endpoints.wrong.keys() & observed.endpoints.keys())))
    given = {i: row for i, row in endpoints.wrong.items() if i in turning}
    rewritten = turning & (transitions.wrong.keys() | set(transitions.surplus))
    return order(
        (
            RemoveEndpoints(taken, Rank.REVOKE),
            RemoveTransitions(tuple(sorted(rewritten & held_transitions.keys())), Rank.REVOKE),
            *await_programs(taken, given),
            RemoveLocations(locations.surplus),
            SetEndpoints({i: row for i, row in endpoints.wrong.items() if i not in turning}),
            SetTransitions({i: row for i, row in transitions.wrong.items() if i not in turning}),
            SetTransitions(fading, is_refresh=True),
            SetLocations(locations.wrong),
            SetTransitions(
                {i: row for i, row in transitions.wrong.items() if i in turning},
                rank=Rank.HAND_OVER,
            ),
            SetEndpoints(given, Rank.HAND_OVER),
            *((RaiseGeneration(),) if misjudged else ()),
            RemoveTransitions(tuple(i for i in transitions.surplus if i not in rewritten)),
            RemoveEndpoints(tuple(i for i in endpoints.surplus if i not in strays)),
        )
    )


def find_differing(
    desired: Mapping[StableId, _R], observed: Mapping[StableId, _R]
) -> tuple[StableId, ...]:
    """Return the ids of rows that are wrong, missing or surplus; ascending."""
    diff = _diff(desired, observed)
    return tuple(sorted((*diff.wrong, *diff.surplus)))


def find_departed(
    view: View, delta: Delta, own_locator: Locator, attached: set[StableId]
) -> dict[StableId, int]:
    """Return the attached machines that left this host for good with `delta`: id -> epoch.

    A machine has left when it was here (located, or in transition from here), and after the delta
    is neither located here nor in transition from or to here. One that was attached ahead of its
    move and never was here is not meant. view: as it is before the delta. The epoch is that of the
    last state known; should the machine have come back with a newer one, the removal is void.
    """
    departed: dict[StableId, int] = {}
    for stable_id in sorted(delta.touched & attached):
        location, transition = view.location(stable_id), view.transition(stable_id)
        was_here = (location is not None and location.locator == own_locator) or (
            transition is not None and transition.source == own_locator
        )
        after, moving = _after(view, delta, stable_id)
        is_here = (after is not None and after.locator == own_locator) or (
            moving is not None and own_locator in (moving.source, moving.destination)
        )
        if was_here and not is_here:
            departed[stable_id] = max(
                row.epoch for row in (location, transition, after, moving) if row is not None
            )
    return departed


def _after(
    view: View, delta: Delta, stable_id: StableId
) -> tuple[Location | None, Transition | None]:
    location, transition = view.location(stable_id), view.transition(stable_id)
    if stable_id in delta.locations:
        location = delta.locations[stable_id].location
    elif stable_id in delta.removed_locations:
        location = None
    if stable_id in delta.transitions:
        transition = delta.transitions[stable_id]
    elif stable_id in delta.removed_transitions:
        transition = None
    return location, transition


def _diff(desired: Mapping[StableId, _R], observed: Mapping[StableId, _R]) -> RowDiff[_R]:
    wrong = {i: desired[i] for i in sorted(i for i in desired if observed.get(i) != desired[i])}
    return RowDiff(wrong, tuple(sorted(observed.keys() - desired.keys())))


def _without(diff: RowDiff[_R], ids: Set[StableId]) -> RowDiff[_R]:
    return RowDiff({i: row for i, row in diff.wrong.items() if i not in ids}, ())


def _keep_newer(
    diff: RowDiff[_R], observed: Mapping[StableId, _R], epoch_of: Callable[[_R], int]
) -> RowDiff[_R]:
    wrong = {
        i: row
        for i, row in diff.wrong.items()
        if i not in observed or epoch_of(row) >= epoch_of(observed[i])
    }
    return RowDiff(wrong, ())
