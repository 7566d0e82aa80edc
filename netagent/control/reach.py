"""Which networks may talk to each other under both policies, by the words of their rules.

Conservative: a rule counts whoever its labels match today, and whatever a deny takes away again.
Hosts need the locations of the networks that their machines may talk to, and no others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from netagent.policy.language import (
    AnySelector,
    LabelSelector,
    MachineSelector,
    Mode,
    Policy,
    Selector,
    Verdict,
)


@dataclass(frozen=True, slots=True)
class Side:
    """Networks that a policy lets its machines talk with, in one direction. everybody: with all."""

    everybody: bool
    networks: frozenset[str]

    def includes(self, network: str) -> bool:
        """Whether a network is among them."""
        return self.everybody or network in self.networks


@dataclass(frozen=True, slots=True)
class Consent:
    """What a policy consents to across its border. to: it sends there. by: it takes from there."""

    to: Side
    by: Side

    @property
    def is_any(self) -> bool:
        """Whether it consents to anything."""
        return any(side.everybody or side.networks for side in (self.to, self.by))


def consent_of(policy: Policy) -> Consent:
    """Return what a policy consents to; one in audit mode lets everything pass."""
    if policy.mode is Mode.AUDIT:
        everybody = Side(True, frozenset())
        return Consent(everybody, everybody)
    allowing = [
        rule for rule in policy.rules if rule.verdict is Verdict.ALLOW and rule.mode is Mode.ENFORCE
    ]
    own = policy.network
    to = [rule.destination for rule in allowing if _names(rule.source, own)]
    by = [rule.source for rule in allowing if _names(rule.destination, own)]
    return Consent(_side(own, to), _side(own, by))


def find_reach(
    consents: Mapping[str, Consent], numbers: Mapping[str, int]
) -> dict[int, frozenset[int]]:
    """Return the numbers of the networks that each network may talk with, in either direction.

    consents: of the networks that consent to anything, by name. numbers: by name.
    """
    found: dict[int, set[int]] = {}
    names = sorted(consents.keys() & numbers.keys())
    for index, one in enumerate(names):
        for two in names[index + 1 :]:
            if _may_send(consents, one, two) or _may_send(consents, two, one):
                found.setdefault(numbers[one], set()).add(numbers[two])
                found.setdefault(numbers[two], set()).add(numbers[one])
    return {number: frozenset(others) for number, others in found.items()}


def _may_send(consents: Mapping[str, Consent], sender: str, receiver: str) -> bool:
    return consents[sender].to.includes(receiver) and consents[receiver].by.includes(sender)


def _names(selectors: Iterable[Selector], network: str) -> bool:
    return any(
        isinstance(one, AnySelector)
        or (isinstance(one, LabelSelector | MachineSelector) and one.network == network)
        for one in selectors
    )


def _side(own: str, peers: Iterable[tuple[Selector, ...]]) -> Side:
    selectors = [one for each in peers for one in each]
    named = (one.network for one in selectors if isinstance(one, LabelSelector | MachineSelector))
    return Side(
        any(isinstance(one, AnySelector) for one in selectors),
        frozenset(name for name in named if name != own),
    )
