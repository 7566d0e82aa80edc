"""The policies of a fleet side by side: who is asked about two parties, and what all say."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from netagent.policy.compiler import compile_policy
from netagent.policy.entries import OTHER_PROTOCOLS, CompiledPolicy, Interval, PolicyClass
from netagent.policy.fleet import FIRST_MACHINE_IDENTITY, FleetSnapshot, separate_identities
from netagent.policy.language import Party, Policy, Verdict, built_in_policy
from netagent.policy.lookup import Key, find_class, find_intervals, key_of
from netagent.policy.references import named_machines


@dataclass(frozen=True, slots=True)
class Rulebook:
    """A fleet with a compiled policy for every network: its own, or the built-in one."""

    fleet: FleetSnapshot
    policies: Mapping[str, Policy]
    compiled: Mapping[str, CompiledPolicy]


@dataclass(frozen=True, slots=True)
class Asked:
    """One end's question. at: `sender` or `receiver`."""

    at: str
    compiled: CompiledPolicy
    key: Key

    @property
    def policy_class(self) -> PolicyClass:
        """The class that decides at this end."""
        return find_class(self.compiled, self.key)


def separate_named(fleet: FleetSnapshot, policies: Iterable[Policy]) -> FleetSnapshot:
    """Return the fleet as it is once control has separated the machines that policies name."""
    named = frozenset[str]().union(*(named_machines(policy) for policy in policies))
    used = (identity for found in fleet.identities.values() for identity in found)
    free = max(used, default=FIRST_MACHINE_IDENTITY - 1) + 1
    return separate_identities(fleet, named, free)[0]


def make_rulebook(
    policies: Iterable[Policy], fleet: FleetSnapshot, versions: Mapping[str, int] | None = None
) -> Rulebook:
    """Return the policies compiled over the fleet.

    policies: at most one for each network, free of problems. versions: by network; 0 if missing.
    """
    versions = versions or {}
    given = {policy.network: policy for policy in policies}
    fleet = separate_named(fleet, given.values())
    every = {network: given.get(network, built_in_policy(network)) for network in fleet.networks}
    every.update(given)
    compiled = {
        network: compile_policy(policy, fleet, versions.get(network, 0)).entries
        for network, policy in every.items()
    }
    return Rulebook(fleet, every, compiled)


def who_is_asked(book: Rulebook, source: Party, destination: Party) -> tuple[Asked, ...]:
    """Return the ends that are asked, the sender's first; none between what no policy is about.

    Raises KeyError for a machine that the fleet does not have.
    """
    asked = []
    for at, party in (("sender", source), ("receiver", destination)):
        if party.machine is not None:
            compiled = book.compiled[book.fleet.members[party.machine].network]
            asked.append(Asked(at, compiled, key_of(compiled, book.fleet, source, destination)))
    return tuple(asked)


def protocols_of(classes: Iterable[PolicyClass]) -> list[int]:
    """Return every protocol that one of the classes lists, OTHER_PROTOCOLS (always) first."""
    return sorted({OTHER_PROTOCOLS}.union(*(one.protocols for one in classes)))


def segments(
    classes: Sequence[PolicyClass], protocol: int, first: int = 0, last: int = 0xFFFF
) -> Iterator[tuple[int, int, tuple[Interval, ...]]]:
    """Cut a range of ports so that in each piece every class has one interval.

    Yields (first, last, the interval of each class), in order, covering the range.
    """
    tables = [find_intervals(one, protocol) for one in classes]
    places = [0] * len(tables)
    start = first
    while start <= last:
        for index, table in enumerate(tables):
            while table[places[index]].last < start:
                places[index] += 1
        found = tuple(table[place] for table, place in zip(tables, places, strict=True))
        end = min([last, *(one.last for one in found)])
        yield start, end, found
        start = end + 1


def all_allow(intervals: Iterable[Interval]) -> bool:
    """Whether everybody who is asked allows."""
    return all(one.verdict is Verdict.ALLOW for one in intervals)
