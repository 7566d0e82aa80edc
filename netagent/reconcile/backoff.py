"""When to try again: growing delays with jitter, and no timer where an event will do."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BackoffPolicy:
    """Seconds: first delay, greatest delay, growth per failure."""

    first_s: float = 0.2
    most_s: float = 5.0
    factor: float = 2.0


class Backoff:
    """Counts failures in a row. `jitter` comes from the caller, so that this stays pure."""

    def __init__(self, policy: BackoffPolicy) -> None:
        self._policy = policy
        self.failures = 0

    def fail(self, jitter: float) -> float:
        """Record a failure and return how long to wait, in seconds.

        jitter: 0 to 1; the delay is spread over the upper half, so that a fleet that lost control
        at one moment does not come back at one moment.
        """
        exponent = min(self.failures, 32)
        self.failures += 1
        delay_s = min(self._policy.first_s * self._policy.factor**exponent, self._policy.most_s)
        return delay_s * (0.5 + 0.5 * jitter)

    def succeed(self) -> None:
        """Start over from the first delay."""
        self.failures = 0
