"""The state machine of a move: whom it waits for, for how long, and what it never does."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netagent.model.addresses import make_id
from netagent.model.fleet import Move, MovePhase
from netagent.moves.machine import (
    Action,
    Commit,
    Event,
    HostApplied,
    HostLeft,
    MoveMachine,
    PhaseRecorded,
    Settle,
    TimePassed,
)

MOVE = Move("m1", "blue/web", make_id(1, 1, 1), "a", "b", 2, MovePhase.PREPARING)
COMMITTED = replace(MOVE, phase=MovePhase.COMMITTED)
SETTLED = replace(MOVE, phase=MovePhase.SETTLED)


def make_machine() -> MoveMachine:
    return MoveMachine(prepare_bound_s=5, settle_bound_s=10, drain_s=1)


def prepared(**hosts: int) -> MoveMachine:
    machine = make_machine()
    machine.handle(PhaseRecorded(MOVE, 7, hosts), 100)
    return machine


def test_it_commits_when_the_last_host_has_applied() -> None:
    machine = prepared(a=6, b=6, c=6)

    assert machine.handle(HostApplied("a", 7), 100) == ()
    assert machine.handle(HostApplied("b", 8), 100) == ()
    assert machine.handle(HostApplied("c", 7), 101) == (Commit(MOVE, ()),)


def test_hosts_that_hold_the_revision_already_are_not_waited_for() -> None:
    machine = make_machine()

    assert machine.handle(PhaseRecorded(MOVE, 7, {"a": 7, "b": 9}), 100) == (Commit(MOVE, ()),)


def test_an_older_revision_is_no_answer() -> None:
    machine = prepared(b=5)

    assert machine.handle(HostApplied("b", 6), 100) == ()
    assert machine.waiting == ("b",)


def test_a_host_that_leaves_is_not_waited_for() -> None:
    machine = prepared(b=7, c=6)

    assert machine.handle(HostLeft("c"), 100) == (Commit(MOVE, ()),)


def test_the_destination_is_waited_for_even_while_it_is_away() -> None:
    machine = prepared(b=6)

    assert machine.handle(HostLeft("b"), 100) == ()
    assert machine.handle(HostApplied("b", 0), 101) == ()
    assert machine.handle(HostApplied("b", 7), 102) == (Commit(MOVE, ()),)


def test_a_host_that_comes_in_the_middle_is_waited_for() -> None:
    machine = prepared(b=6)

    machine.handle(HostApplied("d", 0), 100)

    assert machine.handle(HostApplied("b", 7), 100) == ()
    assert machine.handle(HostApplied("d", 7), 100) == (Commit(MOVE, ()),)


def test_the_bound_ends_the_waiting_and_names_who_lags() -> None:
    machine = prepared(a=7, b=6, c=6)
    assert machine.deadline() == 105

    assert machine.handle(TimePassed(), 104.9) == ()
    assert machine.handle(TimePassed(), 105) == (Commit(MOVE, ("b", "c")),)
    assert machine.deadline() is None


def test_it_asks_once() -> None:
    machine = prepared(b=6)
    machine.handle(HostApplied("b", 7), 100)

    assert machine.handle(HostApplied("b", 8), 100) == ()
    assert machine.handle(HostApplied("c", 0), 100) == ()
    assert machine.handle(TimePassed(), 1000) == ()


def test_after_the_commit_it_waits_again_and_settles() -> None:
    machine = prepared(b=7)

    assert machine.handle(PhaseRecorded(COMMITTED, 8, {"a": 7, "b": 7}), 101) == ()
    assert machine.deadline() == 111
    assert machine.handle(HostApplied("a", 8), 102) == ()
    assert machine.handle(HostApplied("b", 8), 102) == ()
    assert machine.handle(TimePassed(), 103) == (Settle(COMMITTED, ()),)
    assert machine.handle(PhaseRecorded(SETTLED, 9, {"a": 8}), 103) == ()
    assert machine.is_ended
    assert machine.deadline() is None


def test_it_resumes_in_the_middle() -> None:
    machine = make_machine()

    assert machine.handle(PhaseRecorded(COMMITTED, 8, {"a": 0}), 1) == ()
    assert machine.handle(HostApplied("a", 8), 2) == ()
    assert machine.handle(TimePassed(), 3) == (Settle(COMMITTED, ()),)


def test_packets_under_way_have_time_to_be_forwarded() -> None:
    machine = make_machine()
    machine.handle(PhaseRecorded(COMMITTED, 8, {"a": 8, "b": 8}), 100)

    assert machine.deadline() == 101
    assert machine.handle(TimePassed(), 100.9) == ()
    assert machine.handle(TimePassed(), 101) == (Settle(COMMITTED, ()),)


def test_the_bound_holds_for_the_drain_too() -> None:
    machine = make_machine()
    machine.handle(PhaseRecorded(COMMITTED, 8, {"a": 7}), 100)
    machine.handle(HostApplied("a", 8), 109.5)

    assert machine.deadline() == 110
    assert machine.handle(TimePassed(), 110) == (Settle(COMMITTED, ()),)


def test_a_machine_without_a_place_is_placed_at_once() -> None:
    placement = replace(MOVE, source="")
    machine = make_machine()

    actions = machine.handle(PhaseRecorded(placement, 7, {"b": 0, "c": 0}), 100)

    assert actions == (Commit(placement, ()),)


@pytest.mark.parametrize("phase", [MovePhase.SETTLED, MovePhase.ABORTED])
def test_final_phases_do_nothing(phase: MovePhase) -> None:
    machine = make_machine()

    assert machine.handle(PhaseRecorded(replace(MOVE, phase=phase), 7, {"a": 0}), 1) == ()
    assert machine.handle(TimePassed(), 1000) == ()
    assert machine.is_ended


def test_nothing_is_decided_before_the_record() -> None:
    machine = make_machine()

    assert machine.handle(HostApplied("a", 7), 1) == ()
    assert machine.handle(HostLeft("b"), 1) == ()
    assert machine.handle(TimePassed(), 1000) == ()
    assert not machine.is_ended


HOSTS = st.sampled_from("abcd")
EVENTS = st.lists(
    st.one_of(
        st.builds(HostApplied, HOSTS, st.integers(0, 30)),
        st.builds(HostLeft, HOSTS),
        st.just(TimePassed()),
        st.just("record"),
        st.just("restart"),
    ),
    max_size=60,
)


class Store:
    """The record of the move, as compare-and-swap keeps it."""

    def __init__(self) -> None:
        self.move = MOVE
        self.revision = 7
        self.location = MOVE.source
        self.history = [MovePhase.PREPARING]

    def write(self, action: Action) -> bool:
        if action.move.phase is not self.move.phase:
            return False
        if isinstance(action, Commit):
            self.move, self.location = replace(self.move, phase=MovePhase.COMMITTED), "b"
        else:
            self.move = replace(self.move, phase=MovePhase.SETTLED)
        self.revision += 1
        self.history.append(self.move.phase)
        return True


@given(events=EVENTS, gaps=st.lists(st.floats(0, 3), min_size=60, max_size=60))
def test_any_interleaving_has_one_owner_keeps_the_order_and_ends(
    events: list[Event | str], gaps: list[float]
) -> None:
    store, now = Store(), 0.0
    applied = dict.fromkeys("abcd", 0)
    machine = make_machine()
    asked: list[Action] = list(machine.handle(PhaseRecorded(store.move, 7, applied), now))

    def record() -> None:
        while asked:
            if store.write(asked.pop(0)):
                asked.extend(
                    machine.handle(PhaseRecorded(store.move, store.revision, applied), now)
                )

    for event, gap in zip(events, gaps, strict=False):
        now += gap
        if event == "record":
            record()
        elif event == "restart":
            # Another driver takes over; the old one's last wish may still arrive at the store.
            machine = make_machine()
            again = machine.handle(PhaseRecorded(store.move, store.revision, applied), now)
            asked.extend(again)
        else:
            assert not isinstance(event, str)
            if isinstance(event, HostApplied):
                applied[event.host] = event.revision
            asked.extend(machine.handle(event, now))
        assert (store.location == MOVE.source) is (store.move.phase is MovePhase.PREPARING)

    # Time alone brings every move to its end, whoever is missing.
    for _ in range(4):
        record()
        now += 10
        asked.extend(machine.handle(TimePassed(), now))
    record()

    assert store.history == [MovePhase.PREPARING, MovePhase.COMMITTED, MovePhase.SETTLED]
    assert store.location == "b"
    assert machine.is_ended


@given(events=EVENTS)
def test_it_never_commits_early(events: list[Event | str]) -> None:
    machine = make_machine()
    behind = {"a", "b", "c"}
    actions = list(machine.handle(PhaseRecorded(MOVE, 7, dict.fromkeys(behind, 6)), 0))

    for event in events:
        if isinstance(event, str):
            continue
        if isinstance(event, HostApplied):
            (behind.discard if event.revision >= 7 else behind.add)(event.host)
        if isinstance(event, HostLeft) and event.host != MOVE.destination:
            behind.discard(event.host)
        new = machine.handle(event, 4.9)
        if new:
            assert not behind
            assert new == (Commit(MOVE, ()),)
            actions.extend(new)
            break

    assert len(actions) <= 1
