"""Long-lived trouble, as a registry: what is wrong, how bad, since when.

A condition is raised as often as its cause is seen and keeps its first time; it is logged when it
comes, when its detail changes, and when it goes. Any thread may call.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum

log = logging.getLogger(__name__)


class Severity(Enum):
    """How bad a condition is."""

    WARNING = "warning"
    ERROR = "error"


class Code(Enum):
    """Every condition there is; the value is its name in status."""

    CONTROL_UNREACHABLE = "control_unreachable"
    REGISTRATION_REFUSED = "registration_refused"
    BATCH_REJECTED = "batch_rejected"
    RECONCILE_FAILING = "reconcile_failing"
    WIREGUARD_DOWN = "wireguard_down"
    NO_HANDSHAKE = "no_handshake"
    ENDPOINT_MISSING = "endpoint_missing"
    MACHINE_TAKEN = "machine_taken"
    REPLICA_FAILING = "replica_failing"
    FLOWS_UNREADABLE = "flows_unreadable"

    @property
    def severity(self) -> Severity:
        """ERROR when a human must act, WARNING while netagent mends it."""
        return Severity.ERROR if self in _HUMAN_MUST_ACT else Severity.WARNING


_HUMAN_MUST_ACT = {
    Code.REGISTRATION_REFUSED,
    Code.BATCH_REJECTED,
    Code.REPLICA_FAILING,
    Code.MACHINE_TAKEN,
}


@dataclass(frozen=True, slots=True)
class Condition:
    """One piece of trouble. subject: what it is about, or empty. since_s: Unix time."""

    code: Code
    subject: str
    since_s: float
    detail: str


class Conditions:
    """The registry. unix_time_s: reads the wall clock, for people."""

    def __init__(self, unix_time_s: Callable[[], float]) -> None:
        self._unix_time_s = unix_time_s
        self._lock = threading.Lock()
        self._active: dict[tuple[Code, str], Condition] = {}

    def set(self, code: Code, detail: str, subject: str = "") -> None:
        """Raise a condition, or renew its detail."""
        key = code, subject
        with self._lock:
            before = self._active.get(key)
            since_s = before.since_s if before else self._unix_time_s()
            self._active[key] = Condition(code, subject, since_s, detail)
        if before is None or before.detail != detail:
            level = logging.ERROR if code.severity is Severity.ERROR else logging.WARNING
            log.log(level, "condition code=%s detail=%r", code.value, detail)

    def clear(self, code: Code, subject: str = "") -> None:
        """End a condition; nothing happens when there is none."""
        with self._lock:
            before = self._active.pop((code, subject), None)
        if before is not None:
            lasted_s = self._unix_time_s() - before.since_s
            log.info("condition ended code=%s lasted_s=%.1f", code.value, lasted_s)

    def replace(self, code: Code, details: Mapping[str, str]) -> None:
        """Make subject -> detail the whole of one code's conditions."""
        with self._lock:
            gone = [s for c, s in self._active if c is code and s not in details]
        for subject in gone:
            self.clear(code, subject)
        for subject, detail in sorted(details.items()):
            self.set(code, detail, subject)

    def active(self) -> list[Condition]:
        """Return the conditions, the oldest first."""
        with self._lock:
            found = list(self._active.values())
        return sorted(found, key=lambda c: (c.since_s, c.code.value, c.subject))
