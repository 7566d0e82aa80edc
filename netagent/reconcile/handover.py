"""Floating addresses that change hands: which, and in what order the kernel hears of it.

The endpoint row says which machine may send from an address, the location row as whom policy takes
it, the transition who may besides. They are three writes. So what belongs to the former holder goes
first, then the location turns, then comes what belongs to the new one: in between nobody has the
address, and nobody speaks with another's identity. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Set

from netagent.model.addresses import StableId
from netagent.reconcile.operations import (
    AwaitPrograms,
    EndpointBinding,
    Operation,
    Rank,
    RemoveEndpoints,
    RemoveTransitions,
    SetEndpoints,
    SetTransitions,
)
from netagent.reconcile.view import Delta, View


def find_handed_over(
    view: View, delta: Delta, *, is_kernel_known: bool = True
) -> frozenset[StableId]:
    """Return the floating addresses whose holder is another with `delta`; nobody is one too.

    is_kernel_known: whether the kernel is in step with `view`. If not, whoever has an address that
    `delta` names may be another in the kernel.
    """
    changed = {
        i
        for i, row in delta.locations.items()
        if row.holder != view.holder(i) or (row.holder is not None and not is_kernel_known)
    }
    gone = {i for i, row in delta.removed_locations.items() if row.holder is not None}
    return frozenset(changed | gone)


def holders_after(view: View, delta: Delta) -> dict[StableId, StableId]:
    """Return all floating addresses, each with its holder, as they are after `delta`."""
    holders = view.floating()
    for stable_id in delta.removed_locations:
        holders.pop(stable_id, None)
    named = {i: row.holder for i, row in delta.locations.items() if row.holder is not None}
    return holders | named


def plan_handover(
    view: View,
    delta: Delta,
    attached: Set[StableId],
    bindings: Mapping[StableId, EndpointBinding],
    *,
    is_kernel_known: bool,
) -> tuple[Operation, ...]:
    """Return the operations that take addresses from former holders and give them to new ones.

    attached: machines with an interface here; bindings: of those that are new holders.
    is_kernel_known: as in find_handed_over.
    """
    handed = find_handed_over(view, delta, is_kernel_known=is_kernel_known)
    taken = tuple(sorted(i for i in handed if view.holder(i) in attached or not is_kernel_known))
    moving = (i for i in handed if view.transition(i) is not None or not is_kernel_known)
    given = {
        i: bindings[row.holder]
        for i, row in sorted(delta.locations.items())
        if i in handed and row.holder is not None and row.holder in bindings
    }
    kept = {
        i: row for i in handed - delta.removed_transitions.keys() if (row := view.transition(i))
    }
    after = kept | {i: row for i, row in delta.transitions.items() if i in handed}
    return (
        RemoveEndpoints(taken, Rank.REVOKE),
        RemoveTransitions(tuple(sorted(moving)), Rank.REVOKE),
        *await_programs(taken, given),
        SetTransitions(dict(sorted(after.items())), rank=Rank.HAND_OVER),
        SetEndpoints(given, Rank.HAND_OVER),
    )


def await_programs(
    taken: tuple[StableId, ...], given: Mapping[StableId, EndpointBinding]
) -> tuple[AwaitPrograms, ...]:
    """Return what comes between two holders on this host.

    A program that has read the endpoint before it was taken may read the location after it turned.
    """
    return (AwaitPrograms(),) if any(i in given for i in taken) else ()
