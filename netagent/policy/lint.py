"""What is allowed to stand in a policy but hardly meant: warnings, never errors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import IPv6Network

from netagent.model.errors import Problem
from netagent.policy.compiler import Compilation
from netagent.policy.language import (
    AnySelector,
    CidrSelector,
    HostSelector,
    LabelSelector,
    LabelTest,
    MachineSelector,
    Mode,
    Policy,
    Requirement,
    Rule,
    Selector,
    Traffic,
    Verdict,
)
from netagent.policy.resolve import bits_of

_NEVER_OUTSIDE = (IPv6Network("fe80::/10"), IPv6Network("ff00::/8"))


def lint(compilation: Compilation) -> list[Problem]:
    """Return the warnings about a policy over the fleet it was compiled for, sorted by place."""
    policy = compilation.policy
    warnings: set[Problem] = set(_unused(policy))
    numbers = {name: number for number, name in compilation.entries.rules.items()}
    for rule in policy.rules:
        empty = set(_empty_selectors(rule, compilation))
        warnings |= empty
        if not any(_can_be_of(policy.network, one) for one in (*rule.source, *rule.destination)):
            message = f"rule {rule.name!r} can never match"
            hint = f"neither from nor to is a machine of network {policy.network}: nobody asks it"
            warnings.add(Problem(rule.span, message, hint))
        elif not empty and rule.verdict is Verdict.ALLOW and rule.mode is Mode.ENFORCE:
            warnings |= set(_shadowed(rule, numbers, compilation))
    return sorted(warnings)


def _unused(policy: Policy) -> Iterator[Problem]:
    for one in policy.unused:
        yield Problem(one.span, f"{one.kind} {one.name!r} is not used", "remove it, or refer to it")


def _can_be_of(network: str, selector: Selector) -> bool:
    if isinstance(selector, LabelSelector | MachineSelector):
        return selector.network == network
    return isinstance(selector, AnySelector)


def _empty_selectors(rule: Rule, compilation: Compilation) -> Iterator[Problem]:
    for side, selectors in (("from", rule.source), ("to", rule.destination)):
        for selector in selectors:
            if isinstance(selector, AnySelector | HostSelector):
                continue
            what = f"rule {rule.name!r}: {side}: {_describe(selector)}"
            if isinstance(selector, CidrSelector):
                for prefix in selector.prefixes:
                    if any(prefix.subnet_of(one) for one in _NEVER_OUTSIDE):
                        hint = "link-local and multicast packets never reach a policy"
                        yield Problem(selector.span, f"{what}: {prefix} matches nothing", hint)
            if not compilation.universe.mask([selector]):
                hint = "so it matches nothing, never everything"
                yield Problem(selector.span, f"{what} matches nobody today", hint)


def _describe(selector: Selector) -> str:
    if isinstance(selector, MachineSelector):
        return f"machine {selector.path}"
    if isinstance(selector, CidrSelector):
        return f"cidr {', '.join(map(str, selector.prefixes))}"
    if isinstance(selector, LabelSelector):
        if not selector.requirements:
            return f"network {selector.network}"
        lines = ", ".join(_describe_line(one) for one in selector.requirements)
        return f"labels {lines} in network {selector.network}"
    return "any" if isinstance(selector, AnySelector) else "host"


def _describe_line(line: Requirement) -> str:
    if line.test in (LabelTest.EXISTS, LabelTest.ABSENT):
        return f"{line.key} {line.test.value}"
    values = " or ".join(line.values)
    return f"{line.key}: {values}" if line.test is LabelTest.IN else f"{line.key}: not {values}"


def _shadowed(rule: Rule, numbers: dict[str, int], compilation: Compilation) -> Iterator[Problem]:
    """Warn if enforced denies take all traffic of an allow, at every pair that it matches."""
    denies = {
        numbers[one.name]: one
        for one in compilation.policy.rules
        if one.verdict is Verdict.DENY and one.mode is Mode.ENFORCE
    }
    deny_mask = sum(1 << number for number in denies)
    own = compilation.universe.own
    sources, destinations = compilation.masks[numbers[rule.name]]
    known: dict[int, bool] = {0: False}
    for source in bits_of(sources):
        reach = compilation.sources[source] & deny_mask
        asked = destinations if own >> source & 1 else destinations & own
        for destination in bits_of(asked):
            product = reach & compilation.destinations[destination]
            if product not in known:
                known[product] = _covers([denies[one] for one in bits_of(product)], rule.traffic)
            if not known[product]:
                return
    names = sorted(
        {
            denies[number].name
            for product, covers in known.items()
            if covers
            for number in bits_of(product)
        }
    )
    if names:
        by = ", ".join(repr(name) for name in names)
        message = f"rule {rule.name!r} allows nothing: what it allows is denied by {by}"
        yield Problem(rule.span, message, "deny beats allow, whatever the order")


def _covers(denies: list[Rule], traffic: Iterable[Traffic]) -> bool:
    denied = [one for rule in denies for one in rule.traffic]
    return all(_is_within(one, denied) for one in traffic)


def _is_within(wanted: Traffic, denied: list[Traffic]) -> bool:
    relevant = (one for one in denied if one.protocol in (None, wanted.protocol))
    port = wanted.first
    for one in sorted(relevant, key=lambda one: one.first):
        if one.first > port:
            return False
        port = max(port, one.last + 1)
        if port > wanted.last:
            return True
    return False
