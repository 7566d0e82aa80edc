"""The state machine of a move: whom it waits for, for how long, and what it never does."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netagent.model.addresses import make_id
from netagent.model.fleet import Move, MovePhase, MoveTrigger
from netagent.moves.actions import Abort, Action, Commit, MakeReady, Settle
from netagent.moves.events import (
    Event,
    HostApplied,
    HostLeft,
    HostRejected,
    HostReported,
    PhaseRecorded,
    TimePassed,
)
from netagent.moves.machine import MoveMachine
from netagent.moves.reports import Alive, Carried, Refused

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
    machine = prepared(a=6, b=7, c=6)
    assert machine.deadline() == 105

    assert machine.handle(TimePassed(), 104.9) == ()
    assert machine.handle(TimePassed(), 105) == (Commit(MOVE, ("a", "c")),)
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


# Triggers


CALLED = replace(MOVE, trigger=MoveTrigger.CALL)
LIVELY = replace(MOVE, trigger=MoveTrigger.LIFE)
BY_CALL = replace(CALLED, phase=MovePhase.READY)
BY_LIFE = replace(LIVELY, phase=MovePhase.READY)


@pytest.mark.parametrize("move", [CALLED, LIVELY])
def test_what_has_a_trigger_is_made_ready_and_not_committed(move: Move) -> None:
    machine = make_machine()

    assert machine.handle(PhaseRecorded(move, 7, {"a": 7, "b": 6}), 100) == ()
    assert machine.handle(HostApplied("b", 7), 101) == (MakeReady(move),)


def test_a_move_that_is_ready_commits_when_it_is_called() -> None:
    machine = make_machine()
    machine.handle(PhaseRecorded(BY_CALL, 8, {"a": 8}, ready_bound_s=60), 100)

    assert machine.handle(HostApplied("a", 9), 101) == ()
    assert machine.deadline() == 160
    called = PhaseRecorded(BY_CALL, 9, {"a": 9}, is_called=True, ready_bound_s=60)
    assert machine.handle(called, 102) == (Commit(BY_CALL),)


def test_a_call_while_it_is_prepared_commits_once_it_is() -> None:
    machine = make_machine()
    machine.handle(PhaseRecorded(CALLED, 7, {"a": 7, "b": 6}), 100)

    assert machine.handle(PhaseRecorded(CALLED, 8, {"a": 7, "b": 6}, is_called=True), 103) == ()
    assert machine.deadline() == 105
    assert machine.handle(HostApplied("b", 7), 104) == (Commit(CALLED),)


def test_life_at_the_destination_commits() -> None:
    machine = make_machine()
    machine.handle(PhaseRecorded(BY_LIFE, 8, {"a": 8, "b": 8}, {"a", "b"}), 100)

    assert machine.handle(HostReported("b", 2, Alive()), 101) == (Commit(BY_LIFE),)


def test_life_that_came_early_counts() -> None:
    machine = make_machine()
    machine.handle(PhaseRecorded(LIVELY, 7, {"b": 6}, {"b"}), 100)

    assert machine.handle(HostReported("b", 2, Alive()), 101) == ()
    assert machine.handle(HostApplied("b", 7, is_reporting=True), 102) == (Commit(LIVELY),)


@pytest.mark.parametrize(
    "event",
    [
        pytest.param(HostReported("b", 1, Alive()), id="older"),
        pytest.param(HostReported("b", 3, Alive()), id="newer"),
        pytest.param(HostReported("a", 2, Alive()), id="source"),
        pytest.param(HostReported("c", 2, Alive()), id="third"),
        pytest.param(HostReported("a", 2, Refused("no")), id="source-refuses"),
        pytest.param(HostReported("b", 1, Refused("no")), id="old-refusal"),
        pytest.param(HostRejected("b", 9, "full"), id="rejects-something-else"),
        pytest.param(HostRejected("c", 9, "full"), id="third-rejects"),
    ],
)
def test_what_is_not_of_this_move_changes_nothing(event: Event) -> None:
    machine = make_machine()
    machine.handle(PhaseRecorded(BY_LIFE, 8, {"a": 8, "b": 8}, {"a", "b"}), 100)

    assert machine.handle(event, 101) == ()
    assert machine.deadline() == 3700


@pytest.mark.parametrize(
    ("move", "reason"),
    [
        pytest.param(BY_CALL, "no call has come in time", id="call"),
        pytest.param(
            BY_LIFE, "the machine has not shown life at its destination in time", id="life"
        ),
    ],
)
def test_a_trigger_that_does_not_come_undoes_the_move(move: Move, reason: str) -> None:
    machine = make_machine()
    machine.handle(PhaseRecorded(move, 8, {"b": 8}, ready_bound_s=60), 100)

    assert machine.handle(TimePassed(), 159.9) == ()
    assert machine.handle(TimePassed(), 160) == (Abort(move, reason),)
    assert machine.deadline() is None


# Aborts


def test_a_destination_that_is_not_prepared_in_time_undoes_the_move() -> None:
    machine = prepared(a=7, b=6)

    (action,) = machine.handle(TimePassed(), 105)

    assert action == Abort(MOVE, "host b has not applied the preparation within 5 s")


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (HostReported("b", 2, Refused("no room")), "host b refuses: no room"),
        (HostRejected("b", 7, "map full"), "host b cannot hold it: map full"),
    ],
)
def test_a_destination_that_cannot_take_it_undoes_the_move(event: Event, reason: str) -> None:
    machine = prepared(a=7, b=6, c=6)

    assert machine.handle(event, 101) == (Abort(MOVE, reason),)


def test_a_batch_from_before_the_move_that_is_rejected_says_nothing_of_it() -> None:
    machine = prepared(a=7, b=5)

    assert machine.handle(HostRejected("b", 6, "map full"), 101) == ()


def test_after_the_commit_nobody_can_refuse() -> None:
    machine = make_machine()
    machine.handle(PhaseRecorded(COMMITTED, 8, {"a": 7, "b": 7}), 100)

    assert machine.handle(HostReported("b", 2, Refused("no room")), 101) == ()
    assert machine.handle(HostRejected("b", 8, "map full"), 101) == ()
    assert machine.handle(TimePassed(), 110) == (Settle(COMMITTED, ("a", "b")),)


# Force


def test_a_forced_move_waits_for_the_destination_alone() -> None:
    forced = replace(MOVE, is_forced=True)
    machine = make_machine()

    assert machine.handle(PhaseRecorded(forced, 7, {"a": 6, "b": 6, "c": 6}, {"a"}), 100) == ()
    assert machine.handle(HostApplied("b", 7), 101) == (Commit(forced, ("c",)),)


def test_after_a_forced_commit_the_source_is_neither_waited_for_nor_drained() -> None:
    forced = replace(COMMITTED, is_forced=True)
    machine = make_machine()
    machine.handle(PhaseRecorded(forced, 8, {"a": 7, "b": 8, "c": 7}, {"a", "c"}), 100)

    assert machine.handle(HostApplied("a", 0, is_reporting=True), 101) == ()
    assert machine.handle(HostApplied("c", 8), 101) == (Settle(forced),)


# Carrying


def test_it_waits_until_the_source_has_carried() -> None:
    machine = make_machine()
    assert machine.handle(PhaseRecorded(MOVE, 7, {"a": 7, "b": 7}, {"a"}), 100) == ()

    assert machine.handle(HostReported("a", 2, Carried(50)), 101) == (Commit(MOVE, carried=50),)


@pytest.mark.parametrize(
    "report",
    [
        pytest.param(HostReported("a", 1, Carried(9, is_final=True)), id="older"),
        pytest.param(HostReported("b", 2, Carried(9, is_final=True)), id="from-elsewhere"),
    ],
)
def test_a_carry_of_another_move_or_host_is_none(report: HostReported) -> None:
    machine = make_machine()
    machine.handle(PhaseRecorded(MOVE, 7, {"a": 7, "b": 7}, {"a"}), 100)

    assert machine.handle(report, 101) == ()
    assert machine.carried is None


def test_connections_that_are_late_hold_nothing_up_for_ever() -> None:
    machine = make_machine()
    machine.handle(PhaseRecorded(MOVE, 7, {"a": 7, "b": 7}, {"a"}), 100)

    (action,) = machine.handle(TimePassed(), 105)

    assert isinstance(action, Commit)
    assert action.warning.startswith("host a has not carried the machine's connections within 5 s")


@pytest.mark.parametrize(
    "gone", [HostLeft("a"), HostApplied("a", 7)], ids=["source-leaves", "an-older-agent"]
)
def test_a_source_that_cannot_carry_is_not_waited_for(gone: Event) -> None:
    machine = make_machine()
    machine.handle(PhaseRecorded(MOVE, 7, {"a": 7, "b": 7}, {"a"}), 100)

    assert machine.handle(gone, 101) == (Commit(MOVE),)


def test_after_a_crash_it_waits_for_the_carry_of_a_source_that_comes_back() -> None:
    machine = make_machine()
    machine.handle(PhaseRecorded(MOVE, 7, {"a": 0, "b": 0}), 100)
    machine.handle(HostApplied("b", 7, is_reporting=True), 101)

    assert machine.handle(HostApplied("a", 7, is_reporting=True), 101) == ()
    assert machine.handle(HostReported("a", 2, Carried(3)), 102) == (Commit(MOVE, carried=3),)


def test_what_changed_is_carried_before_it_settles() -> None:
    machine = make_machine()
    machine.handle(PhaseRecorded(COMMITTED, 8, {"a": 8, "b": 8}, {"a"}, carried=50), 100)

    assert machine.handle(HostReported("a", 2, Carried(50)), 101) == ()
    assert machine.handle(HostReported("a", 2, Carried(53, is_final=True)), 102) == ()
    assert machine.deadline() == 103
    assert machine.handle(TimePassed(), 103) == (Settle(COMMITTED, carried=53),)


def test_what_is_carried_before_it_is_ready_is_not_asked_for_again() -> None:
    machine = make_machine()
    machine.handle(PhaseRecorded(CALLED, 7, {"a": 7, "b": 7}, {"a"}), 100)
    machine.handle(HostReported("a", 2, Carried(50)), 101)

    machine.handle(PhaseRecorded(BY_CALL, 8, {"a": 8, "b": 8}, {"a"}, carried=50), 101)

    assert machine.carried == 50
    again = PhaseRecorded(BY_CALL, 9, {"a": 9, "b": 9}, {"a"}, is_called=True, carried=50)
    assert machine.handle(again, 102) == (Commit(BY_CALL, carried=50),)


def test_a_host_that_comes_during_the_drain_begins_it_anew() -> None:
    machine = make_machine()
    machine.handle(PhaseRecorded(COMMITTED, 8, {"a": 8, "b": 8}), 100)

    machine.handle(HostApplied("c", 7), 100.5)

    assert machine.deadline() == 110
    machine.handle(HostApplied("c", 8), 104)
    assert machine.deadline() == 105


# Interleavings


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
        elif isinstance(action, Abort):
            self.move = replace(self.move, phase=MovePhase.ABORTED)
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
        assert (store.location == "b") is (MovePhase.COMMITTED in store.history)

    # Time alone brings every move to its end, whoever is missing.
    for _ in range(4):
        record()
        now += 10
        asked.extend(machine.handle(TimePassed(), now))
    record()

    is_undone = store.location == "a"
    assert store.history == (
        [MovePhase.PREPARING, MovePhase.ABORTED]
        if is_undone
        else [MovePhase.PREPARING, MovePhase.COMMITTED, MovePhase.SETTLED]
    )
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
