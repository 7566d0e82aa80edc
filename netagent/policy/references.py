"""What a policy names, against the fleet: what is unknown, and what must not be named."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv6Network

from netagent.model.errors import Problem, Span
from netagent.policy.fleet import FleetSnapshot
from netagent.policy.language import (
    CidrSelector,
    LabelSelector,
    MachineSelector,
    Party,
    Policy,
    Selector,
)
from netagent.policy.nodes import nearest, quote


def selectors_of(policy: Policy) -> Iterator[Selector]:
    """Yield every selector of every rule, repetitions included."""
    for rule in policy.rules:
        yield from rule.source
        yield from rule.destination


def named_machines(policy: Policy) -> frozenset[str]:
    """Return the paths of the machines that rules name: each needs an identity of its own."""
    found = (one.path for one in selectors_of(policy) if isinstance(one, MachineSelector))
    return frozenset(found)


def check_references(policy: Policy, fleet: FleetSnapshot) -> list[Problem]:
    """Return what the policy names and the fleet does not have, sorted by place."""
    problems: set[Problem] = set()
    if policy.network not in fleet.networks:
        problems.add(_unknown_network(policy.network, policy.span, fleet))
    for selector in selectors_of(policy):
        if isinstance(selector, LabelSelector) and selector.network not in fleet.networks:
            if selector.network != policy.network:
                problems.add(_unknown_network(selector.network, selector.span, fleet))
        elif isinstance(selector, MachineSelector):
            problems.update(_check_machine(selector.path, selector.span, fleet))
        elif isinstance(selector, CidrSelector):
            problems.update(_check_prefixes(selector, fleet.prefix))
    for case in policy.cases:
        for party in (case.source, case.destination):
            problems.update(_check_party(party, case.span, fleet))
        if not any(_is_machine_of(one, policy) for one in (case.source, case.destination)):
            message = f"neither {case.source} nor {case.destination} is of network {policy.network}"
            problems.add(Problem(case.span, message, "put the test into the policy it is about"))
    return sorted(problems)


def _is_machine_of(party: Party, policy: Policy) -> bool:
    return party.machine is not None and party.machine.startswith(f"{policy.network}/")


def _unknown_network(network: str, span: Span, fleet: FleetSnapshot) -> Problem:
    message = f"no network is called {quote(network)}"
    return Problem(span, message, nearest(network, fleet.networks))


def _check_machine(path: str, span: Span, fleet: FleetSnapshot) -> Iterator[Problem]:
    network, _, _ = path.partition("/")
    if network not in fleet.networks:
        yield _unknown_network(network, span, fleet)
    elif path not in fleet.members:
        near = [one for one in fleet.members if one.startswith(f"{network}/")]
        yield Problem(span, f"no machine is called {quote(path)}", nearest(path, near))


def _check_prefixes(selector: CidrSelector, fleet_prefix: IPv6Network | None) -> Iterator[Problem]:
    for prefix in selector.prefixes:
        if fleet_prefix is not None and prefix.overlaps(fleet_prefix):
            covers = "covers" if fleet_prefix.subnet_of(prefix) else "is within"
            yield Problem(
                selector.span,
                f"cidr: {prefix} {covers} the fleet's prefix {fleet_prefix}",
                "select machines by labels, network or name; 2000::/3 is the public internet",
            )


def _check_party(party: Party, span: Span, fleet: FleetSnapshot) -> Iterator[Problem]:
    if party.machine is not None:
        yield from _check_machine(party.machine, span, fleet)
    elif party.address is not None and fleet.prefix is not None and party.address in fleet.prefix:
        hint = "name the machine, or write host"
        yield Problem(span, f"{party.address} is within the fleet's prefix {fleet.prefix}", hint)
