"""The direct oracle: a verdict by walking the rules on labels, without compiling anything.

It follows docs/policy.md, "Precedence", line by line, and shares no code with the compiler, so that
the two can be held against each other.
"""

from __future__ import annotations

from collections.abc import Mapping

from netagent.policy.fleet import FleetSnapshot
from netagent.policy.language import (
    AnySelector,
    CidrSelector,
    Decision,
    HostSelector,
    LabelTest,
    MachineSelector,
    Mode,
    Party,
    Policy,
    Requirement,
    Rule,
    Selector,
    Verdict,
)


def evaluate(
    policy: Policy,
    fleet: FleetSnapshot,
    source: Party,
    destination: Party,
    protocol: int,
    port: int,
) -> Decision:
    """Return what `policy` says to the first packet of a flow.

    port: destination port; for ICMPv6 `type << 8 | code`; 0 for protocols without.
    Source or destination must be a machine of the policy's network, or nobody would ask it.
    """
    matching = [
        rule
        for rule in policy.rules
        if any(one.covers(protocol, port) for one in rule.traffic)
        and any(matches(one, source, fleet) for one in rule.source)
        and any(matches(one, destination, fleet) for one in rule.destination)
    ]
    enforced = [rule for rule in matching if rule.mode is Mode.ENFORCE]
    decision = _decide(policy, enforced, source, destination)
    if policy.mode is Mode.AUDIT and decision.verdict is Verdict.DENY:
        return Decision(Verdict.ALLOW, None, True, decision.rule)  # 5
    for rule in matching:  # 6
        if rule.mode is Mode.AUDIT:
            alone = _decide(policy, [*enforced, rule], source, destination)
            if alone.verdict is not decision.verdict:
                return Decision(decision.verdict, decision.rule, True, rule.name)
    return decision


def _decide(policy: Policy, rules: list[Rule], source: Party, destination: Party) -> Decision:
    for verdict in (Verdict.DENY, Verdict.ALLOW):  # 1, 2
        for rule in rules:
            if rule.verdict is verdict:
                return Decision(verdict, rule.name)
    if _is_of(policy.network, source) and _is_of(policy.network, destination):  # 3
        return Decision(policy.default)
    return Decision(Verdict.DENY)  # 4


def _is_of(network: str, party: Party) -> bool:
    return party.machine is not None and party.machine.partition("/")[0] == network


def matches(selector: Selector, party: Party, fleet: FleetSnapshot) -> bool:
    """Whether a selector matches a party; a machine that the fleet lacks is a KeyError."""
    if isinstance(selector, AnySelector):
        return True
    if isinstance(selector, HostSelector):
        return party.is_host
    if isinstance(selector, CidrSelector):
        return party.address is not None and selector.covers(party.address)
    if party.machine is None:
        return False
    if isinstance(selector, MachineSelector):
        return party.machine == selector.path
    member = fleet.members[party.machine]
    return member.network == selector.network and all(
        _holds(requirement, member.labels) for requirement in selector.requirements
    )


def _holds(requirement: Requirement, labels: Mapping[str, str]) -> bool:
    has = requirement.key in labels
    if requirement.test is LabelTest.EXISTS:
        return has
    if requirement.test is LabelTest.ABSENT:
        return not has
    is_listed = has and labels[requirement.key] in requirement.values
    return is_listed if requirement.test is LabelTest.IN else not is_listed
