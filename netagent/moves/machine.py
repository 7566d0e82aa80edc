"""The state machine of one move: waits for hosts, decides when to commit and when to settle.

The driver hands in what happened with the time, and carries out the actions that come back; every
decision is here. A phase is entered when the store has recorded it (`PhaseRecorded`), not when it
was asked for: a driver that dies in between leaves a record from which any other resumes.

    preparing --(all hosts that matter hold it, or the bound)--> Commit
    committed --(the same, and the drain is over)--> Settle
    settled, aborted: final

Carrying connection state (after preparing), aborting and forcing are further events of the
preparing phase; they come with their own issue.

A host matters when it holds the machine's network and is connected: one that is away learns the
newest state before anything else when it comes back. The destination matters even while it is away,
up to the bound: a machine is better off where it runs than at a host that has just died.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from netagent.model.fleet import Move, MovePhase


@dataclass(frozen=True, slots=True)
class PhaseRecorded:
    """The store holds the move in a phase, since `revision`.

    hosts: every host to wait for, with the newest revision that it has applied.
    """

    move: Move
    revision: int
    hosts: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class HostApplied:
    """A host has everything it needs up to `revision`; also what a host that connects brings."""

    host: str
    revision: int


@dataclass(frozen=True, slots=True)
class HostLeft:
    """A host is no longer connected, or no longer needs the machine's network."""

    host: str


@dataclass(frozen=True, slots=True)
class TimePassed:
    """The deadline may have been reached."""


Event = PhaseRecorded | HostApplied | HostLeft | TimePassed


@dataclass(frozen=True, slots=True)
class Commit:
    """Record the commit: the location flips, in the same transaction.

    lagging: hosts that the bound has overtaken, sorted.
    """

    move: Move
    lagging: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Settle:
    """Record the end of the move: the source and the transition are let go."""

    move: Move
    lagging: tuple[str, ...]


Action = Commit | Settle

_NEXT: Mapping[MovePhase, type[Commit] | type[Settle]] = {
    MovePhase.PREPARING: Commit,
    MovePhase.COMMITTED: Settle,
}
"""What ends each phase that ends."""


class MoveMachine:
    """One move. Begins with the first PhaseRecorded.

    prepare_bound_s, settle_bound_s: how long hosts may hold up commit and settle.
    drain_s: how much longer the source forwards once all hosts have learned of the commit, for
        packets under way: a host that has applied the commit may have sent a moment before.
    """

    def __init__(self, *, prepare_bound_s: float, settle_bound_s: float, drain_s: float) -> None:
        self._bound_s = {
            MovePhase.PREPARING: prepare_bound_s,
            MovePhase.COMMITTED: settle_bound_s,
        }
        self._drain_s = drain_s
        self._drained_at: float | None = None
        self._move: Move | None = None
        self._revision = 0
        self._waiting: set[str] = set()
        self._deadline: float | None = None

    @property
    def is_ended(self) -> bool:
        """Whether the move has reached a final phase."""
        return self._move is not None and self._move.phase not in _NEXT

    @property
    def waiting(self) -> tuple[str, ...]:
        """The hosts that hold up the next phase, sorted."""
        return tuple(sorted(self._waiting))

    def deadline(self) -> float | None:
        """Return when to send TimePassed, in the seconds of `now`; None: nothing is waited for."""
        if self._deadline is not None and self._drained_at is not None:
            return min(self._deadline, self._drained_at)
        return self._deadline

    def handle(self, event: Event, now: float) -> tuple[Action, ...]:
        """Take one event and return what to do, in order. now: monotonic seconds."""
        match event:
            case PhaseRecorded(move, revision, hosts):
                self._move, self._revision = move, revision
                is_placement = not move.source and move.phase is MovePhase.PREPARING
                behind = {host for host, applied in hosts.items() if applied < revision}
                self._waiting = set() if is_placement or self.is_ended else behind
                self._deadline = None if self.is_ended else now + self._bound_s[move.phase]
                self._drained_at = None
            case HostApplied(host, revision):
                # A host that came in the middle is waited for like the others.
                (self._waiting.discard if revision >= self._revision else self._waiting.add)(host)
            case HostLeft(host):
                if self._move is None or host != self._move.destination:
                    self._waiting.discard(host)
            case TimePassed():
                pass
        return self._decide(now)

    def _decide(self, now: float) -> tuple[Action, ...]:
        # No deadline: ended, or asked for already and not recorded yet.
        if self._move is None or self._deadline is None:
            return ()
        if now < self._deadline and (self._waiting or self._is_draining(now)):
            return ()
        self._deadline = None
        return (_NEXT[self._move.phase](self._move, self.waiting),)

    def _is_draining(self, now: float) -> bool:
        assert self._move is not None
        if self._move.phase is not MovePhase.COMMITTED or not self._move.source:
            return False
        if self._drained_at is None:
            self._drained_at = now + self._drain_s
        return now < self._drained_at
