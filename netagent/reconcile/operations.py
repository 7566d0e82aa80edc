"""Operations on the kernel, and the order that loses no packet and lets none through.

    rank  operation            why there
    1     RemoveLocations      revocation: what control took away stops at once
          RemoveEndpoints      revocation: of floating addresses that change hands (handover.py),
          RemoveTransitions    as are these and AwaitPrograms
    2     SetPolicies          revocation too; and an identity has its entries before a location
                               names it: one that no entry knows is judged by the default
    3     SetPeers             a location is of use only when WireGuard knows its host
    4     SetEndpoints         a packet for a location here needs the interface
    5     SetTransitions       both places are permitted before the location flips
    6     Prepare              what Activate needs is done before there is hurry
    7     SetLocations         the flip: commits a move
    8     Activate             the machine's own route follows its address
    9     RemovePolicies       no location here needs them any more; without its policy, a machine
                               that is still here could not say a word
    10    RaiseGeneration      flows are evaluated again once all that decides them is in place;
                               before, one could be found right by half of it and stay
    11    SetTransitions       of floating addresses that have changed hands: whoever has them now
          SetEndpoints         finds no flow that was right for the former holder
    12    RemoveTransitions    from here in reverse: nothing above refers to them any more
    13    Release              what was prepared for a move that did not come
    14    RemoveEndpoints
    15    SetPeers             without the hosts that went

Each is idempotent; a failure leaves a state from which the whole plan can be made and run again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar, TypeAlias

from netagent.model.addresses import StableId
from netagent.model.fleet import Host, Location, Transition
from netagent.policy.entries import CompiledPolicy


class Rank(IntEnum):
    """The place of an operation in the order."""

    REVOKE = 1
    SET_POLICIES = 2
    ADD_PEERS = 3
    SET_ENDPOINTS = 4
    SET_TRANSITIONS = 5
    PREPARE = 6
    SET_LOCATIONS = 7
    ACTIVATE = 8
    REMOVE_POLICIES = 9
    RAISE_GENERATION = 10
    HAND_OVER = 11
    REMOVE_TRANSITIONS = 12
    RELEASE = 13
    REMOVE_ENDPOINTS = 14
    REMOVE_PEERS = 15


@dataclass(frozen=True, slots=True)
class EndpointBinding:
    """One row of the endpoint table.

    mac: 6 bytes, wire order. is_peer: the other end of the veth is in another namespace.
    """

    ifindex: int
    mac: bytes
    is_peer: bool


@dataclass(frozen=True, slots=True)
class RemoveLocations:
    """Takes rows out of the location table."""

    rank: ClassVar[Rank] = Rank.REVOKE
    ids: tuple[StableId, ...]


@dataclass(frozen=True, slots=True)
class SetPolicies:
    """Puts these policies in force, each as a whole; ascending by network number."""

    rank: ClassVar[Rank] = Rank.SET_POLICIES
    policies: tuple[CompiledPolicy, ...]


@dataclass(frozen=True, slots=True)
class RemovePolicies:
    """Takes away all that the kernel holds of these networks' policies."""

    rank: ClassVar[Rank] = Rank.REMOVE_POLICIES
    networks: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class RaiseGeneration:
    """Has every flow evaluated again on its next packet."""

    rank: ClassVar[Rank] = Rank.RAISE_GENERATION


@dataclass(frozen=True, slots=True)
class SetPeers:
    """Makes these hosts the whole list of WireGuard's peers; sorted by name."""

    rank: Rank
    hosts: tuple[Host, ...]


@dataclass(frozen=True, slots=True)
class SetEndpoints:
    """Writes rows of the endpoint table."""

    rows: Mapping[StableId, EndpointBinding]
    rank: Rank = Rank.SET_ENDPOINTS


@dataclass(frozen=True, slots=True)
class SetTransitions:
    """Writes rows of the transition table, with a new deadline.

    is_refresh: the deadline is all that changes.
    """

    rows: Mapping[StableId, Transition]
    is_refresh: bool = False
    rank: Rank = Rank.SET_TRANSITIONS


@dataclass(frozen=True, slots=True)
class SetLocations:
    """Writes rows of the location table in one call."""

    rank: ClassVar[Rank] = Rank.SET_LOCATIONS
    rows: Mapping[StableId, Location]


@dataclass(frozen=True, slots=True)
class Prepare:
    """Readies the interfaces of machines that are on their way here."""

    rank: ClassVar[Rank] = Rank.PREPARE
    ids: tuple[StableId, ...]


@dataclass(frozen=True, slots=True)
class Release:
    """Lets go of what was readied."""

    rank: ClassVar[Rank] = Rank.RELEASE
    ids: tuple[StableId, ...]


@dataclass(frozen=True, slots=True)
class Activate:
    """Makes these machines' interfaces here the ones they send through."""

    rank: ClassVar[Rank] = Rank.ACTIVATE
    ids: tuple[StableId, ...]


@dataclass(frozen=True, slots=True)
class RemoveTransitions:
    """Takes rows out of the transition table."""

    ids: tuple[StableId, ...]
    rank: Rank = Rank.REMOVE_TRANSITIONS


@dataclass(frozen=True, slots=True)
class RemoveEndpoints:
    """Takes rows out of the endpoint table."""

    ids: tuple[StableId, ...]
    rank: Rank = Rank.REMOVE_ENDPOINTS


@dataclass(frozen=True, slots=True)
class AwaitPrograms:
    """Waits, some 15 ms, until no program is at a packet that it began before this."""

    rank: ClassVar[Rank] = Rank.REVOKE


Operation: TypeAlias = (
    RemoveLocations
    | SetPolicies
    | RemovePolicies
    | RaiseGeneration
    | SetPeers
    | SetEndpoints
    | SetTransitions
    | SetLocations
    | Prepare
    | Activate
    | Release
    | RemoveTransitions
    | RemoveEndpoints
    | AwaitPrograms
)


def plan_peers(
    before: Iterable[Host], after: Iterable[Host], own_name: str
) -> tuple[SetPeers, ...]:
    """Return the operations that bring WireGuard's peers from `before` to `after`.

    New and changed peers come at once; a peer that goes stays until the rest of the plan no longer
    needs it, unless a new one has taken its key or locator.
    """
    old = {host.name: host for host in before if host.name != own_name}
    new = {host.name: host for host in after if host.name != own_name}
    if old == new:
        return ()
    final = tuple(new[name] for name in sorted(new))
    claimed = {host.public_key for host in final} | {host.locator for host in final}
    leaving = [
        host
        for name, host in old.items()
        if name not in new and not {host.public_key, host.locator} & claimed
    ]
    plan = []
    if any(old.get(name) != host for name, host in new.items()):
        union = sorted([*final, *leaving], key=lambda host: host.name)
        plan.append(SetPeers(Rank.ADD_PEERS, tuple(union)))
    if leaving or not plan:
        plan.append(SetPeers(Rank.REMOVE_PEERS, final))
    return tuple(plan)


def order(operations: Iterable[Operation]) -> tuple[Operation, ...]:
    """Return the operations sorted by rank, without those that have nothing to do."""
    return tuple(sorted((o for o in operations if not _is_empty(o)), key=lambda o: o.rank))


def _is_empty(operation: Operation) -> bool:
    match operation:
        case SetPeers() | RaiseGeneration() | AwaitPrograms():
            return False
        case SetPolicies():
            return not operation.policies
        case RemovePolicies():
            return not operation.networks
        case SetEndpoints() | SetTransitions() | SetLocations():
            return not operation.rows
        case _:
            return not operation.ids
