"""What the state machine of a move asks its driver to record.

lagging: hosts that had not applied the phase that ends, sorted. carried: how many connections the
source has carried so far, None if it has not said. warning: what went less well, or empty.
"""

from __future__ import annotations

from dataclasses import dataclass

from netagent.model.fleet import Move


@dataclass(frozen=True, slots=True)
class MakeReady:
    """Record that all is prepared and the trigger has yet to come."""

    move: Move
    lagging: tuple[str, ...] = ()
    carried: int | None = None
    warning: str = ""


@dataclass(frozen=True, slots=True)
class Commit:
    """Record the commit: the location flips, in the same transaction."""

    move: Move
    lagging: tuple[str, ...] = ()
    carried: int | None = None
    warning: str = ""


@dataclass(frozen=True, slots=True)
class Settle:
    """Record the end of the move: the source and the transition are let go."""

    move: Move
    lagging: tuple[str, ...] = ()
    carried: int | None = None
    warning: str = ""


@dataclass(frozen=True, slots=True)
class Abort:
    """Record that the move is undone: the machine stays exactly as it was."""

    move: Move
    reason: str


Action = MakeReady | Commit | Settle | Abort
