"""What one policy says to the first packet of a flow, found in two ways that share nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import Protocol

from netagent.model.addresses import HOST_NETWORK, StableId, network_of
from netagent.model.fleet import Identity, Location
from netagent.policy.entries import STRANGER, CompiledPolicy, Direction
from netagent.policy.evaluate import evaluate
from netagent.policy.fleet import FleetSnapshot
from netagent.policy.language import Party, Policy, Verdict
from netagent.policy.lookup import Key, find_class, find_interval
from netagent.policy.outside import outside_identity


@dataclass(frozen=True, slots=True)
class End:
    """One end of a flow: an id of the overlay, or an address outside.

    lower: the id, or the lower half of the address. outside: its upper half, None for an id.
    is_here: this host speaks for it.
    """

    lower: int
    outside: int | None = None
    is_here: bool = False

    @property
    def id(self) -> StableId | None:
        return None if self.outside is not None else StableId(self.lower)

    @property
    def network(self) -> int | None:
        """Return the number of its network, None outside."""
        return None if self.id is None else network_of(self.id)

    @property
    def is_machine(self) -> bool:
        return self.network not in (None, HOST_NETWORK)

    @property
    def address(self) -> IPv6Address:
        """Return the address of an end outside."""
        assert self.outside is not None
        return IPv6Address(self.outside << 64 | self.lower)


@dataclass(frozen=True, slots=True)
class Question:
    """What the policy of `network` is asked. port: ICMPv6 `type << 8 | code`; 0 where none."""

    network: int
    direction: Direction
    source: End
    destination: End
    protocol: int
    port: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What it says. rule: 0 for the default. audit_rule: None when audit changes nothing."""

    network: int
    version: int
    direction: Direction
    is_allowed: bool
    rule: int
    audit_rule: int | None


class Judge(Protocol):
    """The policies that a host has."""

    def ask(self, locations: Mapping[StableId, Location], question: Question) -> Answer | None:
        """Return the answer, or None when the host does not have that policy."""


@dataclass(frozen=True, slots=True)
class EntriesJudge:
    """Compiled policies by network number, looked up as the kernel does."""

    policies: Mapping[int, CompiledPolicy]

    def ask(self, locations: Mapping[StableId, Location], question: Question) -> Answer | None:
        compiled = self.policies.get(question.network)
        if compiled is None:
            return None
        ends = [
            identity_of(compiled, locations, end) for end in (question.source, question.destination)
        ]
        found = find_class(compiled, Key(question.direction, *ends))
        interval = find_interval(found, question.protocol, question.port)
        return Answer(
            question.network,
            compiled.version,
            question.direction,
            interval.verdict is Verdict.ALLOW,
            interval.rule,
            interval.audit_rule,
        )


def identity_of(
    compiled: CompiledPolicy, locations: Mapping[StableId, Location], end: End
) -> Identity:
    """Return what an end is to a policy."""
    if end.id is None:
        return outside_identity(compiled.prefixes, end.address)
    location = locations.get(end.id)
    return location.identity if location else STRANGER


@dataclass(frozen=True, slots=True)
class RulesJudge:
    """The policies as written, evaluated on labels; numbers of rules are those of `compiled`.

    machines: NETWORK/NAME by id.
    """

    policies: Mapping[int, Policy]
    compiled: Mapping[int, CompiledPolicy]
    fleet: FleetSnapshot
    machines: Mapping[StableId, str]

    def ask(self, locations: Mapping[StableId, Location], question: Question) -> Answer | None:
        policy = self.policies.get(question.network)
        if policy is None:
            return None
        compiled = self.compiled[question.network]
        ends = self._party(question.source), self._party(question.destination)
        said = evaluate(policy, self.fleet, *ends, question.protocol, question.port)
        numbers = {name: number for number, name in compiled.rules.items()} | {None: 0}
        return Answer(
            question.network,
            compiled.version,
            question.direction,
            said.verdict is Verdict.ALLOW,
            numbers[said.rule],
            numbers[said.audit_rule] if said.is_audited else None,
        )

    def _party(self, end: End) -> Party:
        if end.id is None:
            return Party(address=end.address)
        if not end.is_machine:
            return Party(is_host=True)
        return Party(machine=self.machines[end.id])
