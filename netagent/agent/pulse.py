"""Tells any number of waiters that something has changed, and keeps no count."""

from __future__ import annotations

import asyncio


class Pulse:
    """Beats; who waits takes hold of the next beat before it looks, so that it misses none."""

    def __init__(self) -> None:
        self._next = asyncio.Event()

    @property
    def next(self) -> asyncio.Event:
        """The beat that comes next: an event that is set then, once and for all."""
        return self._next

    def beat(self) -> None:
        """Wake everybody who waits."""
        past, self._next = self._next, asyncio.Event()
        past.set()
