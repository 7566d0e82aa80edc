"""The state machine under events in any order."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from move_examples import MOVE, make_machine

from netagent.model.fleet import MovePhase
from netagent.moves.actions import Abort, Action, Commit
from netagent.moves.events import (
    Event,
    HostApplied,
    HostLeft,
    PhaseRecorded,
    TimePassed,
)

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
