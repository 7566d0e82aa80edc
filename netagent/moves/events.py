"""What happens to a move: what its state machine is told."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass

from netagent.model.fleet import Move
from netagent.moves.reports import Report


@dataclass(frozen=True, slots=True)
class PhaseRecorded:
    """The store holds the move in a phase, since `revision`; also when it was called for meanwhile.

    hosts: every host to wait for, with the newest revision that it has applied.
    reporting: hosts that are connected and send reports (older agents do not).
    is_called: somebody said that the machine is at the destination.
    carried: how many connections have been carried up to this phase; None: not done.
    ready_bound_s: how long it waits for its trigger.
    """

    move: Move
    revision: int
    hosts: Mapping[str, int]
    reporting: Set[str] = frozenset()
    is_called: bool = False
    carried: int | None = None
    ready_bound_s: float = 3600.0


@dataclass(frozen=True, slots=True)
class HostApplied:
    """A host has everything it needs up to `revision`; also what a host that connects brings."""

    host: str
    revision: int
    is_reporting: bool = False


@dataclass(frozen=True, slots=True)
class HostLeft:
    """A host is no longer connected, or no longer needs the machine's network."""

    host: str


@dataclass(frozen=True, slots=True)
class HostRejected:
    """A host cannot hold what it was told up to `revision`."""

    host: str
    revision: int
    reason: str


@dataclass(frozen=True, slots=True)
class HostReported:
    """A host reports about a move of the machine. epoch: that of the move it means."""

    host: str
    epoch: int
    report: Report


@dataclass(frozen=True, slots=True)
class TimePassed:
    """The deadline may have been reached."""


Event = PhaseRecorded | HostApplied | HostLeft | HostRejected | HostReported | TimePassed
