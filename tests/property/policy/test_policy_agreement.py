"""The direct evaluator and the compiled entries say the same, about everything."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import assume, given, settings
from hypothesis import strategies as st
from policy_worlds import fleets, interesting_ports, pairs_asked, policies

from netagent.policy.book import make_rulebook, separate_named
from netagent.policy.changes import Effect, compare_policies
from netagent.policy.compiler import compile_policy
from netagent.policy.delta import plan_delta
from netagent.policy.evaluate import evaluate
from netagent.policy.explain import explain
from netagent.policy.language import AnySelector, Policy, Rule, Traffic, Verdict, built_in_policy
from netagent.policy.lookup import evaluate_compiled, key_of


@settings(max_examples=100, deadline=None)
@given(policies(), fleets(), st.data())
def test_compiled_entries_decide_as_the_rules_do(policy, fleet, data):
    fleet = separate_named(fleet, [policy])
    compiled = compile_policy(policy, fleet).entries
    asked = pairs_asked(policy, fleet)
    ports = interesting_ports(policy)
    if len(asked) > 60:
        asked = data.draw(st.lists(st.sampled_from(asked), min_size=60, max_size=60))

    for source, destination in asked:
        key = key_of(compiled, fleet, source, destination)
        for protocol, port in ports:
            expected = evaluate(policy, fleet, source, destination, protocol, port)
            found = evaluate_compiled(compiled, key, protocol, port)
            assert found == expected, (str(source), str(destination), protocol, port)


@settings(max_examples=100, deadline=None)
@given(policies(), fleets(), policies(), fleets(), st.data())
def test_an_incremental_compile_ends_where_a_full_one_does(first, fleet, second, later, data):
    """Through a mutation of the policy, of the fleet, and through an unrelated pair of both."""
    fleet = separate_named(fleet, [first])
    compilation = compile_policy(first, fleet)
    steps = [(_mutate(data.draw, first, second), fleet), (first, later), (second, later)]
    for policy, world in steps:
        world = separate_named(world, [policy])

        compilation = compile_policy(policy, world, version=3, previous=compilation)

        numbers = {name: number for number, name in compilation.entries.rules.items()}
        full = compile_policy(policy, world, version=3, numbers=numbers)
        assert compilation.entries == full.entries


def _mutate(draw, policy, donor):
    """One to three rules taken out, put in or put in another's place."""
    rules = list(policy.rules)
    spare = [rule for rule in donor.rules if rule.name not in {one.name for one in rules}]
    for _ in range(draw(st.integers(1, 3))):
        what = draw(st.sampled_from(("remove", "insert", "change")))
        at = draw(st.integers(0, max(0, len(rules) - 1)))
        if what == "remove" and rules:
            del rules[at]
        elif what == "insert" and spare:
            rules.insert(at, spare.pop())
        elif rules and donor.rules:
            rules[at] = replace(donor.rules[0], name=rules[at].name)
    return replace(policy, rules=tuple(rules))


@settings(max_examples=100, deadline=None)
@given(policies(), policies(), fleets(), st.booleans(), st.data())
def test_a_comparison_shows_that_something_opens_or_closes_exactly_when_it_does(
    first, second, fleet, others_consent, data
):
    donor = replace(second, mode=first.mode)
    later = data.draw(st.sampled_from((_mutate(data.draw, first, donor), second, first)))
    fleet = separate_named(fleet, [first, later])

    others = [OPEN_OPS] if others_consent else []

    lines = compare_policies([first, *others], [later, *others], fleet)

    opened, closed = set(), set()
    for source, destination in {*pairs_asked(first, fleet), *pairs_asked(later, fleet)}:
        for protocol, port in {*interesting_ports(first), *interesting_ports(later)}:
            was, will = (
                _passes([policy, *others], fleet, source, destination, protocol, port)
                for policy in (first, later)
            )
            if was != will:
                (opened if will else closed).add((str(source), str(destination)))
    effects = {line.effect for line in lines}
    assert (Effect.OPENS in effects) == bool(opened)
    assert (Effect.CLOSES in effects) == bool(closed)
    if first == later:
        assert not lines


OPEN_OPS = Policy(
    "ops",
    (Rule("all", (AnySelector(),), (AnySelector(),), Verdict.ALLOW, (Traffic(None),)),),
)


def _passes(policies, fleet, source, destination, protocol, port) -> bool:
    """Both ends asked by the direct evaluator; networks without policy have the built-in one."""
    given = {policy.network: policy for policy in policies}
    for party in (source, destination):
        if party.machine is None:
            continue
        network = party.machine.partition("/")[0]
        policy = given.get(network, built_in_policy(network))
        decision = evaluate(policy, fleet, source, destination, protocol, port)
        if decision.verdict is Verdict.DENY:
            return False
    return True


@settings(max_examples=100, deadline=None)
@given(policies(), fleets(), st.data())
def test_an_explanation_says_what_the_evaluator_says(policy, fleet, data):
    fleet = separate_named(fleet, [policy])
    asked = pairs_asked(policy, fleet)
    assume(asked)
    book = make_rulebook([policy], fleet)
    source, destination = data.draw(st.sampled_from(asked))

    for protocol, port in interesting_ports(policy):
        found = explain(book, source, destination, protocol, port)

        passes = _passes([policy], fleet, source, destination, protocol, port)
        assert (found.verdict is Verdict.ALLOW) == passes
        ends = [end for end in (source, destination) if end.machine is not None]
        assert len(found.opinions) == len(ends)


@settings(max_examples=100, deadline=None)
@given(policies(), policies(), fleets(), fleets())
def test_a_delta_turns_one_compilation_into_the_next(first, second, fleet, later):
    before = compile_policy(first, separate_named(fleet, [first]))
    after = compile_policy(second, separate_named(later, [second]), previous=before).entries
    before = before.entries

    delta = plan_delta(before, after)

    pairs = {key[:3]: key[3] for key in before.each_pair()} | dict(delta.pairs)
    prefixes = {**before.prefixes, **delta.prefixes}
    classes = {**before.classes, **delta.new_classes}
    assert {key: one for key, one in pairs.items() if one is not None} == {
        key[:3]: key[3] for key in after.each_pair()
    }
    assert {key: one for key, one in prefixes.items() if one is not None} == after.prefixes
    assert {**before.defaults, **delta.defaults} == after.defaults
    assert {key: one for key, one in classes.items() if key not in delta.old_classes} == (
        after.classes
    )
    assert plan_delta(after, after).is_empty
