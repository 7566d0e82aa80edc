"""What every store promises of watching: everything, in order, whole revisions, or an error."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from netagent.model.errors import UnavailableError
from netagent.store.contract import Changes, CompactedError, Delete, Put, Store

DEADLINE_S = 30


async def collect(store: Store, prefix: bytes, after: int, up_to: int) -> list[Changes]:
    """Return what a watch yields until it has reached a revision."""
    found = []
    async with asyncio.timeout(DEADLINE_S), aclosing(store.watch(prefix, after=after)) as changes:
        async for change in changes:
            found.append(change)
            if change.revision >= up_to:
                return [entry for entry in found if entry.changes]
    raise AssertionError("the watch ended")


def flatten(found: list[Changes]) -> list[tuple[int, bytes, bytes | None]]:
    return [
        (changes.revision, change.key, change.item.value if change.item else None)
        for changes in found
        for change in changes.changes
    ]


async def test_a_watch_replays_what_happened_since(store: Store) -> None:
    first = await store.transact((), [Put(b"a", b"1")])
    second = await store.transact((), [Put(b"b", b"2"), Put(b"a", b"2")])
    third = await store.transact((), [Delete(b"a")])
    assert first is not None
    assert third is not None

    found = await collect(store, b"", first, third)

    assert flatten(found) == [
        (second, b"a", b"2"),
        (second, b"b", b"2"),
        (third, b"a", None),
    ]


async def test_a_watch_goes_on_with_what_happens(store: Store) -> None:
    start = await store.revision()
    watching = asyncio.ensure_future(collect(store, b"", start, start + 20))

    for number in range(20):
        await store.transact((), [Put(b"k", str(number).encode())])

    found = await watching
    assert [value for _, _, value in flatten(found)] == [str(n).encode() for n in range(20)]


async def test_a_watch_sees_its_prefix_only_and_still_reaches_every_revision(
    store: Store,
) -> None:
    start = await store.revision()
    mine = await store.transact((), [Put(b"a/x", b""), Put(b"b", b"")])
    last = await store.transact((), [Put(b"c", b"")])
    assert last is not None

    found = await collect(store, b"a/", start, last)

    assert flatten(found) == [(mine, b"a/x", b"")]


async def test_items_of_a_watch_are_those_of_a_read(store: Store) -> None:
    start = await store.revision()
    await store.transact((), [Put(b"a", b"1")])
    last = await store.transact((), [Put(b"a", b"2")])
    assert last is not None

    found = await collect(store, b"", start, last)

    assert found[-1].changes[0].item == await store.get(b"a")
    assert found[0].changes[0].item == await store.get(b"a", revision=last - 1)


async def test_watching_from_before_the_history_is_an_error(store: Store) -> None:
    start = await store.revision()
    for number in range(5):
        await store.transact((), [Put(b"a", str(number).encode())])
    await store.compact(start + 3)

    with pytest.raises(CompactedError) as caught:
        await collect(store, b"", start, start + 5)

    assert caught.value.oldest == start + 3
    found = await collect(store, b"", start + 3, start + 5)
    assert [value for _, _, value in flatten(found)] == [b"3", b"4"]


async def test_watchers_do_not_wait_for_each_other(store: Store) -> None:
    start = await store.revision()
    async with aclosing(store.watch(b"", after=start)) as idle:
        await store.transact((), [Put(b"a", b"")])
        await anext(idle)

        for number in range(50):
            await store.transact((), [Put(b"a", str(number).encode())])
        found = await collect(store, b"", start, start + 51)

    assert len(found) == 51


async def test_closing_the_store_ends_its_watches(store: Store) -> None:
    start = await store.revision()
    watching = asyncio.ensure_future(collect(store, b"", start, start + 1))
    await asyncio.sleep(0)

    await store.close()

    with pytest.raises(UnavailableError):
        await watching
    with pytest.raises(UnavailableError):
        await store.transact((), [Put(b"a", b"")])
    with pytest.raises(UnavailableError):
        await store.range(b"")
