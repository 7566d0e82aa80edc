"""What every store promises of reading: ranges in order, at any revision that is kept."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from netagent.store.contract import (
    CompactedError,
    Delete,
    FutureRevisionError,
    Operation,
    Put,
    Store,
)


async def test_a_range_is_what_begins_with_the_prefix_ascending(store: Store) -> None:
    keys = [b"a/", b"a/2", b"a/10", b"a/\xff", b"a0", b"a", b"b", b"a/\xff\xff"]
    await store.transact((), [Put(key, b"") for key in keys])

    page = await store.range(b"a/")

    assert [item.key for item in page.items] == [b"a/", b"a/10", b"a/2", b"a/\xff", b"a/\xff\xff"]
    assert not page.more


async def test_the_empty_prefix_is_everything(store: Store) -> None:
    await store.transact((), [Put(b"a", b""), Put(b"\xff\xff", b"")])

    page = await store.range(b"")

    assert [item.key for item in page.items] == [b"a", b"\xff\xff"]


async def test_a_range_by_pages_is_the_whole(store: Store) -> None:
    await store.transact((), [Put(f"a/{n:03}".encode(), b"") for n in range(100)])

    found, start = [], b""
    while True:
        page = await store.range(b"a/", start=start, limit=7)
        found += [item.key for item in page.items]
        if not page.more:
            break
        start = page.items[-1].key + b"\x00"

    assert found == [f"a/{n:03}".encode() for n in range(100)]


@pytest.mark.parametrize(("limit", "more"), [(2, True), (3, False), (4, False)])
async def test_more_is_said_only_when_there_is_more(store: Store, limit: int, more: bool) -> None:
    await store.transact((), [Put(key, b"") for key in (b"a1", b"a2", b"a3", b"b")])

    page = await store.range(b"a", limit=limit)

    assert page.more is more
    assert len(page.items) == min(limit, 3)


async def test_the_past_can_be_read(store: Store) -> None:
    first = await store.transact((), [Put(b"a", b"1"), Put(b"b", b"1")])
    second = await store.transact((), [Put(b"a", b"2"), Delete(b"b"), Put(b"c", b"2")])
    assert first is not None
    assert second is not None

    then = await store.range(b"", revision=first)
    now = await store.range(b"", revision=second)

    assert [(item.key, item.value) for item in then.items] == [(b"a", b"1"), (b"b", b"1")]
    assert [(item.key, item.value) for item in now.items] == [(b"a", b"2"), (b"c", b"2")]
    assert (then.revision, now.revision) == (first, second)
    deleted = await store.get(b"b", revision=first)
    assert deleted is not None
    assert deleted.mod_revision == first
    assert await store.get(b"c", revision=first) is None


async def test_the_future_cannot_be_read(store: Store) -> None:
    newest = await store.revision()

    with pytest.raises(FutureRevisionError):
        await store.range(b"", revision=newest + 1)
    with pytest.raises(FutureRevisionError):
        await store.get(b"a", revision=newest + 1)
    with pytest.raises(FutureRevisionError):
        await store.compact(newest + 1)


async def test_compaction_keeps_the_present_and_forgets_the_past(store: Store) -> None:
    first = await store.transact((), [Put(b"a", b"1"), Put(b"b", b"1")])
    second = await store.transact((), [Put(b"a", b"2")])
    third = await store.transact((), [Put(b"a", b"3"), Delete(b"b")])
    assert first is not None
    assert second is not None
    assert third is not None

    await store.compact(second)

    with pytest.raises(CompactedError):
        await store.range(b"", revision=first)
    with pytest.raises(CompactedError):
        await store.get(b"a", revision=first)
    at_second = await store.range(b"", revision=second)
    assert [(item.key, item.value) for item in at_second.items] == [(b"a", b"2"), (b"b", b"1")]
    at_third = await store.range(b"")
    assert [(item.key, item.value) for item in at_third.items] == [(b"a", b"3")]
    assert await store.oldest_revision() == second


async def test_compacting_twice_is_compacting_once(store: Store) -> None:
    revision = await store.transact((), [Put(b"a", b"1")])
    assert revision is not None

    await store.compact(revision)
    await store.compact(revision)
    await store.compact(revision - 1)

    assert await store.oldest_revision() == revision


_operations = st.lists(
    st.one_of(
        st.builds(Put, st.binary(min_size=1, max_size=2), st.binary(max_size=2)),
        st.builds(Delete, st.binary(min_size=1, max_size=2)),
    ),
    max_size=4,
    unique_by=lambda operation: operation.key,
)


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(transactions=st.lists(_operations, max_size=8), prefix=st.binary(max_size=2))
async def test_every_revision_reads_as_it_was(
    store: Store, transactions: list[list[Operation]], prefix: bytes
) -> None:
    oldest = await store.revision()
    start = await store.range(b"")
    model = {item.key: item.value for item in start.items}
    states = {oldest: dict(model)}
    for operations in transactions:
        revision = await store.transact((), operations)
        assert revision is not None
        for operation in operations:
            if isinstance(operation, Put):
                model[operation.key] = operation.value
            else:
                model.pop(operation.key, None)
        states[revision] = dict(model)

    for revision, state in states.items():
        page = await store.range(prefix, revision=revision)
        expected = sorted((k, v) for k, v in state.items() if k.startswith(prefix))
        assert [(item.key, item.value) for item in page.items] == expected
