"""What is particular to the embedded store: its file, its history, its one owner."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import aclosing
from pathlib import Path

import pytest

from netagent.model.errors import StateError, UnavailableError
from netagent.store import sqlite
from netagent.store.contract import CompactedError, Put
from netagent.store.sqlite import SqliteStore


async def test_what_was_written_is_there_after_opening_again(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "s" / "store.sqlite")
    revision = await store.transact((), [Put(b"a", b"1")])
    await store.close()

    again = await SqliteStore.open(tmp_path / "s" / "store.sqlite")

    assert await again.revision() == revision
    item = await again.get(b"a")
    assert item is not None
    assert (item.value, item.mod_revision) == (b"1", revision)
    await again.close()


async def test_a_watch_resumes_across_opening_again(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "store.sqlite")
    first = await store.transact((), [Put(b"a", b"1")])
    second = await store.transact((), [Put(b"a", b"2")])
    await store.close()
    assert first is not None

    again = await SqliteStore.open(tmp_path / "store.sqlite")

    async with aclosing(again.watch(b"", after=first)) as changes:
        assert (await anext(changes)).revision == second
    await again.close()


async def test_a_second_owner_is_refused(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "store.sqlite")

    with pytest.raises(StateError, match="another process uses"):
        await SqliteStore.open(tmp_path / "store.sqlite")

    await store.close()
    await (await SqliteStore.open(tmp_path / "store.sqlite")).close()


async def test_the_state_is_for_its_owner_only(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "made" / "store.sqlite")

    assert (tmp_path / "made").stat().st_mode & 0o777 == 0o700
    await store.close()


async def test_every_answer_waits_for_the_disk(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "store.sqlite")

    (mode,) = store._file._database.execute("PRAGMA journal_mode").fetchone()
    (synchronous,) = store._file._database.execute("PRAGMA synchronous").fetchone()

    assert (mode, synchronous) == ("wal", 2)
    await store.close()


async def test_the_history_stays_bounded(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "store.sqlite", history_revisions=10)

    for number in range(200):
        await store.transact((), [Put(b"a", str(number).encode())])

    oldest, newest = await store.oldest_revision(), await store.revision()
    assert 10 <= newest - oldest <= 21
    with sqlite3.connect(tmp_path / "store.sqlite") as reader:
        (rows,) = reader.execute("SELECT count(*) FROM item").fetchone()
    reader.close()
    assert rows <= 22
    await store.close()


async def test_a_watcher_that_falls_behind_memory_reads_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "RECENT_REVISIONS", 4)
    monkeypatch.setattr(sqlite, "_WATCH_CHUNK_REVISIONS", 3)
    store = await SqliteStore.open(tmp_path / "store.sqlite")
    start = await store.revision()
    for number in range(20):
        await store.transact((), [Put(b"a", str(number).encode())])

    seen = []
    async with asyncio.timeout(10), aclosing(store.watch(b"", after=start)) as watch:
        async for changes in watch:
            seen.append(changes.revision)
            if len(seen) == 20:
                break

    assert seen == list(range(start + 1, start + 21))
    await store.close()


async def test_a_watcher_that_falls_behind_the_history_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "RECENT_REVISIONS", 4)
    store = await SqliteStore.open(tmp_path / "store.sqlite", history_revisions=5)
    await store.transact((), [Put(b"a", b"")])
    async with aclosing(store.watch(b"", after=1)) as watch:
        await anext(watch)
        for number in range(50):
            await store.transact((), [Put(b"a", str(number).encode())])

        with pytest.raises(CompactedError):
            await anext(watch)
    await store.close()


async def test_what_is_no_store_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    path.write_bytes(b"something else that is long enough to be no empty database" * 20)

    with pytest.raises(UnavailableError, match="cannot open"):
        await SqliteStore.open(path)

    assert path.read_bytes().startswith(b"something else")


async def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    database = sqlite3.connect(path)
    database.execute("PRAGMA user_version = 99")
    database.close()

    with pytest.raises(UnavailableError, match="schema 99"):
        await SqliteStore.open(path)


async def test_a_disk_that_fails_is_said_and_loses_nothing(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "store.sqlite")
    revision = await store.transact((), [Put(b"a", b"1")])
    # The file may not grow any more, as on a full disk.
    store._file._database.execute("PRAGMA max_page_count = 1")

    with pytest.raises(UnavailableError, match="cannot write"):
        await store.transact((), [Put(b"b", b"x" * 500_000)])

    assert await store.revision() == revision
    store._file._database.execute("PRAGMA max_page_count = 1000000")
    assert await store.get(b"b") is None
    assert await store.transact((), [Put(b"c", b"")]) == revision + 1
    await store.close()
