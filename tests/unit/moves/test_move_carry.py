"""Forced moves, and the connections that others carry."""

from __future__ import annotations

from dataclasses import replace

import pytest
from move_examples import BY_CALL, CALLED, COMMITTED, MOVE, make_machine

from netagent.moves.actions import Commit, Settle
from netagent.moves.events import (
    Event,
    HostApplied,
    HostLeft,
    HostReported,
    PhaseRecorded,
    TimePassed,
)
from netagent.moves.reports import Carried


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
