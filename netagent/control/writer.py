"""Changes to the store: planned on the view, written by compare-and-swap, seen before answering."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from netagent.control.feed import Feed
from netagent.control.view import View
from netagent.model.errors import UnavailableError
from netagent.store.contract import MAX_OPERATIONS, Compare, Delete, Operation, Store

ATTEMPTS = 32
"""How often a change is planned anew because something else was faster."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One transaction. Without operations nothing has to change."""

    compares: tuple[Compare, ...]
    operations: tuple[Operation, ...]


class Writer:
    """Writes plans."""

    def __init__(self, store: Store, feed: Feed) -> None:
        self.feed = feed
        self._store = store
        self._locks: dict[str, asyncio.Lock] = {}
        self._users: defaultdict[str, int] = defaultdict(int)

    async def write(self, plan: Callable[[View], Plan], *, scopes: Iterable[str] = ()) -> View:
        """Plan on the newest view and write, again while others are faster.

        scopes: plans of one scope wait for each other here instead of failing each other in the
        store; those of other processes are still held off by compare-and-swap.
        Returns the view that holds the change. Raises what the plan raises, and UnavailableError.
        """
        async with AsyncExitStack() as turns:
            for scope in sorted(scopes):
                await turns.enter_async_context(self._turn(scope))
            for _ in range(ATTEMPTS):
                view = await self.feed.catch_up()
                planned = plan(view)
                if not planned.operations:
                    return view
                revision = await self._store.transact(planned.compares, planned.operations)
                if revision is not None:
                    await self.feed.reached(revision)
                    return view
        raise UnavailableError(f"others changed the same {ATTEMPTS} times in a row; call again")

    async def delete_all(self, prefix: bytes) -> None:
        """Delete everything below a prefix, in as many transactions as it takes."""
        while True:
            page = await self._store.range(prefix, limit=MAX_OPERATIONS)
            if page.items:
                await self._store.transact((), [Delete(item.key) for item in page.items])
            if not page.more:
                return

    @asynccontextmanager
    async def _turn(self, scope: str) -> AsyncIterator[None]:
        lock = self._locks.setdefault(scope, asyncio.Lock())
        self._users[scope] += 1
        try:
            async with lock:
                yield
        finally:
            self._users[scope] -= 1
            if not self._users[scope]:
                del self._users[scope], self._locks[scope]
