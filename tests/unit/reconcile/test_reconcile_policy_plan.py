"""Plans of policies, step by step: what is in force is whole at every moment, whatever fails."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv6Network

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from policy_memory import PolicyMemory

from netagent.model.errors import ExhaustedError
from netagent.model.fleet import Identity
from netagent.policy.entries import ClassId, CompiledPolicy, Direction, Interval, PolicyClass
from netagent.policy.language import Verdict
from netagent.reconcile.held_policies import (
    HeldPolicies,
    PlacedClass,
    RemoveClasses,
    RemovePairs,
    Room,
    SetClasses,
    SetPairs,
    TurnTo,
)
from netagent.reconcile.intervals import IntervalRange, find_gaps, place
from netagent.reconcile.policy_plan import plan_drop, plan_policy

ROOM = Room(networks=3, pairs=24, prefixes=8, class_protocols=12, intervals=24, rules=12)
ROOMY = Room(networks=9, pairs=999, prefixes=999, class_protocols=999, intervals=999, rules=99)


def policy_class(number: int) -> PolicyClass:
    """Return one of a few classes: another number of protocols and intervals for each."""
    intervals = tuple(
        Interval(at, at + 9, Verdict.ALLOW, number, None) for at in range(0, 10 * number, 10)
    )
    protocols = {0: (Interval(0, 65535, Verdict.DENY, 0, None),)}
    if number % 2:
        protocols[6] = intervals
    return PolicyClass(ClassId(number), protocols)


CLASSES = {ClassId(number): policy_class(number) for number in range(6)}
PREFIXES = [IPv6Network(f"2001:db8:{number}::/48") for number in range(3)]
IDENTITIES = [Identity(number) for number in (2, 3, 4)]

ids = st.sampled_from(sorted(CLASSES))
rows = st.dictionaries(
    st.sampled_from(IDENTITIES),
    st.dictionaries(st.sampled_from(IDENTITIES), ids, min_size=1),
)


def policy(
    number: int = 1,
    version: int = 1,
    pairs: dict | None = None,
    default: int = 0,
    prefixes: dict | None = None,
    rules: tuple[int, ...] = (),
) -> CompiledPolicy:
    by_direction = {direction: {} for direction in Direction} | (pairs or {})
    defaults = dict.fromkeys(Direction, ClassId(default))
    used = {
        one for row in by_direction.values() for cells in row.values() for one in cells.values()
    }
    return CompiledPolicy(
        "shop",
        number,
        version,
        by_direction,
        defaults,
        {one: CLASSES[one] for one in used | {ClassId(default)}},
        prefixes or {},
        {rule: f"rule-{rule}" for rule in rules},
    )


policies = st.builds(
    policy,
    number=st.sampled_from((1, 2, 3)),
    version=st.integers(1, 9),
    pairs=st.fixed_dictionaries({direction: rows for direction in Direction}),
    default=ids,
    prefixes=st.dictionaries(st.sampled_from(PREFIXES), st.sampled_from(IDENTITIES)),
    rules=st.sets(st.integers(1, 5)).map(lambda numbers: tuple(sorted(numbers))),
)


def inside(*cells: tuple[int, int, int]) -> dict:
    found: dict = {}
    for source, destination, class_id in cells:
        found.setdefault(Identity(source), {})[Identity(destination)] = ClassId(class_id)
    return {Direction.INSIDE: found}


def assert_whole(memory: PolicyMemory, expected: dict[int, CompiledPolicy]) -> None:
    """Every network's programs find exactly one revision, with all that it refers to."""
    assert memory.active.keys() == expected.keys()
    for number, wanted in expected.items():
        active = memory.active[number]
        slot = memory.slot(number, active.slot)
        assert (active.version, active.defaults) == (wanted.version, wanted.defaults)
        assert (slot.pairs, slot.prefixes) == (wanted.pairs, wanted.prefixes)
        for class_id in memory.classes_in_force(number):
            assert memory.policy_class(class_id) == wanted.classes[class_id]


