"""The direct evaluator and the compiled entries say the same, about everything."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from policy_worlds import fleets, interesting_ports, pairs_asked, policies, separated

from netagent.policy.compiler import compile_policy
from netagent.policy.evaluate import evaluate
from netagent.policy.lookup import evaluate_compiled, key_of


@settings(max_examples=150, deadline=None)
@given(policies(), fleets(), st.data())
def test_compiled_entries_decide_as_the_rules_do(policy, fleet, data):
    fleet = separated(fleet, policy)
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


@settings(max_examples=150, deadline=None)
@given(policies(), fleets(), policies(), fleets(), st.data())
def test_an_incremental_compile_ends_where_a_full_one_does(first, fleet, second, later, data):
    """Through a mutation of the policy, of the fleet, and through an unrelated pair of both."""
    fleet = separated(fleet, first)
    compilation = compile_policy(first, fleet)
    steps = [(_mutate(data.draw, first, second), fleet), (first, later), (second, later)]
    for policy, world in steps:
        world = separated(world, policy)

        compilation = compile_policy(policy, world, version=3, previous=compilation)

        numbers = {name: number for number, name in compilation.entries.rules.items()}
        full = compile_policy(policy, world, version=3, numbers=numbers)
        assert compilation.entries == full.entries


def _mutate(draw, policy, donor):
    """One to three rules taken out, put in or put in another's place."""
    from dataclasses import replace

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
