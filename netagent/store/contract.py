"""What control asks of a store: a revisioned key-value store after etcd's model.

Every successful transaction that changes something raises one global revision by one. Every key
remembers the revision that last changed it. Old revisions can be read and watched from until they
are compacted. Each operation below has one counterpart in etcd's API (Range, Txn, Watch, Compact),
and the contract promises nothing that etcd does not.

All implementations pass tests/contract.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from netagent.model.errors import NetagentError

MAX_OPERATIONS = 128
"""Most compares, and most operations, of one transaction (etcd's default)."""

MAX_VALUE_BYTES = 1 << 20
"""Largest value (etcd refuses requests over 1.5 MiB)."""


class CompactedError(NetagentError):
    """The revision asked for is older than the history that the store keeps."""

    def __init__(self, revision: int, oldest: int) -> None:
        super().__init__(f"revision {revision} is gone; the oldest that can be read is {oldest}")
        self.oldest = oldest


class FutureRevisionError(NetagentError):
    """The revision asked for has not happened yet."""


@dataclass(frozen=True, slots=True)
class Item:
    """One key at one revision.

    create_revision: when the key last came into being. mod_revision: when it last changed.
    version: 1 when created, raised by each change.
    """

    key: bytes
    value: bytes
    create_revision: int
    mod_revision: int
    version: int


@dataclass(frozen=True, slots=True)
class Page:
    """Items of a range, ascending by key, all as of `revision`; `more` if the limit cut it."""

    items: tuple[Item, ...]
    more: bool
    revision: int


@dataclass(frozen=True, slots=True)
class Change:
    """One key that changed; item is None when it was deleted."""

    key: bytes
    item: Item | None


@dataclass(frozen=True, slots=True)
class Changes:
    """All changes of one revision (of the watched prefix), ascending by key."""

    revision: int
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class Unchanged:
    """Holds when the key was last changed at this revision; 0: when the key does not exist."""

    key: bytes
    mod_revision: int


@dataclass(frozen=True, slots=True)
class Exists:
    """Holds when the key exists."""

    key: bytes


@dataclass(frozen=True, slots=True)
class ValueIs:
    """Holds when the key exists with this value."""

    key: bytes
    value: bytes


@dataclass(frozen=True, slots=True)
class NoneWithin:
    """Holds when no key begins with this prefix (etcd: a compare over a range)."""

    prefix: bytes


Compare = Unchanged | Exists | ValueIs | NoneWithin


@dataclass(frozen=True, slots=True)
class Put:
    """Sets a key."""

    key: bytes
    value: bytes


@dataclass(frozen=True, slots=True)
class Delete:
    """Removes a key; removing what is not there changes nothing."""

    key: bytes


Operation = Put | Delete


class Store(Protocol):
    """A store. Every method raises UnavailableError when the store cannot answer.

    After an UnavailableError a transaction may or may not have happened.
    """

    async def revision(self) -> int:
        """Return the newest revision; everything acknowledged before the call is within it."""

    async def oldest_revision(self) -> int:
        """Return the oldest revision that `range` can read and after which `watch` can begin."""

    async def get(self, key: bytes, *, revision: int = 0) -> Item | None:
        """Return the key as of a revision (0: the newest).

        Raises CompactedError or FutureRevisionError when that revision cannot be read.
        """

    async def range(
        self, prefix: bytes, *, start: bytes = b"", limit: int = 0, revision: int = 0
    ) -> Page:
        """Return the items whose keys begin with `prefix` and are not less than `start`.

        limit: at most this many; 0: all. revision: as of this one; 0: the newest.
        Raises CompactedError or FutureRevisionError when that revision cannot be read.
        """

    async def transact(
        self, compares: Sequence[Compare], operations: Sequence[Operation]
    ) -> int | None:
        """Apply all operations if all compares hold; durable before it returns.

        Returns the revision after the transaction (the newest, if nothing changed), or None when a
        compare did not hold; then nothing has changed.
        Raises ValueError over MAX_OPERATIONS, over MAX_VALUE_BYTES, or when a key is written twice.
        """

    def watch(self, prefix: bytes, *, after: int) -> AsyncIterator[Changes]:
        """Yield what changes below `prefix` after a revision, in order, revisions never split.

        Also yields revisions without changes, to say that nothing below `prefix` has changed up to
        there; every revision that `revision` or `transact` returned is reached in the end.
        Raises CompactedError when the history no longer reaches back that far, also in the middle
        for a watcher that has fallen behind.
        """

    async def compact(self, revision: int) -> None:
        """Forget the history before a revision; compacting what is gone already does nothing.

        Raises FutureRevisionError for a revision that has not happened.
        """

    async def close(self) -> None:
        """Release everything; watches end with UnavailableError."""


def prefix_end(prefix: bytes) -> bytes | None:
    """Return the least key greater than all that begin with `prefix`; None: there is no such."""
    stripped = prefix.rstrip(b"\xff")
    return stripped[:-1] + bytes([stripped[-1] + 1]) if stripped else None


def check_transaction(compares: Sequence[Compare], operations: Sequence[Operation]) -> None:
    """Raise ValueError when a transaction exceeds what every store can do."""
    if len(compares) > MAX_OPERATIONS or len(operations) > MAX_OPERATIONS:
        raise ValueError(f"more than {MAX_OPERATIONS} compares or operations in one transaction")
    keys = [operation.key for operation in operations]
    if len(set(keys)) != len(keys):
        raise ValueError("a transaction writes one key twice")
    if any(isinstance(put, Put) and len(put.value) > MAX_VALUE_BYTES for put in operations):
        raise ValueError(f"a value is longer than {MAX_VALUE_BYTES} bytes")
