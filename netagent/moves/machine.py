"""The state machine of one move: what it waits for, and what it does next.

The driver hands in what happened with the time, and carries out the actions that come back; every
decision is here. A phase is entered when the store has recorded it (`PhaseRecorded`), not when it
was asked for: a driver that dies in between leaves a record from which any other resumes.

    phase      ends when                                            with
    preparing  the destination refuses                              Abort
               all hosts that matter hold it and the source has     Commit, or MakeReady where
               carried the machine's connections; or the bound      the trigger has yet to come
               has passed and the destination holds it
               the bound has passed and it does not                 Abort
    ready      the trigger comes: a call, or life                   Commit
               the destination refuses, or the bound has passed     Abort
    committed  all hosts that matter hold it, the source has        Settle
               carried what changed, and the drain is over;
               or the bound has passed
    settled, aborted: final

A host matters when it needs the machine's network and is connected: one that is away learns the
newest state before anything else when it comes back. The destination matters even while it is away:
a machine is better off where it runs than at a host that has just died. Of a forced move only the
destination matters before the commit, and never the source. Reports count from the host that may
make them and with the move's epoch; all others, late or replayed, change nothing.

Once asked for, an action is not asked for again: the driver repeats it until the store answers.
"""

from __future__ import annotations

from netagent.model.fleet import ENDED_PHASES, Move, MovePhase, MoveTrigger
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
from netagent.moves.reports import Alive, Carried, Refused, Report


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
        self._reporting: set[str] = set()
        self._deadline: float | None = None
        self._is_called = False
        self._is_alive = False
        self._refusal: str | None = None
        self._carried: int | None = None
        self._is_carry_due = False

    @property
    def is_ended(self) -> bool:
        """Whether the move has reached a final phase."""
        return self._move is not None and self._move.phase in ENDED_PHASES

    @property
    def waiting(self) -> tuple[str, ...]:
        """The hosts that have yet to apply the phase, sorted."""
        return tuple(sorted(self._waiting))

    @property
    def carried(self) -> int | None:
        """How many connections the source has carried; None: it has not said."""
        return self._carried

    def deadline(self) -> float | None:
        """Return when to send TimePassed, in the seconds of `now`; None: nothing is waited for."""
        if self._deadline is not None and self._drained_at is not None:
            return min(self._deadline, self._drained_at)
        return self._deadline

    def handle(self, event: Event, now: float) -> tuple[Action, ...]:
        """Take one event and return what to do, in order. now: monotonic seconds."""
        match event:
            case PhaseRecorded():
                self._take_record(event, now)
            case HostApplied(host, revision, is_reporting):
                (self._reporting.add if is_reporting else self._reporting.discard)(host)
                self._host_applied(host, revision)
            case HostLeft(host):
                self._reporting.discard(host)
                if self._move is None or host != self._move.destination:
                    self._waiting.discard(host)
            case HostRejected(host, revision, reason):
                is_of_this = host in self._waiting and revision >= self._revision
                if self._is_destination(host) and is_of_this:
                    self._refusal = f"host {host} cannot hold it: {reason}"
            case HostReported(host, epoch, report):
                self._take_report(host, epoch, report)
            case TimePassed():
                pass
        return self._decide(now)

    def _take_record(self, event: PhaseRecorded, now: float) -> None:
        is_new_phase = self._move is None or self._move.phase is not event.move.phase
        self._move, self._is_called = event.move, event.is_called
        if not is_new_phase:
            return
        self._revision = event.revision
        self._reporting = set(event.reporting)
        self._waiting = set()
        self._drained_at = None
        self._deadline = None
        if self.is_ended:
            return
        for host, applied in event.hosts.items():
            self._host_applied(host, applied)
        bound_s = self._bound_s.get(event.move.phase, event.ready_bound_s)
        self._deadline = now + bound_s
        if self._carried is None:
            self._carried = event.carried
        has_connections = bool(event.move.source) and not event.move.is_forced
        # After preparing the bulk has come or is given up; after the commit the rest is due.
        is_bulk = event.move.phase is MovePhase.PREPARING and self._carried is None
        self._is_carry_due = has_connections and (
            is_bulk or event.move.phase is MovePhase.COMMITTED
        )

    def _host_applied(self, host: str, revision: int) -> None:
        if self._move is not None and self._move.is_forced and host == self._move.source:
            return
        # A host that came in the middle is waited for like the others.
        (self._waiting.discard if revision >= self._revision else self._waiting.add)(host)

    def _take_report(self, host: str, epoch: int, report: Report) -> None:
        move = self._move
        if move is None or epoch != move.epoch:
            return
        match report:
            case Refused(reason) if self._is_destination(host):
                self._refusal = f"host {host} refuses: {reason}"
            case Alive() if self._is_destination(host):
                self._is_alive = True
            case Carried(entries, is_final) if host == move.source and not move.is_forced:
                self._carried = entries
                if is_final or move.phase is not MovePhase.COMMITTED:
                    self._is_carry_due = False
            case _:
                pass

    def _is_destination(self, host: str) -> bool:
        return self._move is not None and host == self._move.destination

    def _decide(self, now: float) -> tuple[Action, ...]:
        # No deadline: ended, or asked for already and not recorded yet.
        if self._move is None or self._deadline is None:
            return ()
        match self._move.phase:
            case MovePhase.PREPARING:
                action = self._end_preparing(self._move, now >= self._deadline)
            case MovePhase.READY:
                action = self._end_ready(self._move, now >= self._deadline)
            case _:
                action = self._end_committed(self._move, now)
        if action is None:
            return ()
        self._deadline = self._drained_at = None
        return (action,)

    def _end_preparing(self, move: Move, is_late: bool) -> Action | None:
        if self._refusal is not None:
            return Abort(move, self._refusal)
        # A placement takes nothing away from anybody: the machine has been nowhere.
        is_placed_at_once = not move.source and move.trigger is MoveTrigger.AT_ONCE
        needs_all = bool(move.source) and not move.is_forced
        holdups = self._waiting if needs_all else self._waiting & {move.destination}
        if is_placed_at_once:
            self._waiting = holdups = set()
        is_carry_missing = self._is_carry_missing(move)
        if not is_late and (holdups or is_carry_missing):
            return None
        if move.destination in holdups:
            bound_s = self._bound_s[MovePhase.PREPARING]
            return Abort(
                move,
                f"host {move.destination} has not applied the preparation within {bound_s:g} s",
            )
        warning = (
            f"host {move.source} has not carried the machine's connections within"
            f" {self._bound_s[MovePhase.PREPARING]:g} s; they are judged anew"
            if is_carry_missing
            else ""
        )
        kind = Commit if self._is_triggered(move) else MakeReady
        return kind(move, self.waiting, self._carried, warning)

    def _end_ready(self, move: Move, is_late: bool) -> Action | None:
        if self._refusal is not None:
            return Abort(move, self._refusal)
        if self._is_triggered(move):
            return Commit(move, self.waiting, self._carried)
        if is_late:
            what = "shown life at its destination" if move.trigger is MoveTrigger.LIFE else "come"
            who = "the machine has not" if move.trigger is MoveTrigger.LIFE else "no call has"
            return Abort(move, f"{who} {what} in time")
        return None

    def _end_committed(self, move: Move, now: float) -> Action | None:
        assert self._deadline is not None
        is_carry_missing = self._is_carry_missing(move)
        if now < self._deadline:
            if self._waiting or is_carry_missing:
                self._drained_at = None
                return None
            if self._is_draining(move, now):
                return None
        warning = (
            f"host {move.source} has not carried the newest connections in time; they are judged"
            " anew"
            if is_carry_missing
            else ""
        )
        return Settle(move, self.waiting, self._carried, warning)

    def _is_triggered(self, move: Move) -> bool:
        return (
            self._is_called
            or move.trigger is MoveTrigger.AT_ONCE
            or (move.trigger is MoveTrigger.LIFE and self._is_alive)
        )

    def _is_carry_missing(self, move: Move) -> bool:
        return self._is_carry_due and move.source in self._reporting

    def _is_draining(self, move: Move, now: float) -> bool:
        if not move.source or move.is_forced:
            return False
        if self._drained_at is None:
            self._drained_at = now + self._drain_s
        return now < self._drained_at
