"""Keeps a view in step with the store, and lets others wait until it is."""

from __future__ import annotations

import asyncio
import heapq
from itertools import count

from netagent.control import keys
from netagent.control.view import View
from netagent.model.addresses import Fleet
from netagent.model.errors import UnavailableError
from netagent.store.contract import Store

LOAD_PAGE = 4_096
"""How many records one read of the first load takes."""


class Feed:
    """Owns the view. `load` once, then `run` for as long as the process lives."""

    def __init__(self, store: Store, fleet: Fleet) -> None:
        self.view = View(fleet)
        self._store = store
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._order = count()

    async def load(self) -> None:
        """Load the oldest state that the store can read and every change since.

        Beginning there, not at the newest revision, the view knows what was removed lately, so
        agents can resume across a restart of control.
        """
        oldest = await self._store.oldest_revision()
        start = b""
        while True:
            page = await self._store.range(keys.ROOT, start=start, limit=LOAD_PAGE, revision=oldest)
            self.view.load(page.items)
            if not page.more:
                break
            start = page.items[-1].key + b"\x00"
        self.view.loaded(oldest)
        newest = await self._store.revision()
        if newest > oldest:
            async for changes in self._store.watch(keys.ROOT, after=oldest):
                self.view.apply(changes)
                if changes.revision >= newest:
                    break

    async def run(self) -> None:
        """Follow the store until cancelled."""
        try:
            async for changes in self._store.watch(keys.ROOT, after=self.view.revision):
                self.view.apply(changes)
                while self._waiting and self._waiting[0][0] <= self.view.revision:
                    future = heapq.heappop(self._waiting)[2]
                    if not future.done():
                        future.set_result(None)
        finally:
            for _, _, future in self._waiting:
                if not future.done():
                    future.set_exception(UnavailableError("control is stopping; call again"))

    async def reached(self, revision: int) -> None:
        """Wait until the view holds a revision."""
        if self.view.revision < revision:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            heapq.heappush(self._waiting, (revision, next(self._order), future))
            await future

    async def catch_up(self) -> View:
        """Return the view once it holds everything acknowledged before this call."""
        await self.reached(await self._store.revision())
        return self.view
