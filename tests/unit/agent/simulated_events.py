"""The ring buffer in memory, with the behaviour of netagent.dataplane.events."""

from __future__ import annotations

import os

from netagent.dataplane.abi import Verdict
from netagent.dataplane.abi_flows import EventKind, EventLosses, EventRow, Program
from netagent.model.addresses import StableId
from netagent.model.errors import DataplaneError


class EventState:
    """What waits in the kernel; survives an agent that restarts."""

    def __init__(self) -> None:
        self.waiting: list[EventRow] = []
        self.losses = EventLosses(0, 0, 0)
        self.refuses = False
        self.bell: int | None = None

    def report(self, *events: EventRow, suppressed: int = 0, lost: int = 0) -> None:
        """What programs do."""
        before = self.losses
        self.losses = EventLosses(
            before.sent + len(events), before.suppressed + suppressed, before.lost + lost
        )
        self.waiting += events
        self.ring()

    def ring(self) -> None:
        if self.bell is not None and self.waiting:
            os.eventfd_write(self.bell, 1)


class SimulatedEvents:
    def __init__(self, state: EventState) -> None:
        self._state = state

    def fileno(self) -> int:
        if self._state.bell is None:
            self._state.bell = os.eventfd(0, os.EFD_NONBLOCK)
            self._state.ring()
        return self._state.bell

    def take(self, most: int = 1024) -> list[EventRow]:
        if self._state.refuses:
            raise DataplaneError("read", "ring buffer events", "refused", 1)
        taken, self._state.waiting = self._state.waiting[:most], self._state.waiting[most:]
        if self._state.bell is not None and not self._state.waiting and taken:
            os.eventfd_read(self._state.bell)
        return taken

    def losses(self) -> EventLosses:
        return self._state.losses

    def close(self) -> None:
        if self._state.bell is not None:
            os.close(self._state.bell)
            self._state.bell = None


def event(
    source: tuple[int, int],
    destination: tuple[int, int],
    kind: EventKind = EventKind.DROP,
    verdict: Verdict = Verdict.DROP_DENIED_EGRESS,
    **fields: int,
) -> EventRow:
    """A TCP packet to port 22. source, destination: upper and lower half of the address."""
    row = {
        "time_ns": 1_000_000_000,
        "bytes": 94,
        "network": 1,
        "version": 1,
        "rule": 0,
        "audit_rule": 0,
        "source_port": 40_000,
        "destination_port": 22,
        "program": Program.FROM_MACHINE,
        "direction": 0,
        "protocol": 6,
        "icmp_type": 0,
        "icmp_code": 0,
        "is_audited": kind is EventKind.AUDIT,
    } | fields
    return EventRow(
        source_upper=source[0],
        source=StableId(source[1]),
        destination_upper=destination[0],
        destination=StableId(destination[1]),
        kind=kind,
        verdict=verdict,
        **row,
    )
