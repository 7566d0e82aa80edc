"""When an agent tries control again, and what it says about it. No I/O; jitter comes as a value."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from netagent.reconcile.backoff import Backoff, BackoffPolicy

REFUSED_POLICY = BackoffPolicy(first_s=2.0, most_s=30.0)
LOST_POLICY = BackoffPolicy(first_s=0.1, most_s=5.0)


class Loss(Enum):
    """Why there is no stream. REFUSED: asking again changes nothing until a human acts."""

    UNREACHABLE = "unreachable"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Retry:
    """What to do after a loss. is_first: whether the outage begins here."""

    loss: Loss
    delay_s: float
    is_first: bool


class Reconnect:
    """Counts outages. A stream counts as up once its first batch has been applied."""

    def __init__(self) -> None:
        self._lost = Backoff(LOST_POLICY)
        self._refused = Backoff(REFUSED_POLICY)
        self.is_up = False

    def establish(self) -> bool:
        """Record that a batch was applied; return whether that ended an outage."""
        was_up, self.is_up = self.is_up, True
        self._lost.succeed()
        self._refused.succeed()
        return not was_up

    def lose(self, loss: Loss, jitter: float) -> Retry:
        """Record the loss of the stream, or that none came about."""
        was_up, self.is_up = self.is_up, False
        if loss is Loss.REFUSED:
            self._lost.succeed()
            return Retry(loss, self._refused.fail(jitter), was_up)
        self._refused.succeed()
        return Retry(loss, self._lost.fail(jitter), was_up)