class Host:
    """An agent and its maps: applies, drops, is killed half way and starts again."""

    def __init__(self, room: Room) -> None:
        self.memory = PolicyMemory(room)
        self.held = HeldPolicies()
        self.expected: dict[int, CompiledPolicy] = {}

    def apply(self, compiled: CompiledPolicy, steps: int | None = None) -> int:
        plan = plan_policy(self.held, compiled, self.memory.room)
        for operation in plan.operations[:steps]:
            self.memory.carry_out(operation)
            if isinstance(operation, TurnTo):
                self.expected[compiled.number] = compiled
            assert_whole(self.memory, self.expected)
        self._settle(plan.after, is_done=steps is None or steps >= len(plan.operations))
        return len(plan.operations)

    def drop(self, number: int, steps: int | None = None) -> None:
        plan = plan_drop(self.held, number)
        for operation in plan.operations[:steps]:
            self.expected.pop(number, None)
            self.memory.carry_out(operation)
            assert_whole(self.memory, self.expected)
        self._settle(plan.after, is_done=steps is None or steps >= len(plan.operations))

    def _settle(self, after: HeldPolicies, *, is_done: bool) -> None:
        self.held = after if is_done else self.memory.observe()
        assert replace(self.held, retired=frozenset()) == self.memory.observe()


@settings(max_examples=300)
@given(st.data())
def test_whatever_happens_programs_find_one_whole_revision(data: st.DataObject) -> None:
    host = Host(data.draw(st.sampled_from((ROOM, ROOMY))))
    for _ in range(data.draw(st.integers(1, 7))):
        steps = data.draw(st.one_of(st.none(), st.none(), st.integers(0, 8)))
        what = data.draw(st.sampled_from(("apply", "apply", "apply", "drop", "raise")))
        if what == "drop":
            host.drop(data.draw(st.sampled_from((1, 2, 3))), steps)
        elif what == "raise":
            host.held = replace(host.held, retired=frozenset())
        else:
            compiled = data.draw(policies)
            before = host.held
            try:
                host.apply(compiled, steps)
            except ExhaustedError:
                event("did not fit")
                assert host.held == before
                continue
            if steps is None:
                assert host.apply(compiled) == 0, "it is in force"
                assert_whole(host.memory, {**host.expected, compiled.number: compiled})
                counted = host.held.networks[compiled.number].rules.keys()
                assert counted <= {0, *compiled.rules}
                if host.memory.room is ROOMY:
                    assert counted == {0, *compiled.rules}


def operations(host: Host, compiled: CompiledPolicy) -> list[type]:
    return [type(one) for one in plan_policy(host.held, compiled, ROOMY).operations]


def test_classes_come_before_pairs_and_the_turn_comes_last() -> None:
    host = Host(ROOMY)

    order = operations(host, policy(pairs=inside((2, 3, 1))))

    assert order.index(SetClasses) < order.index(SetPairs)
    assert order[-1] is TurnTo


def test_another_version_of_the_same_content_turns_and_writes_nothing_else() -> None:
    host = Host(ROOMY)
    host.apply(policy(pairs=inside((2, 3, 1))))

    assert operations(host, policy(version=2, pairs=inside((2, 3, 1)))) == [TurnTo]


def test_a_revision_costs_the_difference_to_what_its_slot_held() -> None:
    host = Host(ROOMY)
    many = [(source, destination, 1) for source in (2, 3, 4) for destination in (2, 3, 4)]
    host.apply(policy(version=1, pairs=inside(*many)))
    host.apply(policy(version=2, pairs=inside(*many[1:])))

    plan = plan_policy(host.held, policy(version=3, pairs=inside(*many[:-1])), ROOMY)

    written = [one for one in plan.operations if isinstance(one, SetPairs | RemovePairs)]
    assert [tuple(one.pairs) for one in written] == [((Direction.INSIDE, 4, 4),)]


def test_classes_leave_only_after_the_turn_away_from_them() -> None:
    host = Host(ROOMY)
    host.apply(policy(version=1, pairs=inside((2, 3, 1))))
    second = policy(version=2, pairs=inside((2, 3, 2)))
    assert RemoveClasses not in operations(host, second)
    host.apply(second)

    plan = plan_policy(host.held, policy(version=3, pairs=inside((2, 3, 2))), ROOMY)

    assert plan.operations[0] == RemoveClasses(((1, 0), (1, 6)))


