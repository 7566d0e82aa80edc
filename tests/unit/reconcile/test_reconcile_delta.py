"""Batches become the least change; stale epochs, half batches and tables that do not fit do not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reconcile_strategies import HOSTS, OWN, changes, host, locations, machine_id, snapshots

from netagent.model.errors import ExhaustedError, InvalidError
from netagent.model.fleet import Identity, Location, Transition
from netagent.reconcile.batch import Batch, LocationChange, NamedLocation, TransitionChange
from netagent.reconcile.delta import Capacities, check_capacity, plan_delta
from netagent.reconcile.view import View

WEB = machine_id(1, 1)


def at(host_index: int, epoch: int) -> NamedLocation:
    return NamedLocation("web", Location(HOSTS[host_index].locator, Identity(2), epoch))


def view_of(*batches: Batch) -> View:
    view = View()
    for batch in batches:
        view.apply(plan_delta(view, batch))
    return view


def snapshot(rows: dict | None = None, hosts: tuple = HOSTS, revision: int = 1) -> Batch:
    return Batch(revision, True, hosts, (), (LocationChange(1, "red", True, rows or {}),))


def change(rows: dict | None = None, removed: dict | None = None, revision: int = 2) -> Batch:
    table = LocationChange(1, "red", False, rows or {}, removed or {})
    return Batch(revision, locations=(table,))


@given(st.data())
def test_the_same_batch_twice_changes_nothing(data: st.DataObject) -> None:
    view = view_of(data.draw(snapshots()))
    batch = data.draw(changes(tuple(sorted(view.networks))))
    view.apply(plan_delta(view, batch))
    held = view.locations(), view.transitions(), dict(view.hosts)
    again = Batch(
        batch.revision,
        hosts=batch.hosts,
        removed_hosts=batch.removed_hosts,
        locations=batch.locations,
        transitions=batch.transitions,
    )

    view.apply(plan_delta(view, again))

    assert (view.locations(), view.transitions(), dict(view.hosts)) == held


@given(st.data())
def test_a_snapshot_leaves_what_it_holds_and_nothing_else(data: st.DataObject) -> None:
    view = view_of(data.draw(snapshots()))
    fresh = data.draw(snapshots(revision=9))

    view.apply(plan_delta(view, fresh))

    assert sorted(view.networks) == sorted({table.network for table in fresh.locations})
    assert sorted(view.hosts) == sorted(h.name for h in fresh.hosts)
    named = {i for table in fresh.locations for i in table.rows}
    own = {h.stable_id for h in view.hosts.values()}
    assert view.locations().keys() - own == named


@given(st.lists(st.tuples(st.booleans(), locations), max_size=12), st.randoms())
def test_stale_epochs_lose_under_any_interleaving(steps: list, random) -> None:
    """Each step sets or removes one row, and some past step comes again."""
    view = view_of(snapshot())
    newest_set = newest_removed = -1
    for position, step in enumerate(steps):
        for is_removal, row in (step, random.choice(steps[: position + 1])):
            if is_removal:
                batch = change(removed={WEB: row.epoch})
                newest_removed = max(newest_removed, row.epoch)
            else:
                batch = change({WEB: NamedLocation("web", row)})
                newest_set = max(newest_set, row.epoch)
            view.apply(plan_delta(view, batch))

            held = view.location(WEB)
            if newest_set > newest_removed:
                assert held is not None
                assert held.epoch == newest_set
            else:
                assert held is None


def test_an_older_epoch_never_overrides_a_newer_one() -> None:
    view = view_of(snapshot({WEB: at(1, 5)}))

    delta = plan_delta(view, change({WEB: at(2, 4)}))

    assert delta.is_empty


def test_a_late_removal_leaves_the_new_owner_alone() -> None:
    view = view_of(snapshot({WEB: at(1, 5)}))

    delta = plan_delta(view, change(removed={WEB: 4}))

    assert delta.is_empty


def test_a_removed_row_does_not_come_back_by_an_older_message() -> None:
    view = view_of(snapshot({WEB: at(1, 5)}), change(removed={WEB: 5}))

    assert plan_delta(view, change({WEB: at(1, 5)})).is_empty
    assert plan_delta(view, change({WEB: at(1, 6)})).locations == {WEB: at(1, 6)}


def test_a_whole_table_outweighs_the_memory_of_removals() -> None:
    view = view_of(snapshot({WEB: at(1, 5)}), change(removed={WEB: 5}))

    assert plan_delta(view, snapshot({WEB: at(1, 5)}, revision=3)).locations == {WEB: at(1, 5)}


def test_a_transition_after_a_removed_one_of_its_epoch_is_set() -> None:
    first = Transition(OWN.locator, HOSTS[1].locator, 2)
    second = Transition(OWN.locator, HOSTS[2].locator, 2)
    view = view_of(
        snapshot({WEB: at(0, 1)}),
        Batch(2, transitions=(TransitionChange(1, False, {WEB: first}),)),
        Batch(3, transitions=(TransitionChange(1, False, {}, {WEB: 2}),)),
        Batch(4, transitions=(TransitionChange(1, False, {WEB: second}),)),
    )

    assert view.transition(WEB) == second


def test_removed_and_set_again_in_one_batch_is_set() -> None:
    first = Transition(OWN.locator, HOSTS[1].locator, 2)
    second = Transition(OWN.locator, HOSTS[2].locator, 2)
    view = view_of(
        snapshot({WEB: at(0, 1)}), Batch(2, transitions=(TransitionChange(1, False, {WEB: first}),))
    )

    delta = plan_delta(
        view, Batch(3, transitions=(TransitionChange(1, False, {WEB: second}, {WEB: 2}),))
    )

    assert delta.transitions == {WEB: second}
    assert not delta.removed_transitions


def test_a_table_in_parts_is_whole() -> None:
    other = machine_id(1, 2)
    view = view_of(snapshot({WEB: at(1, 1), machine_id(1, 3): at(1, 1)}))
    parts = (
        LocationChange(1, "red", True, {WEB: at(1, 1)}),
        LocationChange(1, "red", False, {other: at(2, 1)}),
    )

    view.apply(plan_delta(view, Batch(2, locations=parts)))

    assert set(view.networks[1].locations) == {WEB, other}


@pytest.mark.parametrize(
    ("batch", "field"),
    [
        pytest.param(
            Batch(2, locations=(LocationChange(7, "blue", False),)),
            "locations[7].whole",
            id="a network not held, in part",
        ),
        pytest.param(change({machine_id(2, 1): at(1, 1)}), "locations[1].ids", id="another's id"),
        pytest.param(
            Batch(2, transitions=(TransitionChange(7, True),)),
            "transitions[7]",
            id="transitions without locations",
        ),
        pytest.param(
            Batch(2, hosts=(host(9, key=3),)), "hosts[h9].public_key", id="two hosts with one key"
        ),
        pytest.param(
            Batch(2, locations=(LocationChange(0, "hosts", True),)), "locations[0]", id="network 0"
        ),
    ],
)
def test_a_batch_that_cannot_be_meant_is_refused_whole(batch: Batch, field: str) -> None:
    view = view_of(snapshot({WEB: at(1, 1)}))
    held = view.locations()

    with pytest.raises(InvalidError) as caught:
        plan_delta(view, batch)

    assert caught.value.field == field
    assert view.locations() == held


def test_what_does_not_fit_is_refused_with_figures() -> None:
    view = view_of(snapshot({WEB: at(1, 1)}))
    delta = plan_delta(view, change({machine_id(1, n): at(1, 1) for n in range(2, 6)}))

    with pytest.raises(ExhaustedError, match="location: 9 entries are needed and 8 fit"):
        check_capacity(view, delta, 1, Capacities(locations=8, transitions=8, endpoints=8))
    check_capacity(view, delta, 1, Capacities(locations=9, transitions=8, endpoints=8))


def test_transitions_have_to_fit_beside_those_that_go() -> None:
    moving = Transition(OWN.locator, HOSTS[1].locator, 2)
    view = view_of(
        snapshot({WEB: at(0, 1), machine_id(1, 2): at(0, 1)}),
        Batch(2, transitions=(TransitionChange(1, False, {WEB: moving}),)),
    )
    table = TransitionChange(1, False, {machine_id(1, 2): moving}, {WEB: 2})
    delta = plan_delta(view, Batch(3, transitions=(table,)))

    with pytest.raises(ExhaustedError, match="transition: 2 entries are needed and 1 fit"):
        check_capacity(view, delta, 1, Capacities(locations=99, transitions=1, endpoints=8))


def test_machines_are_found_by_name_and_forgotten_when_they_go() -> None:
    view = view_of(
        Batch(
            1,
            is_snapshot=True,
            hosts=HOSTS,
            locations=(
                LocationChange(1, "red", True, {WEB: at(1, 1)}),
                LocationChange(2, "blue", True, {machine_id(2, 1): at(1, 1)}),
            ),
        )
    )

    assert view.find_machines("web") == [("blue/web", machine_id(2, 1)), ("red/web", WEB)]
    assert view.find_machines("red/web") == [("red/web", WEB)]
    view.apply(plan_delta(view, change(removed={WEB: 1})))
    assert view.find_machines("web") == [("blue/web", machine_id(2, 1))]


def test_a_batch_from_before_brings_nothing_back() -> None:
    view = View()
    moving = Transition(OWN.locator, HOSTS[1].locator, 2)
    stable_id = machine_id(1, 1)
    whole = LocationChange(1, "blue", is_whole=True)
    prepare = Batch(2, transitions=(TransitionChange(1, rows={stable_id: moving}),))
    settle = Batch(3, transitions=(TransitionChange(1, removed={stable_id: 2}),))
    for batch in (Batch(1, is_snapshot=True, locations=(whole,)), prepare, settle):
        view.apply(plan_delta(view, batch))

    again = plan_delta(view, prepare)

    assert again.is_empty
    assert again.revision == 3
