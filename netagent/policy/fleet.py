"""The fleet as policy sees it: networks, machines with labels, and identities.

The kernel judges by identity alone, so an identity must stand for machines that no selector tells
apart: those of one network with equal labels, and for a machine that a policy names, that machine
alone (docs/policy.md, "Machines by name").
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv6Network

from netagent.model.errors import InvalidError
from netagent.model.fleet import IDENTITY_HOST, Identity

FIRST_MACHINE_IDENTITY = Identity(IDENTITY_HOST + 1)
"""0 is a stranger, 1 the hosts'; what control allocates begins here."""

LAST_MACHINE_IDENTITY = Identity((1 << 31) - 1)
"""From 1 << 31 on, identities are those of outside addresses."""


@dataclass(frozen=True, slots=True)
class Member:
    """One machine. labels: must not change once handed over."""

    network: str
    name: str
    identity: Identity
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def path(self) -> str:
        """NETWORK/NAME."""
        return f"{self.network}/{self.name}"


@dataclass(frozen=True, slots=True)
class IdentityRecord:
    """What an identity stands for. members: names of its machines, at least one."""

    network: str
    labels: Mapping[str, str]
    members: frozenset[str]


@dataclass(frozen=True, slots=True)
class FleetSnapshot:
    """The fleet at one moment.

    prefix: the fleet's, to tell outside from inside; None when unknown (then that is not checked).
    networks: name to number. members: by NETWORK/NAME. identities: by network, then number.
    Made by `make_snapshot`, and from there by `with_member` and `without_member`, which share what
    they leave alone: a change costs the same in a large fleet.
    """

    prefix: IPv6Network | None
    networks: Mapping[str, int]
    members: Mapping[str, Member]
    identities: Mapping[str, Mapping[Identity, IdentityRecord]]

    def identities_of(self, network: str) -> Mapping[Identity, IdentityRecord]:
        """Return the identities of a network; none if it has no machines."""
        return self.identities.get(network, {})

    def with_member(self, member: Member) -> FleetSnapshot:
        """Return the fleet with one machine added, or replaced when its path is taken.

        Raises InvalidError if its network is unknown, its identity is not one for machines, or the
        identity stands for other labels or another network.
        """
        without = self.without_member(member.path) if member.path in self.members else self
        if member.network not in self.networks:
            raise InvalidError("network", f"{member.network!r} is unknown")
        if not FIRST_MACHINE_IDENTITY <= member.identity <= LAST_MACHINE_IDENTITY:
            raise InvalidError(
                "identity", f"{member.identity} of {member.path} is not an identity for machines"
            )
        for network, records in without.identities.items():
            if network != member.network and member.identity in records:
                raise InvalidError(
                    "identity", f"{member.identity} of {member.path} belongs to network {network}"
                )
        own = dict(without.identities_of(member.network))
        record = own.get(member.identity)
        if record is not None and record.labels != member.labels:
            raise InvalidError(
                "identity", f"{member.identity} of {member.path} stands for other labels"
            )
        names = record.members if record is not None else frozenset()
        own[member.identity] = IdentityRecord(member.network, member.labels, names | {member.name})
        return FleetSnapshot(
            self.prefix,
            self.networks,
            {**without.members, member.path: member},
            {**without.identities, member.network: own},
        )

    def without_member(self, path: str) -> FleetSnapshot:
        """Return the fleet without a machine; without its identity if it was the last."""
        member = self.members[path]
        own = dict(self.identities_of(member.network))
        record = own.pop(member.identity)
        rest = record.members - {member.name}
        if rest:
            own[member.identity] = IdentityRecord(member.network, record.labels, rest)
        members = dict(self.members)
        del members[path]
        return FleetSnapshot(
            self.prefix, self.networks, members, {**self.identities, member.network: own}
        )


def make_snapshot(
    prefix: IPv6Network | None, networks: Mapping[str, int], members: Iterable[Member]
) -> FleetSnapshot:
    """Return a snapshot of all machines; InvalidError as `with_member`, or for a path met twice."""
    by_path: dict[str, Member] = {}
    names: dict[Identity, list[Member]] = {}
    for member in members:
        if member.path in by_path:
            raise InvalidError("machines", f"{member.path} is there twice")
        by_path[member.path] = member
        names.setdefault(member.identity, []).append(member)
    empty = FleetSnapshot(prefix, dict(networks), {}, {})
    identities: dict[str, dict[Identity, IdentityRecord]] = {}
    for identity, group in sorted(names.items()):
        first = group[0]
        for member in group:
            if (member.network, member.labels) != (first.network, first.labels):
                raise InvalidError(
                    "identity", f"{identity} stands for both {first.path} and {member.path}"
                )
        empty.with_member(first)
        identities.setdefault(first.network, {})[identity] = IdentityRecord(
            first.network, first.labels, frozenset(member.name for member in group)
        )
    return FleetSnapshot(prefix, dict(networks), by_path, identities)


def separate_identities(
    fleet: FleetSnapshot, named: Iterable[str], next_identity: int
) -> tuple[FleetSnapshot, dict[str, Identity]]:
    """Return the fleet in which every named machine has an identity of its own.

    named: paths that policies name (`named_machines`); unknown ones are skipped.
    next_identity: the first number that was never given out; new ones count up from it.
    Returns also who got a new identity, by path, in the order of paths.
    """
    changed: dict[str, Identity] = {}
    for path in sorted(set(named) & fleet.members.keys()):
        member = fleet.members[path]
        record = fleet.identities[member.network][member.identity]
        if len(record.members) == 1:
            continue
        identity = Identity(next_identity + len(changed))
        changed[path] = identity
        fleet = fleet.with_member(Member(member.network, member.name, identity, member.labels))
    return fleet, changed
