"""Floating addresses change hands, and after no write of any plan does one machine pass as another.

ONE and TWO are attached here, AWAY is on another host; each has an identity of its own, so that the
location row says whose turn it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reconcile_strategies import FLEET, HOSTS, OWN, machine_id
from simulated_kernel import SimulatedKernel

from netagent.model.addresses import Locator, StableId
from netagent.model.errors import InvalidError
from netagent.model.fleet import Identity, Location, Transition, floating_epoch
from netagent.reconcile.batch import Batch, LocationChange, NamedLocation, TransitionChange
from netagent.reconcile.delta import plan_delta
from netagent.reconcile.handover import holders_after
from netagent.reconcile.moving import find_arrivals, find_departures
from netagent.reconcile.operations import (
    AwaitPrograms,
    EndpointBinding,
    Operation,
    RaiseGeneration,
    RemoveEndpoints,
    RemoveLocations,
    SetEndpoints,
    SetLocations,
)
from netagent.reconcile.plan import Tables, plan_changes, plan_tables
from netagent.reconcile.view import View

ONE, TWO, AWAY, VIP = (machine_id(1, number) for number in (1, 2, 3, 9))
MACHINES = (ONE, TWO, AWAY)
IDENTITY = {machine: Identity(10 + machine % 10) for machine in MACHINES}
PLACE = {ONE: OWN.locator, TWO: OWN.locator, AWAY: HOSTS[1].locator}
BINDINGS = {
    machine: EndpointBinding(ifindex, bytes([2, 0, 0, 0, 0, ifindex]), is_peer=True)
    for ifindex, machine in enumerate((ONE, TWO), 7)
}


@dataclass(frozen=True)
class Turn:
    """Who has the address from now on, and whether that machine moves."""

    holder: StableId | None
    is_moving: bool = False

    def location(self, assignment: int) -> NamedLocation:
        assert self.holder is not None
        epoch = floating_epoch(assignment, 1)
        row = Location(PLACE[self.holder], IDENTITY[self.holder], epoch)
        return NamedLocation("vip", row, self.holder)

    def transition(self, assignment: int) -> Transition:
        assert self.holder is not None
        places = PLACE[self.holder], HOSTS[2].locator
        return Transition(*places, floating_epoch(assignment, 2))


turns = st.builds(Turn, st.sampled_from((*MACHINES, None)), st.booleans()).map(
    lambda turn: turn if turn.holder is not None else Turn(None)
)


def began() -> tuple[View, SimulatedKernel]:
    """A view of the machines, and a kernel in step with it, before anybody has the address."""
    view, kernel = View(), SimulatedKernel()
    rows = {m: NamedLocation(f"m{m % 10}", Location(PLACE[m], IDENTITY[m], 1)) for m in MACHINES}
    table = LocationChange(1, "red", True, rows)
    delta = plan_delta(view, Batch(1, True, HOSTS, locations=(table,)))
    kernel.apply(plan_changes(view, delta, OWN.name, OWN.locator, set()))
    view.apply(delta)
    kernel.endpoints = dict(BINDINGS)
    return view, kernel


def batch_of(turn: Turn, assignment: int) -> Batch:
    """What control says of a turn to an agent that has heard of none or some before."""
    rows = {} if turn.holder is None else {VIP: turn.location(assignment)}
    gone = {VIP: floating_epoch(assignment - 1, 1)} if turn.holder is None else {}
    moving = {VIP: turn.transition(assignment)} if turn.is_moving else {}
    settled = {} if turn.is_moving else {VIP: floating_epoch(assignment - 1, 2)}
    return Batch(
        1 + assignment,
        locations=(LocationChange(1, "red", False, rows, gone),),
        transitions=(TransitionChange(1, False, moving, settled),),
    )


def plan_turn(view: View, batch: Batch, *, is_kernel_known: bool = True) -> tuple[Operation, ...]:
    """Plan a batch, and take it into the view."""
    delta = plan_delta(view, batch)
    own, attached = (OWN.name, OWN.locator), {ONE, TWO}
    plan = plan_changes(view, delta, *own, attached, BINDINGS, is_kernel_known=is_kernel_known)
    view.apply(delta)
    return plan


def check_nobody_passes_as_another(kernel: SimulatedKernel) -> None:
    location = kernel.locations.get(VIP)
    if location is None:
        return
    speaker = {binding: machine for machine, binding in BINDINGS.items()}
    if (binding := kernel.endpoints.get(VIP)) is not None and location.locator == OWN.locator:
        assert IDENTITY[speaker[binding]] == location.identity
    if (moving := kernel.transitions.get(VIP)) is not None:
        holder = next(m for m in MACHINES if IDENTITY[m] == location.identity)
        assert moving.row.source == PLACE[holder]


def check_in_step(kernel: SimulatedKernel, turn: Turn, assignment: int) -> None:
    if turn.holder is None:
        assert VIP not in kernel.locations
        assert VIP not in kernel.endpoints
        assert VIP not in kernel.transitions
        return
    assert kernel.locations[VIP] == turn.location(assignment).location
    assert kernel.endpoints.get(VIP) == BINDINGS.get(turn.holder)
    moving = kernel.transitions.get(VIP)
    assert (moving and moving.row) == (turn.transition(assignment) if turn.is_moving else None)


def audit(kernel: SimulatedKernel, view: View, *, may_prune: bool) -> tuple[Operation, ...]:
    floating = view.floating()
    endpoints = BINDINGS | {i: BINDINGS[m] for i, m in floating.items() if m in BINDINGS}
    return plan_tables(
        Tables(view.locations(), view.transitions(), endpoints, floating.keys()),
        kernel.observe(),
        may_prune=may_prune,
        now_ns=kernel.now_ns,
        refresh_below_ns=1,
    )


@given(st.lists(turns, max_size=6))
def test_increments_bring_every_turn_and_no_step_lets_one_pass_as_another(order: list) -> None:
    view, kernel = began()
    for assignment, turn in enumerate(order, 1):
        plan = plan_turn(view, batch_of(turn, assignment))

        kernel.apply(plan, after_each=lambda: check_nobody_passes_as_another(kernel))

        check_in_step(kernel, turn, assignment)


@given(st.lists(turns, min_size=1, max_size=5), st.data())
def test_nobody_passes_as_another_when_plans_are_cut_off_and_agents_start_anew(
    order: list, data: st.DataObject
) -> None:
    """After a failure the agent compares all; a new one starts with a replica that may be older."""
    view, kernel = began()
    written = 0

    def apply(plan: tuple[Operation, ...]) -> None:
        kernel.apply(plan, after_each=lambda: check_nobody_passes_as_another(kernel))

    for assignment, turn in enumerate(order, 1):
        plan = plan_turn(view, batch_of(turn, assignment))
        apply(plan[: data.draw(st.integers(0, len(plan)))])
        if data.draw(st.booleans()):
            apply(audit(kernel, view, may_prune=True))
            check_in_step(kernel, turn, assignment)
            continue
        written = data.draw(st.integers(written, assignment - 1))
        view, _ = began()
        if written:
            plan_turn(view, batch_of(order[written - 1], written))
        apply(audit(kernel, view, may_prune=False))
        apply(plan_turn(view, batch_of(turn, assignment), is_kernel_known=False))
        apply(audit(kernel, view, may_prune=True))
        check_in_step(kernel, turn, assignment)


@given(turns, turns)
def test_an_agent_that_starts_with_an_older_replica_gives_nothing_back(
    held: Turn, newer: Turn
) -> None:
    """The kernel has heard of the second turn, the replica of the first alone."""
    view, kernel = began()
    replica, _ = began()
    kernel.apply(plan_turn(view, batch_of(held, 1)))
    plan_turn(replica, batch_of(held, 1))
    kernel.apply(plan_turn(view, batch_of(newer, 2)))

    kernel.apply(
        audit(kernel, replica, may_prune=False),
        after_each=lambda: check_nobody_passes_as_another(kernel),
    )

    if newer.holder is not None:
        check_in_step(kernel, newer, 2)


@given(st.lists(turns, min_size=1, max_size=5), st.data())
def test_what_is_late_changes_nothing(order: list, data: st.DataObject) -> None:
    view, _ = began()
    batches = [batch_of(turn, assignment) for assignment, turn in enumerate(order, 1)]
    for batch in batches:
        view.apply(plan_delta(view, batch))
    late = data.draw(st.sampled_from(batches))
    for revision in (late.revision, len(order) + 9):
        # With its own revision, and as if a message of it came much later.
        again = Batch(revision, locations=late.locations, transitions=late.transitions)
        delta = plan_delta(view, again)
        assert delta.locations == {}
        assert delta.removed_locations == {}


def test_between_machines_of_one_host_programs_are_awaited_while_nobody_has_it() -> None:
    view, _ = began()
    plan_turn(view, batch_of(Turn(ONE), 1))

    plan = plan_turn(view, batch_of(Turn(TWO), 2))

    kinds = [type(operation) for operation in plan]
    assert kinds == [
        *(RemoveEndpoints, AwaitPrograms, SetLocations),
        *(RaiseGeneration, SetEndpoints),
    ]


@pytest.mark.parametrize(
    ("before", "after"),
    [(ONE, AWAY), (AWAY, ONE), (ONE, None), (None, ONE)],
    ids=["goes", "comes", "released", "first"],
)
def test_nothing_is_awaited_where_only_one_of_two_holders_is_here(
    before: StableId | None, after: StableId | None
) -> None:
    view, _ = began()
    plan_turn(view, batch_of(Turn(before), 1))

    plan = plan_turn(view, batch_of(Turn(after), 2))

    kinds = {type(operation) for operation in plan}
    assert AwaitPrograms not in kinds
    assert kinds & {SetLocations, RemoveLocations}


def test_a_move_of_the_holder_is_one_write_of_both_rows() -> None:
    view, _ = began()
    plan_turn(view, batch_of(Turn(ONE), 1))
    there = HOSTS[1].locator

    def at(place: Locator, name: str, epoch: int, holder: StableId | None) -> NamedLocation:
        return NamedLocation(name, Location(place, IDENTITY[ONE], epoch), holder)

    rows = {ONE: at(there, "m1", 2, None), VIP: at(there, "vip", floating_epoch(1, 2), ONE)}
    plan = plan_turn(view, Batch(9, locations=(LocationChange(1, "red", False, rows),)))

    assert plan == (SetLocations({i: row.location for i, row in sorted(rows.items())}),)


def test_the_first_batch_of_a_run_leaves_the_transition_of_a_holder_that_moves_on() -> None:
    view, kernel = began()
    kernel.apply(plan_turn(view, batch_of(Turn(ONE, is_moving=True), 1)))
    row = Location(HOSTS[2].locator, IDENTITY[ONE], floating_epoch(1, 2))
    table = LocationChange(1, "red", False, {VIP: NamedLocation("vip", row, ONE)})

    kernel.apply(plan_turn(view, Batch(9, locations=(table,)), is_kernel_known=False))

    assert kernel.locations[VIP] == row
    assert kernel.endpoints[VIP] == BINDINGS[ONE]
    assert kernel.transitions[VIP].row == Turn(ONE, is_moving=True).transition(1)


def test_a_view_says_who_has_what_and_names_machines_alone() -> None:
    view, _ = began()
    assert view.held_by(ONE) == ()
    plan_turn(view, batch_of(Turn(ONE), 1))
    assert (view.holder(VIP), view.held_by(ONE), view.held_by(TWO)) == (ONE, (VIP,), ())
    assert view.party_name(VIP) == "red/vip"
    assert view.find_machines("red/vip") == []
    delta = plan_delta(view, batch_of(Turn(TWO), 2))
    assert holders_after(view, delta) == {VIP: TWO}
    view.apply(delta)
    assert (view.held_by(ONE), view.held_by(TWO)) == ((), (VIP,))
    view.apply(plan_delta(view, Batch(9, dropped_networks=(1,))))
    assert view.floating() == {}


def test_a_floating_address_goes_with_its_holder_and_is_no_move_of_its_own() -> None:
    view, _ = began()
    plan_turn(view, batch_of(Turn(ONE, is_moving=True), 1))
    assert view.transition(VIP) is not None
    assert find_departures(view, FLEET, OWN.locator) == ()
    assert find_arrivals(view, FLEET, HOSTS[2].locator) == ()


def test_a_holder_of_another_network_is_refused() -> None:
    view, _ = began()
    row = NamedLocation("vip", Location(OWN.locator, IDENTITY[ONE], 1), machine_id(2, 1))
    table = LocationChange(1, "red", False, {VIP: row})
    with pytest.raises(InvalidError, match="is of network 2"):
        plan_delta(view, Batch(2, locations=(table,)))
