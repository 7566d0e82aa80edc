"""Plans of drains: who goes where, and who cannot."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from netagent.model.addresses import make_id
from netagent.model.fleet import Identity, Machine
from netagent.moves.drain import DrainRules, plan_drain


def machine(number: int, host: str, network: str = "blue", **labels: str) -> Machine:
    stable_id = make_id(1, 1, number)
    return Machine(network, f"m{number:03d}", stable_id, Identity(9), labels, host, 1)


def test_machines_spread_over_the_emptiest_hosts() -> None:
    leaving = [machine(n, "a") for n in range(1, 7)]
    staying = [machine(10, "b"), machine(11, "b"), machine(12, "b"), machine(13, "c")]

    plan = plan_drain(leaving, staying, DrainRules(["b", "c", "d"]))

    assert Counter(host for _, host in plan.assignments) == {"b": 1, "c": 2, "d": 3}
    assert not plan.unplaced


def test_no_host_is_filled_beyond_its_capacity() -> None:
    leaving = [machine(n, "a") for n in range(1, 4)]

    plan = plan_drain(leaving, [machine(9, "b")], DrainRules(["b"], capacity=2))

    assert plan.assignments == (("blue/m001", "b"),)
    assert plan.unplaced == (
        ("blue/m002", "every host has 2 machines"),
        ("blue/m003", "every host has 2 machines"),
    )


def test_machines_with_a_label_in_common_are_kept_apart() -> None:
    leaving = [machine(1, "a"), machine(2, "a", app="db"), machine(3, "a", app="db")]
    staying = [machine(9, "b", app="db"), machine(8, "d", "red", app="db")]

    plan = plan_drain(leaving, staying, DrainRules(["b", "c", "d"], keep_apart=["app"]))

    assert dict(plan.assignments) == {"blue/m001": "b", "blue/m002": "c", "blue/m003": "d"}


def test_what_cannot_be_kept_apart_stays_and_says_why() -> None:
    leaving = [machine(1, "a", app="db")]
    rules = DrainRules(["b"], keep_apart=["app"])

    plan = plan_drain(leaving, [machine(9, "b", app="db")], rules)

    reason = "every host with room has a machine with app=db already"
    assert plan.unplaced == (("blue/m001", reason),)


def test_only_what_is_selected_goes() -> None:
    leaving = [machine(1, "a", tier="front"), machine(2, "a")]

    plan = plan_drain(leaving, [], DrainRules(["b"], select={"tier": "front"}))

    assert plan.assignments == (("blue/m001", "b"),)
    assert not plan.unplaced


def test_nowhere_to_go() -> None:
    plan = plan_drain([machine(1, "a")], [], DrainRules([]))

    assert plan.unplaced == (("blue/m001", "there is no host to go to"),)


apps = st.sampled_from(["", "x", "y"])


@given(
    leaving=st.lists(apps, max_size=20),
    staying=st.lists(st.tuples(apps, st.sampled_from("bcd")), max_size=20),
    capacity=st.none() | st.integers(1, 12),
    keep_apart=st.booleans(),
)
def test_every_plan_keeps_the_rules_and_names_every_machine_once(
    leaving: list[str],
    staying: list[tuple[str, str]],
    capacity: int | None,
    keep_apart: bool,
) -> None:
    going = [machine(n, "a", **({"app": app} if app else {})) for n, app in enumerate(leaving, 1)]
    there = [
        machine(n, host, **({"app": app} if app else {}))
        for n, (app, host) in enumerate(staying, 101)
    ]
    rules = DrainRules("bcd", capacity=capacity, keep_apart=["app"] if keep_apart else [])

    plan = plan_drain(going, there, rules)

    named = [path for path, _ in (*plan.assignments, *plan.unplaced)]
    assert sorted(named) == sorted(one.path for one in going)
    by_path = {one.path: one for one in going}
    before = Counter(str(one.host) for one in there)
    added = Counter(host for _, host in plan.assignments)
    for host in "bcd":
        if capacity is not None and added[host]:
            assert before[host] + added[host] <= capacity
        if keep_apart:
            came = [by_path[path].labels.get("app") for path, at in plan.assignments if at == host]
            had = [one.labels.get("app") for one in there if one.host == host]
            for app in filter(None, came):
                assert (came + had).count(app) == 1
    assert plan == plan_drain(reversed(going), reversed(there), rules)