def test_a_class_that_two_networks_use_stays_while_one_of_them_does() -> None:
    host = Host(ROOMY)
    host.apply(policy(number=1, pairs=inside((2, 3, 1))))
    host.apply(policy(number=2, pairs=inside((2, 3, 1))))
    host.drop(1)

    host.apply(policy(number=3, pairs=inside((2, 3, 2))))

    assert host.memory.policy_class(ClassId(1)) == CLASSES[ClassId(1)]


def test_slots_that_nobody_reads_make_room_for_a_revision() -> None:
    room = replace(ROOMY, pairs=4)
    host = Host(room)
    host.apply(policy(number=1, version=1, pairs=inside((2, 3, 1), (2, 4, 1))))
    host.apply(policy(number=1, version=2, pairs=inside((2, 3, 1))))

    host.apply(policy(number=2, pairs=inside((2, 3, 1), (2, 4, 1), (3, 4, 1))))

    assert host.held.networks[1].slots[0].pair_count == 0
    with pytest.raises(ExhaustedError, match=r"need 5 pairs and 0 prefixes, 4 and 999 fit"):
        host.apply(policy(number=3, pairs=inside((2, 3, 1))))


def test_rules_beyond_the_counters_are_enforced_and_counted_once_there_are_some() -> None:
    host = Host(replace(ROOMY, rules=3))
    host.apply(policy(number=1, rules=(1,)))
    many = policy(number=2, rules=(1, 2))

    host.apply(many)

    assert host.held.networks[2].rules == {0: 3}
    assert host.apply(many) == 0
    host.drop(1)
    assert host.apply(many) == 0, "flows may still count under what the first had"
    host.held = replace(host.held, retired=frozenset())
    host.apply(many)
    assert host.held.networks[2].rules == {0: 3, 1: 1, 2: 2}


def test_a_damaged_class_gets_another_place_without_a_moment_of_absence() -> None:
    host = Host(ROOMY)
    compiled = policy(pairs=inside((2, 3, 1)))
    host.apply(compiled)
    there = host.held.classes[ClassId(1)]
    wrong = PolicyClass(ClassId(1), {**there.content.protocols, 6: (), 17: ()})
    ranges = {**there.ranges, 17: IntervalRange(0, 0)}
    host.memory.classes[ClassId(1), 17] = IntervalRange(0, 0)
    host.held = replace(
        host.held, classes={**host.held.classes, ClassId(1): PlacedClass(wrong, ranges)}
    )

    plan = plan_policy(host.held, compiled, ROOMY)
    for operation in plan.operations:
        host.memory.carry_out(operation)

    assert host.memory.policy_class(ClassId(1)) == CLASSES[ClassId(1)]
    assert TurnTo not in map(type, plan.operations)


@pytest.mark.parametrize(
    ("used", "gaps"),
    [
        pytest.param([], [(0, 10)], id="nothing in use"),
        pytest.param([(0, 10)], [], id="full"),
        pytest.param([(2, 3), (7, 1)], [(0, 2), (5, 2), (8, 2)], id="between"),
        pytest.param([(2, 5), (3, 1)], [(0, 2), (7, 3)], id="one within another"),
        pytest.param([(0, 4), (8, 99)], [(4, 4)], id="beyond the end"),
        pytest.param([(50, 1)], [(0, 10)], id="all beyond the end"),
        pytest.param([(3, 0)], [(0, 3), (3, 7)], id="of nothing"),
    ],
)
def test_gaps_are_what_no_range_covers(
    used: list[tuple[int, int]], gaps: list[tuple[int, int]]
) -> None:
    found = find_gaps([IntervalRange(*one) for one in used], 10)
    assert [(one.first, one.count) for one in found] == gaps


def test_what_fits_in_one_piece_stands_side_by_side() -> None:
    used = [IntervalRange(2, 3)]

    found = place({"a": 3, "b": 2}, used, 10)

    assert found == {"a": IntervalRange(5, 3), "b": IntervalRange(8, 2)}


def test_what_does_not_fit_in_one_piece_fills_the_gaps_the_largest_first() -> None:
    used = [IntervalRange(2, 3), IntervalRange(8, 1)]

    found = place({"a": 1, "b": 3, "c": 2}, used, 10)

    assert found == {"b": IntervalRange(5, 3), "c": IntervalRange(0, 2), "a": IntervalRange(9, 1)}
    with pytest.raises(ExhaustedError, match="no room for 4 intervals"):
        place({"a": 4}, used, 10)
