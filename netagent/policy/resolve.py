"""Selectors to sets of identities, as bit masks over the positions that identities have here.

Positions are kept from one compilation to the next, so that a mask that did not change is the same
number. A position left by one identity is not given to another in the same step: a mask could then
stay the same while its meaning changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv6Network

from netagent.model.errors import PolicyError, Problem
from netagent.model.fleet import Identity
from netagent.policy.entries import HOST, STRANGER
from netagent.policy.fleet import FleetSnapshot, IdentityRecord
from netagent.policy.language import (
    AnySelector,
    CidrSelector,
    HostSelector,
    LabelSelector,
    LabelTest,
    MachineSelector,
    Policy,
    Requirement,
    Selector,
)
from netagent.policy.outside import divide_outside
from netagent.policy.references import selectors_of

Slot = tuple[str, Identity]
"""A network (empty for what is not a machine) and an identity."""


def bits_of(mask: int) -> Iterator[int]:
    """Yield the positions of the ones of a mask, from the lowest."""
    while mask:
        lowest = mask & -mask
        yield lowest.bit_length() - 1
        mask ^= lowest


@dataclass(frozen=True, slots=True)
class Universe:
    """Every identity that the policy of `network` can tell apart, with positions and index.

    own: mask of the network's machines. peers: mask of everybody else.
    with_key, with_value: the index over labels, by network.
    """

    network: str
    positions: Mapping[Slot, int]
    identities: Mapping[int, Identity]
    own: int
    peers: int
    prefixes: Mapping[IPv6Network, Identity]
    outside: Mapping[CidrSelector, frozenset[Identity]]
    of_network: Mapping[str, int]
    with_key: Mapping[tuple[str, str], int]
    with_value: Mapping[tuple[str, str, str], int]
    records: Mapping[str, Mapping[Identity, IdentityRecord]]

    def mask(self, selectors: Iterable[Selector]) -> int:
        """Return who is matched by any of the selectors."""
        found = 0
        for selector in selectors:
            found |= self._mask(selector)
        return found

    def _mask(self, selector: Selector) -> int:
        if isinstance(selector, AnySelector):
            return self.own | self.peers
        if isinstance(selector, HostSelector):
            return 1 << self.positions["", HOST]
        if isinstance(selector, CidrSelector):
            found = 0
            for identity in self.outside[selector]:
                found |= 1 << self.positions["", identity]
            return found
        if isinstance(selector, MachineSelector):
            return self._machine(selector)
        found = self.of_network.get(selector.network, 0)
        for requirement in selector.requirements:
            found &= self._requirement(selector.network, requirement)
        return found

    def _requirement(self, network: str, requirement: Requirement) -> int:
        """May have bits of other networks for negations; the caller has the network's mask."""
        if requirement.test is LabelTest.EXISTS:
            return self.with_key.get((network, requirement.key), 0)
        if requirement.test is LabelTest.ABSENT:
            return ~self.with_key.get((network, requirement.key), 0)
        found = 0
        for value in requirement.values:
            found |= self.with_value.get((network, requirement.key, value), 0)
        return found if requirement.test is LabelTest.IN else ~found

    def _machine(self, selector: MachineSelector) -> int:
        """May be of two identities while a machine turns from one to the other."""
        found = 0
        for identity, record in self.records.get(selector.network, {}).items():
            if selector.name in record.members:
                if len(record.members) > 1:
                    others = len(record.members) - 1
                    raise PolicyError(
                        [
                            Problem(
                                selector.span,
                                f"machine {selector.path} shares its identity with {others} others",
                                "separate_identities gives it one of its own; that comes first",
                            )
                        ]
                    )
                found |= 1 << self.positions[selector.network, identity]
        return found


def make_universe(
    policy: Policy, fleet: FleetSnapshot, previous: Universe | None = None
) -> Universe:
    """Return the identities that matter to `policy`; `previous` itself when nothing changed.

    Of other networks, those that a selector names; all others are strangers.
    """
    networks = {policy.network}
    cidrs = set()
    for selector in selectors_of(policy):
        if isinstance(selector, LabelSelector | MachineSelector):
            networks.add(selector.network)
        elif isinstance(selector, CidrSelector):
            cidrs.add(selector)
    records = {network: fleet.identities_of(network) for network in sorted(networks)}
    if (
        previous is not None
        and previous.network == policy.network
        and previous.records == records
        and previous.outside.keys() == cidrs
    ):
        return previous
    outside = divide_outside(cidrs)
    slots: list[Slot] = [("", STRANGER), ("", HOST)]
    slots += [("", one) for one in sorted({*outside.prefixes.values()} - {STRANGER})]
    slots += [(network, one) for network, found in records.items() for one in sorted(found)]
    positions = _place(slots, previous.positions if previous is not None else {})
    of_network: dict[str, int] = {}
    with_key: dict[tuple[str, str], int] = {}
    with_value: dict[tuple[str, str, str], int] = {}
    for network, found in records.items():
        for identity, record in found.items():
            bit = 1 << positions[network, identity]
            of_network[network] = of_network.get(network, 0) | bit
            for key, value in record.labels.items():
                with_key[network, key] = with_key.get((network, key), 0) | bit
                with_value[network, key, value] = with_value.get((network, key, value), 0) | bit
    own = of_network.get(policy.network, 0)
    everybody = 0
    for position in positions.values():
        everybody |= 1 << position
    return Universe(
        network=policy.network,
        positions=positions,
        identities={position: slot[1] for slot, position in positions.items()},
        own=own,
        peers=everybody & ~own,
        prefixes=outside.prefixes,
        outside=outside.matched,
        of_network=of_network,
        with_key=with_key,
        with_value=with_value,
        records=records,
    )


def _place(slots: list[Slot], previous: Mapping[Slot, int]) -> dict[Slot, int]:
    positions = {slot: previous[slot] for slot in slots if slot in previous}
    taken = set(previous.values())
    free = 0
    for slot in slots:
        if slot in positions:
            continue
        while free in taken:
            free += 1
        positions[slot] = free
        free += 1
    return positions


def is_universal(selectors: tuple[Selector, ...], network: str) -> bool:
    """Whether the words, not today's machines, say every machine of `network`."""
    for one in selectors:
        if isinstance(one, AnySelector):
            return True
        if isinstance(one, LabelSelector) and not one.requirements and one.network == network:
            return True
    return False
