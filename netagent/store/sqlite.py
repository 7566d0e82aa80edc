"""The embedded store: one SQLite file, one process.

One worker thread owns the connection. Transactions that arrive while one is being written are
written together in the next SQLite transaction (one fsync for all), each with a revision of its
own; none is answered before the fsync. Recent changes stay in memory so that a watcher that keeps
up never reads the file.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import sqlite3
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Self, TypeVar

from netagent.model.errors import StateError, UnavailableError
from netagent.store.contract import (
    Changes,
    CompactedError,
    Compare,
    FutureRevisionError,
    Item,
    Operation,
    Page,
    check_transaction,
)
from netagent.store.sqlite_file import SqliteFile

HISTORY_REVISIONS = 20_000
"""How many revisions are kept for those who resume; compacted when there are twice as many."""

RECENT_REVISIONS = 4_096
"""How many revisions watchers find in memory."""

_WATCH_CHUNK_REVISIONS = 1_000

_Result = TypeVar("_Result")
_Pending = tuple[Sequence[Compare], Sequence[Operation], "asyncio.Future[int | None]"]


class SqliteStore:
    """The contract (netagent.store.contract.Store) on one file. Made by `open`."""

    def __init__(self, file: SqliteFile, lock_fd: int, history_revisions: int) -> None:
        self._file = file
        self._lock_fd = lock_fd
        self._history_revisions = history_revisions
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="store")
        self._loop = asyncio.get_running_loop()
        self._pending: deque[_Pending] = deque()
        self._is_flush_due = False
        self._revision = file.revision
        self._recent: deque[Changes] = deque(maxlen=RECENT_REVISIONS)
        self._recent_after = file.revision
        self._grown = asyncio.Event()
        self._is_closed = False

    @classmethod
    async def open(cls, path: Path, *, history_revisions: int = HISTORY_REVISIONS) -> Self:
        """Open or make the file and its directory.

        Raises StateError while another process holds it, UnavailableError when it cannot be read.
        """
        return cls(*await asyncio.to_thread(_open, path), history_revisions)

    async def revision(self) -> int:
        """See Store.revision."""
        return self._revision

    async def oldest_revision(self) -> int:
        """See Store.oldest_revision."""
        return await self._call(self._oldest)

    async def get(self, key: bytes, *, revision: int = 0) -> Item | None:
        """See Store.get."""
        return await self._call(lambda: self._file.get(key, self._readable(revision)))

    async def range(
        self, prefix: bytes, *, start: bytes = b"", limit: int = 0, revision: int = 0
    ) -> Page:
        """See Store.range."""

        def read() -> Page:
            at_revision = self._readable(revision)
            items = self._file.range(prefix, start, limit + 1 if limit else -1, at_revision)
            more = bool(limit) and len(items) > limit
            return Page(tuple(items[:limit] if more else items), more, at_revision)

        return await self._call(read)

    async def transact(
        self, compares: Sequence[Compare], operations: Sequence[Operation]
    ) -> int | None:
        """See Store.transact."""
        check_transaction(compares, operations)
        self._refuse_closed()
        answer: asyncio.Future[int | None] = self._loop.create_future()
        self._pending.append((compares, operations, answer))
        if not self._is_flush_due:
            self._is_flush_due = True
            self._worker.submit(self._flush)
        return await answer

    async def watch(self, prefix: bytes, *, after: int) -> AsyncIterator[Changes]:
        """See Store.watch."""
        while True:
            self._refuse_closed()
            newest = self._revision
            if after >= newest:
                grown = self._grown
                await grown.wait()
                continue
            if after < self._file.compacted:
                raise CompactedError(after, self._file.compacted)
            if after >= self._recent_after:
                skip = after - self._recent_after
                batch = [self._recent[index] for index in range(skip, len(self._recent))]
            else:
                newest = min(newest, after + _WATCH_CHUNK_REVISIONS)
                batch = await self._call(partial(self._history, after, newest))
            after = newest
            for changes in batch:
                matching = tuple(c for c in changes.changes if c.key.startswith(prefix))
                yield Changes(changes.revision, matching)

    async def compact(self, revision: int) -> None:
        """See Store.compact."""

        def work() -> None:
            if revision > self._file.revision:
                raise FutureRevisionError(f"revision {revision} has not happened yet")
            self._file.compact(revision)

        await self._call(work)

    async def close(self) -> None:
        """See Store.close."""
        if self._is_closed:
            return
        self._is_closed = True
        self._grown.set()
        await self._loop.run_in_executor(self._worker, self._file.close)
        self._fail(list(self._pending), "the store is closed")
        self._worker.shutdown()
        os.close(self._lock_fd)

    async def _call(self, work: Callable[[], _Result]) -> _Result:
        """Run blocking work on the worker; the driver's errors become UnavailableError."""
        self._refuse_closed()
        try:
            return await self._loop.run_in_executor(self._worker, work)
        except sqlite3.Error as error:
            raise UnavailableError(f"the store cannot answer: {error}") from error

    def _refuse_closed(self) -> None:
        if self._is_closed:
            raise UnavailableError("the store is closed")

    def _readable(self, revision: int) -> int:
        if revision > self._file.revision:
            raise FutureRevisionError(f"revision {revision} has not happened yet")
        if 0 < revision < self._file.compacted:
            raise CompactedError(revision, self._file.compacted)
        return revision or self._file.revision

    def _oldest(self) -> int:
        return self._file.compacted

    def _history(self, after: int, up_to: int) -> list[Changes]:
        if after < self._file.compacted:
            raise CompactedError(after, self._file.compacted)
        return self._file.changes(after, up_to)

    def _flush(self) -> None:
        """Write everything that waits in one SQLite transaction. Runs on the worker."""
        taken: list[_Pending] = []
        while self._pending:
            taken.append(self._pending.popleft())
        try:
            answers, changes = self._file.write([(pending[0], pending[1]) for pending in taken])
        except Exception as error:  # whatever it is, nobody may be left waiting
            self._loop.call_soon_threadsafe(self._fail, taken, repr(error))
            return
        self._loop.call_soon_threadsafe(self._publish, taken, answers, changes)
        if self._file.revision - self._file.compacted > 2 * self._history_revisions:
            self._file.compact(self._file.revision - self._history_revisions)

    def _publish(
        self, taken: list[_Pending], answers: list[int | None], changes: list[Changes]
    ) -> None:
        self._flush_again()
        self._recent.extend(changes)
        if changes:
            self._revision = changes[-1].revision
            self._recent_after = self._recent[0].revision - 1
            grown, self._grown = self._grown, asyncio.Event()
            grown.set()
        for (_, _, answer), result in zip(taken, answers, strict=True):
            if not answer.done():
                answer.set_result(result)

    def _fail(self, taken: list[_Pending], problem: str) -> None:
        self._flush_again()
        for _, _, answer in taken:
            if not answer.done():
                answer.set_exception(UnavailableError(f"the store cannot write: {problem}"))

    def _flush_again(self) -> None:
        self._is_flush_due = bool(self._pending) and not self._is_closed
        if self._is_flush_due:
            self._worker.submit(self._flush)


def _open(path: Path) -> tuple[SqliteFile, int]:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock_fd = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise UnavailableError(f"cannot use {path.parent}: {error.strerror}") from error
    try:
        fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return SqliteFile(path), lock_fd
    except BlockingIOError as error:
        os.close(lock_fd)
        raise StateError(f"another process uses {path}; stop it first") from error
    except sqlite3.Error as error:
        os.close(lock_fd)
        raise UnavailableError(f"cannot open {path}: {error}") from error
