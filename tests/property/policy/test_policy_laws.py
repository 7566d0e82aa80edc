"""Laws that hold for every policy: order, monotony, emptiness."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv6Network
from itertools import pairwise

from hypothesis import assume, given, settings
from hypothesis import strategies as st
from policy_worlds import (
    fleets,
    interesting_ports,
    pairs_asked,
    policies,
    rules,
)

from netagent.policy.book import separate_named
from netagent.policy.compiler import compile_policy
from netagent.policy.evaluate import matches
from netagent.policy.language import (
    CidrSelector,
    LabelSelector,
    LabelTest,
    MachineSelector,
    Mode,
    Party,
    Requirement,
    Verdict,
)
from netagent.policy.lookup import evaluate_compiled, key_of
from netagent.policy.references import selectors_of

MOST_PAIRS = 40

NOBODY = (
    LabelSelector("shop", (Requirement("app", LabelTest.IN, ("nothing",)),)),
    LabelSelector("shop", (Requirement("no-such-key", LabelTest.EXISTS),)),
    LabelSelector("idle"),
    MachineSelector("shop", "no-such-machine"),
    CidrSelector((IPv6Network("2001:db8::/32"),), (IPv6Network("2001:db8::/32"),)),
)
"""Well formed, and matching nobody whatever the fleet."""


def verdicts(policy, fleet, asked, ports) -> list[Verdict]:
    compiled = compile_policy(policy, fleet).entries
    return [
        evaluate_compiled(compiled, key_of(compiled, fleet, *pair), *point).verdict
        for pair in asked
        for point in ports
    ]


def questions(draw, policy, fleet):
    asked = pairs_asked(policy, fleet)
    assume(asked)
    if len(asked) > MOST_PAIRS:
        asked = draw(st.lists(st.sampled_from(asked), min_size=MOST_PAIRS, max_size=MOST_PAIRS))
    return asked, interesting_ports(policy)


@settings(max_examples=80, deadline=None)
@given(policies(), fleets(), st.data())
def test_the_order_of_rules_never_changes_a_verdict(policy, fleet, data):
    fleet = separate_named(fleet, [policy])
    shuffled = replace(policy, rules=tuple(data.draw(st.permutations(policy.rules))))
    asked, ports = questions(data.draw, policy, fleet)

    assert verdicts(shuffled, fleet, asked, ports) == verdicts(policy, fleet, asked, ports)


@settings(max_examples=80, deadline=None)
@given(policies(), rules("added"), fleets(), st.data())
def test_a_rule_more_moves_verdicts_its_own_way_only(policy, added, fleet, data):
    grown = replace(policy, rules=(*policy.rules, added))
    fleet = separate_named(fleet, [grown])
    asked, ports = questions(data.draw, grown, fleet)

    before = verdicts(policy, fleet, asked, ports)
    after = verdicts(grown, fleet, asked, ports)

    changed = {new for old, new in zip(before, after, strict=True) if old is not new}
    if added.mode is Mode.AUDIT:
        assert not changed
    assert changed <= {added.verdict}


@settings(max_examples=80, deadline=None)
@given(policies(), rules("empty"), st.sampled_from(NOBODY), st.booleans(), fleets(), st.data())
def test_a_rule_with_a_side_that_matches_nobody_changes_nothing(
    policy, rule, nobody, is_source, fleet, data
):
    side = {"source" if is_source else "destination": (nobody,)}
    grown = replace(policy, rules=(*policy.rules, replace(rule, **side)))
    fleet = separate_named(fleet, [grown])
    asked, ports = questions(data.draw, grown, fleet)

    assert verdicts(grown, fleet, asked, ports) == verdicts(policy, fleet, asked, ports)


@settings(max_examples=80, deadline=None)
@given(policies(), fleets())
def test_every_selector_resolves_to_exactly_whom_it_matches(policy, fleet):
    fleet = separate_named(fleet, [policy])
    universe = compile_policy(policy, fleet).universe

    for selector in selectors_of(policy):
        mask = universe.mask([selector])
        for (network, identity), position in universe.positions.items():
            record = fleet.identities_of(network).get(identity)
            for name in record.members if record else ():
                expected = matches(selector, Party(machine=f"{network}/{name}"), fleet)
                assert bool(mask >> position & 1) == expected


@settings(max_examples=60, deadline=None)
@given(policies(), fleets())
def test_entries_are_well_formed(policy, fleet):
    """Intervals are sorted, disjoint and whole, and nothing is stored that lookup finds without."""
    entries = compile_policy(policy, separate_named(fleet, [policy])).entries

    used = {class_id for *_, class_id in entries.each_pair()} | set(entries.defaults.values())
    assert used == set(entries.classes)
    for one in entries.classes.values():
        assert 0 in one.protocols
        for intervals in one.protocols.values():
            edges = [(interval.first, interval.last) for interval in intervals]
            assert edges[0][0] == 0
            assert edges[-1][1] == 0xFFFF
            assert all(left[1] + 1 == right[0] for left, right in pairwise(edges))
            outcomes = [interval[2:] for interval in intervals]
            assert all(left != right for left, right in pairwise(outcomes))
