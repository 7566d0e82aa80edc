"""What every store promises of transactions: all or nothing, one at a time, one revision each."""

from __future__ import annotations

import asyncio

import pytest

from netagent.store.contract import (
    MAX_OPERATIONS,
    MAX_VALUE_BYTES,
    Compare,
    Delete,
    Exists,
    NoneWithin,
    Put,
    Store,
    Unchanged,
    ValueIs,
)


async def test_a_transaction_raises_the_revision_by_one_however_much_it_writes(
    store: Store,
) -> None:
    before = await store.revision()

    first = await store.transact((), [Put(b"a", b"1"), Put(b"b", b"2")])
    second = await store.transact((), [Put(b"a", b"3"), Delete(b"b")])

    assert (first, second) == (before + 1, before + 2)
    assert await store.revision() == before + 2


async def test_items_remember_when_they_were_made_and_changed(store: Store) -> None:
    first = await store.transact((), [Put(b"a", b"1")])
    second = await store.transact((), [Put(b"a", b"2")])

    item = await store.get(b"a")

    assert item is not None
    assert (item.value, item.version) == (b"2", 2)
    assert (item.create_revision, item.mod_revision) == (first, second)


async def test_a_key_that_comes_back_begins_anew(store: Store) -> None:
    await store.transact((), [Put(b"a", b"1")])
    await store.transact((), [Delete(b"a")])
    third = await store.transact((), [Put(b"a", b"3")])

    item = await store.get(b"a")

    assert item is not None
    assert (item.create_revision, item.mod_revision, item.version) == (third, third, 1)


async def test_what_changes_nothing_takes_no_revision(store: Store) -> None:
    before = await store.revision()

    assert await store.transact((), [Delete(b"never there")]) == before
    assert await store.transact((), []) == before
    assert await store.revision() == before


@pytest.mark.parametrize(
    ("compare", "holds"),
    [
        pytest.param(Unchanged(b"absent", 0), True, id="absent-is-at-0"),
        pytest.param(Unchanged(b"a", 0), False, id="present-is-not-at-0"),
        pytest.param(Unchanged(b"a", 1), False, id="other-revision"),
        pytest.param(Exists(b"a"), True, id="exists"),
        pytest.param(Exists(b"absent"), False, id="exists-not"),
        pytest.param(Exists(b""), False, id="the-empty-key"),
        pytest.param(ValueIs(b"a", b"1"), True, id="value"),
        pytest.param(ValueIs(b"a", b"2"), False, id="other-value"),
        pytest.param(ValueIs(b"absent", b""), False, id="absent-is-not-empty"),
        pytest.param(NoneWithin(b"dir/"), False, id="something-within"),
        pytest.param(NoneWithin(b"dir0"), True, id="nothing-within"),
        pytest.param(NoneWithin(b"di"), False, id="part-of-a-name"),
        pytest.param(NoneWithin(b"\xff\xff"), True, id="the-last-prefix"),
        pytest.param(NoneWithin(b"gone/"), True, id="deleted-is-not-within"),
    ],
)
async def test_compares(store: Store, compare: Compare, holds: bool) -> None:
    await store.transact((), [Put(b"a", b"1"), Put(b"dir/x", b""), Put(b"gone/x", b"")])
    await store.transact((), [Delete(b"gone/x")])
    before = await store.revision()

    answer = await store.transact([compare], [Put(b"result", b"")])

    assert answer == (before + 1 if holds else None)
    assert (await store.get(b"result") is not None) is holds


async def test_one_compare_that_fails_stops_everything(store: Store) -> None:
    revision = await store.transact((), [Put(b"a", b"1")])

    answer = await store.transact(
        [Unchanged(b"a", revision), Exists(b"b")], [Put(b"a", b"2"), Put(b"c", b"")]
    )

    assert answer is None
    item = await store.get(b"a")
    assert item is not None
    assert item.value == b"1"
    assert await store.get(b"c") is None


async def test_of_many_swaps_from_one_state_one_wins(store: Store) -> None:
    revision = await store.transact((), [Put(b"a", b"")])
    assert revision is not None

    answers = await asyncio.gather(
        *(
            store.transact([Unchanged(b"a", revision)], [Put(b"a", str(n).encode())])
            for n in range(50)
        )
    )

    winners = [number for number, answer in enumerate(answers) if answer is not None]
    item = await store.get(b"a")
    assert item is not None
    assert [str(number).encode() for number in winners] == [item.value]


async def test_transactions_at_once_get_revisions_of_their_own(store: Store) -> None:
    answers = await asyncio.gather(
        *(store.transact((), [Put(f"k{n}".encode(), b"")]) for n in range(50))
    )

    for number, revision in enumerate(answers):
        item = await store.get(f"k{number}".encode())
        assert item is not None
        assert item.mod_revision == revision
    assert len(set(answers)) == 50


async def test_a_caller_that_leaves_does_not_disturb_others(store: Store) -> None:
    leaving = asyncio.ensure_future(store.transact((), [Put(b"a", b"")]))
    staying = asyncio.ensure_future(store.transact((), [Put(b"b", b"")]))
    await asyncio.sleep(0)
    leaving.cancel()

    assert await staying is not None
    assert await store.transact((), [Put(b"c", b"")]) is not None


@pytest.mark.parametrize(
    ("compares", "operations"),
    [
        pytest.param([], [Put(b"a", b""), Delete(b"a")], id="one-key-twice"),
        pytest.param([], [Put(b"a", b"x" * (MAX_VALUE_BYTES + 1))], id="value-too-long"),
        pytest.param(
            [], [Put(str(n).encode(), b"") for n in range(MAX_OPERATIONS + 1)], id="operations"
        ),
        pytest.param([Exists(b"a")] * (MAX_OPERATIONS + 1), [], id="compares"),
    ],
)
async def test_what_not_every_store_can_do_is_refused(
    store: Store, compares: list[Compare], operations: list[Put | Delete]
) -> None:
    before = await store.revision()

    with pytest.raises(ValueError, match=r"transaction|value"):
        await store.transact(compares, operations)

    assert await store.revision() == before


async def test_the_largest_transaction_is_taken(store: Store) -> None:
    operations = [Put(str(n).encode(), b"x") for n in range(MAX_OPERATIONS - 1)]
    largest = Put(b"large", b"x" * MAX_VALUE_BYTES)

    assert await store.transact((), [*operations, largest]) is not None

    item = await store.get(b"large")
    assert item is not None
    assert len(item.value) == MAX_VALUE_BYTES
