"""The state machine of a move: whom it waits for, for how long, and what it never does."""

from __future__ import annotations

from dataclasses import replace

import pytest
from move_examples import COMMITTED, MOVE, SETTLED, make_machine, prepared

from netagent.model.fleet import MovePhase
from netagent.moves.actions import Commit, Settle
from netagent.moves.events import (
    HostApplied,
    HostLeft,
    PhaseRecorded,
    TimePassed,
)


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


# Aborts


# Force


# Carrying


# Interleavings
