"""Verdicts from compiled entries, found the way the kernel finds them."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

from netagent.model.fleet import Identity
from netagent.policy.entries import (
    DEFAULT_RULE,
    HOST,
    OTHER_PROTOCOLS,
    STRANGER,
    CompiledPolicy,
    Direction,
    Interval,
    PolicyClass,
)
from netagent.policy.fleet import FleetSnapshot
from netagent.policy.language import Decision, Party
from netagent.policy.outside import outside_identity


@dataclass(frozen=True, slots=True)
class Key:
    """What the pair table is asked."""

    direction: Direction
    source: Identity
    destination: Identity


def find_class(compiled: CompiledPolicy, key: Key) -> PolicyClass:
    """Return a pair's class: its own, that with a stranger for the peer, or the default's."""
    rows = compiled.pairs[key.direction]
    found = rows.get(key.source, {}).get(key.destination)
    if found is None and key.direction is Direction.EGRESS:
        found = rows.get(key.source, {}).get(STRANGER)
    if found is None and key.direction is Direction.INGRESS:
        found = rows.get(STRANGER, {}).get(key.destination)
    return compiled.classes[compiled.defaults[key.direction] if found is None else found]


def find_intervals(policy_class: PolicyClass, protocol: int) -> tuple[Interval, ...]:
    """Return the intervals that decide about a protocol."""
    protocols = policy_class.protocols
    return protocols.get(protocol, protocols[OTHER_PROTOCOLS])


def find_interval(policy_class: PolicyClass, protocol: int, port: int) -> Interval:
    """Return the interval that a port (ICMPv6: `type << 8 | code`) lies in."""
    intervals = find_intervals(policy_class, protocol)
    return intervals[bisect_right(intervals, port, key=lambda one: one.first) - 1]


def evaluate_compiled(compiled: CompiledPolicy, key: Key, protocol: int, port: int) -> Decision:
    """Return what the compiled policy says to the first packet of a flow."""
    return decision_of(compiled, find_interval(find_class(compiled, key), protocol, port))


def decision_of(compiled: CompiledPolicy, interval: Interval) -> Decision:
    """Return an interval's verdict with rules by name."""
    return Decision(
        interval.verdict,
        _rule_name(compiled, interval.rule),
        interval.audit_rule is not None,
        _rule_name(compiled, interval.audit_rule or DEFAULT_RULE),
    )


def _rule_name(compiled: CompiledPolicy, number: int) -> str | None:
    return None if number == DEFAULT_RULE else compiled.rules[number]


def key_of(
    compiled: CompiledPolicy, fleet: FleetSnapshot, source: Party, destination: Party
) -> Key:
    """Return the key under which the policy's network is asked about two parties.

    One of them must be a machine of that network.
    """
    is_own = [_is_own(compiled.network, one) for one in (source, destination)]
    assert any(is_own)
    direction = Direction.INSIDE
    if not all(is_own):
        direction = Direction.EGRESS if is_own[0] else Direction.INGRESS
    return Key(
        direction,
        _identity_of(compiled, fleet, source),
        _identity_of(compiled, fleet, destination),
    )


def _is_own(network: str, party: Party) -> bool:
    return party.machine is not None and party.machine.startswith(f"{network}/")


def _identity_of(compiled: CompiledPolicy, fleet: FleetSnapshot, party: Party) -> Identity:
    if party.machine is not None:
        return fleet.members[party.machine].identity
    if party.is_host:
        return HOST
    assert party.address is not None
    return outside_identity(compiled.prefixes, party.address)
