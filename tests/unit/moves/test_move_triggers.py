"""What commits a move, and what undoes it before that."""

from __future__ import annotations

import pytest
from move_examples import BY_CALL, BY_LIFE, CALLED, COMMITTED, LIVELY, MOVE, make_machine, prepared

from netagent.model.fleet import Move
from netagent.moves.actions import Abort, Commit, MakeReady, Settle
from netagent.moves.events import (
    Event,
    HostApplied,
    HostRejected,
    HostReported,
    PhaseRecorded,
    TimePassed,
)
from netagent.moves.reports import Alive, Refused


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
