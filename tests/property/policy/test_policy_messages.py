"""Policies over the wire: what an agent holds is what control compiled, whichever way it came."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from policy_worlds import fleets, policies

from netagent.api import convert_policy
from netagent.api.convert_policy import policy_to_messages
from netagent.api.convert_policy_reading import policies_from_messages
from netagent.policy.book import separate_named
from netagent.policy.compiler import compile_policy
from netagent.policy.delta import apply_delta, empty_policy, plan_delta
from netagent.policy.entries import Direction

CONTENT = b"\x07" * 16


@st.composite
def revisions(draw):
    """Two compilations of one network's policy, over fleets of which one follows the other."""
    first, second = draw(policies()), draw(policies())
    before = compile_policy(first, separate_named(draw(fleets()), [first]), version=3)
    later = separate_named(draw(fleets()), [second])
    return before.entries, compile_policy(second, later, version=4, previous=before).entries


@settings(max_examples=100, deadline=None)
@given(revisions())
def test_a_delta_applied_gives_what_it_was_planned_for(pair):
    before, after = pair

    assert apply_delta(before, plan_delta(before, after)) == after


@settings(max_examples=100, deadline=None)
@given(revisions())
def test_rows_that_a_delta_leaves_alone_stay_the_same_object(pair):
    before, after = pair
    delta = plan_delta(before, after)

    applied = apply_delta(before, delta)

    touched = {(direction, source) for direction, source, _ in delta.pairs}
    for direction in Direction:
        for source, row in applied.pairs[direction].items():
            if (direction, source) not in touched:
                assert row is before.pairs[direction][source]
    assert plan_delta(applied, after).is_empty


@settings(max_examples=100, deadline=None)
@given(revisions(), st.integers(1, 5))
def test_a_policy_arrives_whole_in_parts_of_any_size(pair, most):
    policy, _ = pair
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(convert_policy, "ENTRIES_MOST", most)
        patch.setattr(convert_policy, "INTERVALS_MOST", most)

        parts = list(policy_to_messages(policy, CONTENT))

    (change,) = policies_from_messages(parts)
    assert (change.number, change.network, change.is_whole) == (policy.number, "shop", True)
    assert change.content == CONTENT
    assert apply_delta(empty_policy("shop", policy.number), change.delta) == policy
    assert all(len(p.pair_classes) + len(p.prefixes) <= most for p in parts)
    assert [bool(part.content) for part in parts] == [*[False] * (len(parts) - 1), True]


@settings(max_examples=100, deadline=None)
@given(revisions(), st.integers(1, 5))
def test_a_difference_arrives_in_parts_of_any_size(pair, most):
    before, after = pair
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(convert_policy, "ENTRIES_MOST", most)
        patch.setattr(convert_policy, "INTERVALS_MOST", most)

        parts = list(policy_to_messages(after, CONTENT, plan_delta(before, after)))

    (change,) = policies_from_messages(parts)
    assert not change.is_whole
    assert apply_delta(before, change.delta) == after


@settings(max_examples=50, deadline=None)
@given(revisions(), st.randoms())
def test_parts_of_two_networks_may_alternate(pair, random):
    shop, other = pair[0], replace(pair[1], network="ops", number=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(convert_policy, "ENTRIES_MOST", 1)
        queues = [list(policy_to_messages(one, CONTENT)) for one in (shop, other)]
    mixed = []
    while queues := [queue for queue in queues if queue]:
        mixed.append(random.choice(queues).pop(0))

    changes = policies_from_messages(mixed)

    arrived = {
        one.network: apply_delta(empty_policy(one.network, one.number), one.delta)
        for one in changes
    }
    assert arrived == {"shop": shop, "ops": other}
