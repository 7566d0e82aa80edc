"""What this host has to say about moves: said to control as it comes, and again on each stream.

Control may have been another process before, or may have lost what it heard; what holds is repeated
until the move is over. Control ignores what comes late or twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Set

from netagent.api.control.v1 import sync_service_pb2
from netagent.api.convert_sync import report_to_message
from netagent.model.addresses import StableId
from netagent.moves.reports import Report

_Key = tuple[StableId, int]


class MoveReports:
    """The latest report of each move, by (id, epoch of the move)."""

    def __init__(self) -> None:
        self._held: dict[_Key, Report] = {}
        self._unsent: dict[_Key, None] = {}
        self._wake = asyncio.Event()

    def say(self, stable_id: StableId, epoch: int, report: Report) -> None:
        """Report this, now and on each new stream."""
        key = stable_id, epoch
        self._held[key] = report
        self._unsent[key] = None
        self._wake.set()

    def holds(self, key: _Key) -> bool:
        """Whether anything has been reported of that move."""
        return key in self._held

    def keep_only(self, moves: Set[_Key]) -> None:
        """Forget reports of moves that are over."""
        self._held = {key: report for key, report in self._held.items() if key in moves}

    async def send(self, write: Callable[[sync_service_pb2.SyncRequest], Awaitable[None]]) -> None:
        """Send all that holds on a new stream, then what comes, until cancelled."""
        self._unsent = dict.fromkeys(self._held)
        while True:
            while self._unsent:
                key = next(iter(self._unsent))
                del self._unsent[key]
                if (report := self._held.get(key)) is not None:
                    message = report_to_message(*key, report)
                    await write(sync_service_pb2.SyncRequest(report=message))
            self._wake.clear()
            await self._wake.wait()
