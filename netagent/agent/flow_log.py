"""The latest flows that the data path reported, and those who follow them.

Knows no kernel and no message. One thread: the event loop's.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from netagent.dataplane.abi_flows import EventLosses, EventRow

REMEMBERED_MOST = 10_000
WAITING_MOST = 1_000
"""Flows that a follower may be behind."""


@dataclass(frozen=True, slots=True)
class NamedFlow:
    """An event with what its numbers stood for when it came.

    time_ns: Unix. source_address, destination_address: as the ends know them, never a locator's.
    *_name: NETWORK/NAME, `host:NAME`, or empty. network: empty when no policy spoke. rule,
    audit_rule: names, empty for the default.
    """

    event: EventRow
    time_ns: int
    source_address: str
    source_name: str
    destination_address: str
    destination_name: str
    network: str
    rule: str
    audit_rule: str


@dataclass(frozen=True, slots=True)
class FlowReport:
    """One flow for one follower; suppressed, lost: not reported since the one before."""

    flow: NamedFlow
    suppressed: int = 0
    lost: int = 0


class Follower:
    """What waits for one caller. A flow too many is lost, and counted."""

    def __init__(self, wanted: Callable[[NamedFlow], bool]) -> None:
        self._wanted = wanted
        self._waiting: deque[NamedFlow] = deque()
        self._arrived = asyncio.Event()
        self._suppressed = 0
        self._lost = 0
        self._is_over = False

    def offer(self, flows: Iterable[NamedFlow], suppressed: int, lost: int) -> None:
        """Take what has come; suppressed, lost: what the data path did not report beside it."""
        self._suppressed += suppressed
        self._lost += lost
        for flow in filter(self._wanted, flows):
            if len(self._waiting) == WAITING_MOST:
                self._lost += 1
            else:
                self._waiting.append(flow)
        if self._waiting:
            self._arrived.set()

    def end(self) -> None:
        """Let no more come; what waits can still be fetched."""
        self._is_over = True
        self._arrived.set()

    async def next(self) -> FlowReport | None:
        """Return the next flow, once there is one; None when there will be none."""
        await self._arrived.wait()
        if not self._waiting:
            return None
        report = FlowReport(self._waiting.popleft(), self._suppressed, self._lost)
        self._suppressed = self._lost = 0
        if not self._waiting and not self._is_over:
            self._arrived.clear()
        return report


class FlowLog:
    """The latest REMEMBERED_MOST flows, the oldest first."""

    def __init__(self) -> None:
        self._flows: deque[NamedFlow] = deque(maxlen=REMEMBERED_MOST)
        self._followers: set[Follower] = set()
        self._losses: EventLosses | None = None

    def add(self, flows: list[NamedFlow], losses: EventLosses) -> None:
        """Take the newest flows.

        losses: counted by the data path since its maps were made; what the first call says is from
        before our time.
        """
        before = self._losses or losses
        self._losses = losses
        self._flows.extend(flows)
        for follower in self._followers:
            follower.offer(flows, losses.suppressed - before.suppressed, losses.lost - before.lost)

    def close(self) -> None:
        """End all followers: the agent stops."""
        for follower in self._followers:
            follower.end()

    def remembered(self, wanted: Callable[[NamedFlow], bool]) -> list[NamedFlow]:
        """Return the flows remembered that are wanted, the oldest first."""
        return list(filter(wanted, self._flows))

    @contextmanager
    def follow(self, wanted: Callable[[NamedFlow], bool]) -> Iterator[Follower]:
        """Give a follower all that comes while the block runs."""
        follower = Follower(wanted)
        self._followers.add(follower)
        try:
            yield follower
        finally:
            self._followers.discard(follower)
