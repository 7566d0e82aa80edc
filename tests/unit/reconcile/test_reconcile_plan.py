"""Plans bring any kernel to any view, in an order that never leaves a packet without its rows."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reconcile_strategies import (
    FLEET,
    HOSTS,
    NETWORKS,
    OWN,
    changes,
    host,
    locations,
    machine_id,
    machine_ids,
    snapshots,
    transitions,
)
from simulated_kernel import LIFETIME_NS, SimulatedKernel

from netagent.model.fleet import Identity, Location, Transition
from netagent.reconcile.batch import Batch, LocationChange, NamedLocation, TransitionChange
from netagent.reconcile.delta import plan_delta
from netagent.reconcile.operations import (
    EndpointBinding,
    Rank,
    RemoveTransitions,
    SetLocations,
    SetPeers,
    SetTransitions,
    plan_peers,
)
from netagent.reconcile.plan import (
    HeldTransition,
    ObservedTables,
    Tables,
    find_departed,
    plan_changes,
    plan_tables,
)
from netagent.reconcile.view import View

NOW_NS = 1_000
REFRESH_BELOW_NS = 40_000_000_000

bindings = st.builds(
    EndpointBinding, st.integers(1, 9), st.sampled_from([b"\x02" * 6, b"\x06" * 6]), st.booleans()
)
tables = st.builds(
    Tables,
    st.dictionaries(machine_ids, locations, max_size=6),
    st.dictionaries(machine_ids, transitions, max_size=4),
    st.dictionaries(machine_ids, bindings, max_size=4),
)


def kernel_with(held: Tables, deadline_ns: int = NOW_NS + LIFETIME_NS) -> SimulatedKernel:
    kernel = SimulatedKernel(NOW_NS)
    kernel.locations = dict(held.locations)
    kernel.transitions = {i: HeldTransition(t, deadline_ns) for i, t in held.transitions.items()}
    kernel.endpoints = dict(held.endpoints)
    return kernel


def audit(kernel: SimulatedKernel, desired: Tables, *, may_prune: bool = True) -> None:
    kernel.apply(
        plan_tables(
            desired,
            kernel.observe(),
            may_prune=may_prune,
            now_ns=NOW_NS,
            refresh_below_ns=REFRESH_BELOW_NS,
        )
    )


@given(tables, tables)
def test_audit_brings_any_kernel_to_any_intent(desired: Tables, held: Tables) -> None:
    kernel = kernel_with(held)

    audit(kernel, desired)

    assert kernel.locations == desired.locations
    assert {i: h.row for i, h in kernel.transitions.items()} == desired.transitions
    assert kernel.endpoints == desired.endpoints


@given(tables)
def test_audit_of_a_kernel_in_step_writes_nothing(desired: Tables) -> None:
    kernel = kernel_with(desired)

    audit(kernel, desired)

    assert kernel.writes == 0


@given(tables, tables)
def test_incomplete_view_removes_nothing_and_never_goes_back(desired: Tables, held: Tables) -> None:
    kernel = kernel_with(held)

    audit(kernel, desired, may_prune=False)

    assert kernel.locations.keys() >= held.locations.keys()
    assert kernel.transitions.keys() >= held.transitions.keys()
    assert kernel.endpoints.keys() >= held.endpoints.keys()
    for stable_id, row in held.locations.items():
        assert kernel.locations[stable_id].epoch >= row.epoch


def test_audit_refreshes_only_transitions_that_fade() -> None:
    moving = Transition(HOSTS[0].locator, HOSTS[1].locator, 3)
    fading, fresh = machine_id(1, 1), machine_id(1, 2)
    observed = ObservedTables(
        transitions={
            fading: HeldTransition(moving, NOW_NS + REFRESH_BELOW_NS - 1),
            fresh: HeldTransition(moving, NOW_NS + REFRESH_BELOW_NS),
        }
    )

    plan = plan_tables(
        Tables(transitions={fading: moving, fresh: moving}),
        observed,
        may_prune=True,
        now_ns=NOW_NS,
        refresh_below_ns=REFRESH_BELOW_NS,
    )

    assert plan == (SetTransitions({fading: moving}, is_refresh=True),)


@given(st.data())
def test_increments_and_audit_agree(data: st.DataObject) -> None:
    view, kernel = View(), SimulatedKernel()
    batches = [data.draw(snapshots())]
    for step in range(3):
        batch = batches[-1] if step == 0 else data.draw(changes(tuple(sorted(view.networks)), step))
        delta = plan_delta(view, batch)
        kernel.apply(plan_changes(view, delta, OWN.name, OWN.locator, set()))
        view.apply(delta)

        assert kernel.locations == view.locations()
        assert {i: h.row for i, h in kernel.transitions.items()} == view.transitions()
        others = [h for h in view.hosts.values() if h != OWN]
        assert list(kernel.peers) == sorted(others, key=lambda h: h.name)


@given(st.data())
def test_no_step_of_a_plan_points_at_a_host_without_peer(data: st.DataObject) -> None:
    view, kernel = View(), SimulatedKernel()
    for step in range(2):
        batch = data.draw(changes(tuple(sorted(view.networks)))) if step else data.draw(snapshots())
        delta = plan_delta(view, batch)
        plan = plan_changes(view, delta, OWN.name, OWN.locator, set())
        before = set(kernel.locations.values())
        staying = {name for name in view.hosts if name not in delta.removed_hosts}
        known = {h.locator for h in (*delta.hosts.values(), *(view.hosts[n] for n in staying))}

        def check(before: set[Location] = before, known: set[int] = known) -> None:
            reachable = {OWN.locator} | {h.locator for h in kernel.peers}
            for row in set(kernel.locations.values()) - before:
                assert row.locator in reachable or row.locator not in known

        kernel.apply(plan, after_each=check)
        view.apply(delta)


def moving_fleet() -> tuple[View, int]:
    """A view in which machine 1/1 moves from h1 (ours) to h2, not yet committed."""
    stable_id = machine_id(1, 1)
    view = View()
    view.apply(
        plan_delta(
            view,
            Batch(
                revision=1,
                is_snapshot=True,
                hosts=HOSTS,
                locations=(
                    LocationChange(
                        1, "red", True, {stable_id: named(Location(OWN.locator, Identity(2), 1))}
                    ),
                ),
                transitions=(
                    TransitionChange(
                        1, True, {stable_id: Transition(OWN.locator, HOSTS[1].locator, 2)}
                    ),
                ),
            ),
        )
    )
    return view, stable_id


def named(location: Location, name: str = "web") -> NamedLocation:
    return NamedLocation(name, location)


def test_commit_of_a_move_is_one_write() -> None:
    view, stable_id = moving_fleet()
    after = Location(HOSTS[1].locator, Identity(2), 2)
    batch = Batch(2, locations=(LocationChange(1, "red", False, {stable_id: named(after)}),))

    plan = plan_changes(view, plan_delta(view, batch), "h3", HOSTS[2].locator, set())

    assert plan == (SetLocations({stable_id: after}),)


def test_coalesced_commit_and_settle_flips_before_it_takes_the_second_place_away() -> None:
    view, stable_id = moving_fleet()
    after = Location(HOSTS[1].locator, Identity(2), 2)
    batch = Batch(
        3,
        locations=(LocationChange(1, "red", False, {stable_id: named(after)}),),
        transitions=(TransitionChange(1, False, {}, {stable_id: 2}),),
    )

    plan = plan_changes(view, plan_delta(view, batch), "h3", HOSTS[2].locator, set())

    assert [type(operation) for operation in plan] == [SetLocations, RemoveTransitions]


def test_arrival_activates_the_attached_machine_after_the_flip() -> None:
    view, stable_id = moving_fleet()
    kernel = SimulatedKernel()
    after = Location(HOSTS[1].locator, Identity(2), 2)
    batch = Batch(2, locations=(LocationChange(1, "red", False, {stable_id: named(after)}),))

    plan = plan_changes(view, plan_delta(view, batch), "h2", HOSTS[1].locator, {stable_id})
    kernel.apply(plan)

    assert kernel.activated == [stable_id]
    assert [operation.rank for operation in plan] == [Rank.SET_LOCATIONS, Rank.ACTIVATE]


SETTLED = (TransitionChange(1, False, {}, {machine_id(1, 1): 2}),)
GONE_TO_H2 = Location(HOSTS[1].locator, Identity(2), 2)


@pytest.mark.parametrize(
    ("batch", "departs"),
    [
        pytest.param(
            Batch(
                2, locations=(LocationChange(1, "r", False, {machine_id(1, 1): named(GONE_TO_H2)}),)
            ),
            False,
            id="committed: the source still forwards",
        ),
        pytest.param(
            Batch(
                3,
                locations=(LocationChange(1, "r", False, {machine_id(1, 1): named(GONE_TO_H2)}),),
                transitions=SETTLED,
            ),
            True,
            id="committed and settled",
        ),
        pytest.param(Batch(2, transitions=SETTLED), False, id="aborted: it stays here"),
        pytest.param(Batch(3, dropped_networks=(1,)), True, id="network is needed no longer"),
        pytest.param(
            Batch(
                9,
                locations=(LocationChange(1, "r", False, {machine_id(1, 1): named(GONE_TO_H2)}),),
                transitions=(
                    TransitionChange(
                        1, False, {machine_id(1, 1): Transition(HOSTS[1].locator, OWN.locator, 3)}
                    ),
                ),
            ),
            False,
            id="on its way back",
        ),
        pytest.param(
            Batch(
                4,
                locations=(LocationChange(1, "r", False, {}, {machine_id(1, 1): 1}),),
                transitions=SETTLED,
            ),
            True,
            id="deleted",
        ),
    ],
)
def test_a_machine_departs_when_it_is_neither_here_nor_moving(batch: Batch, departs: bool) -> None:
    view, stable_id = moving_fleet()

    departed = find_departed(view, plan_delta(view, batch), OWN.locator, {stable_id})

    assert (stable_id in departed) is departs


def test_a_machine_attached_ahead_of_its_move_does_not_depart() -> None:
    view, stable_id = moving_fleet()
    batch = Batch(
        3,
        locations=(LocationChange(1, "r", False, {stable_id: named(GONE_TO_H2)}),),
        transitions=SETTLED,
    )

    assert find_departed(view, plan_delta(view, batch), HOSTS[2].locator, {stable_id}) == {}


def test_peers_come_first_and_go_last() -> None:
    plan = plan_peers(HOSTS[:3], (*HOSTS[:2], HOSTS[3]), OWN.name)

    assert plan == (
        SetPeers(Rank.ADD_PEERS, (HOSTS[1], HOSTS[2], HOSTS[3])),
        SetPeers(Rank.REMOVE_PEERS, (HOSTS[1], HOSTS[3])),
    )


def test_a_key_that_changes_hands_is_never_with_two_peers() -> None:
    heir = host(4, key=3)

    plan = plan_peers(HOSTS[:3], (*HOSTS[:2], heir), OWN.name)

    for operation in plan:
        keys = [peer.public_key for peer in operation.hosts]
        assert len(set(keys)) == len(keys)
    assert plan[-1].hosts == (HOSTS[1], heir)


def test_networks_are_what_the_strategies_draw_from() -> None:
    assert FLEET.prefix_int >> 48 != FLEET.locator_top
    assert NETWORKS == (1, 2, 3)
