"""The file of the embedded store: schema and blocking reads and writes, for one thread.

A row of `item` is one key during the revisions [mod_revision, ended); `ended` is null for what
holds now. A deletion leaves a row without value whose span is empty, for watchers. So the state at
any revision is one condition, and compaction deletes what ended before.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from netagent.store.contract import (
    Change,
    Changes,
    Compare,
    Delete,
    Exists,
    Item,
    NoneWithin,
    Operation,
    Put,
    Unchanged,
    ValueIs,
    prefix_end,
)

SCHEMA_VERSION = 1

_SCHEMA = """
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS item (
  key BLOB NOT NULL,
  value BLOB,
  create_revision INTEGER NOT NULL,
  mod_revision INTEGER NOT NULL,
  version INTEGER NOT NULL,
  ended INTEGER,
  PRIMARY KEY (key, mod_revision)
) WITHOUT ROWID;
CREATE UNIQUE INDEX IF NOT EXISTS item_now ON item (key) WHERE ended IS NULL;
CREATE INDEX IF NOT EXISTS item_modified ON item (mod_revision);
CREATE INDEX IF NOT EXISTS item_ended ON item (ended) WHERE ended IS NOT NULL;
CREATE TABLE IF NOT EXISTS revision (
  only INTEGER PRIMARY KEY CHECK (only = 0),
  newest INTEGER NOT NULL,
  compacted INTEGER NOT NULL
);
INSERT OR IGNORE INTO revision VALUES (0, 1, 1);
PRAGMA user_version = 1;
COMMIT;
"""

_COLUMNS = "key, value, create_revision, mod_revision, version"
_NOW = f"SELECT {_COLUMNS} FROM item WHERE ended IS NULL"  # noqa: S608
_THEN = f"SELECT {_COLUMNS} FROM item WHERE mod_revision <= ? AND (ended IS NULL OR ended > ?)"  # noqa: S608


class SqliteFile:
    """One open file. Every method may raise sqlite3.Error."""

    def __init__(self, path: Path) -> None:
        # Made on one thread, used on another, never on two at once.
        self._database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = FULL")
        (version,) = self._database.execute("PRAGMA user_version").fetchone()
        if version not in (0, SCHEMA_VERSION):
            self._database.close()
            raise sqlite3.DatabaseError(f"schema {version}; this release reads {SCHEMA_VERSION}")
        if version == 0:
            self._database.executescript(_SCHEMA)
        newest, compacted = self._database.execute(
            "SELECT newest, compacted FROM revision"
        ).fetchone()
        self.revision: int = newest
        self.compacted: int = compacted

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def get(self, key: bytes, revision: int) -> Item | None:
        """Return one key as of a readable revision."""
        if revision == self.revision:
            return self._now(key)
        row = self._database.execute(
            f"{_THEN} AND key = ? ORDER BY mod_revision DESC LIMIT 1", (revision, revision, key)
        ).fetchone()
        return Item(*row) if row else None

    def range(self, prefix: bytes, start: bytes, limit: int, revision: int) -> list[Item]:
        """Return items as of a readable revision; limit -1: all."""
        where, values = " AND key >= ?", [max(prefix, start)]
        end = prefix_end(prefix)
        if end is not None:
            where, values = where + " AND key < ?", [*values, end]
        if revision == self.revision:
            query, parameters = _NOW, (*values, limit)
        else:
            query, parameters = _THEN, (revision, revision, *values, limit)
        rows = self._database.execute(f"{query}{where} ORDER BY key LIMIT ?", parameters)
        return [Item(*row) for row in rows]

    def changes(self, after: int, up_to: int) -> list[Changes]:
        """Return the changes of the revisions in (after, up_to]."""
        rows = self._database.execute(
            f"SELECT {_COLUMNS} FROM item WHERE mod_revision > ? AND mod_revision <= ?"  # noqa: S608
            " ORDER BY mod_revision, key",
            (after, up_to),
        ).fetchall()
        return [
            Changes(
                revision,
                tuple(Change(row[0], None if row[1] is None else Item(*row)) for row in group),
            )
            for revision, group in groupby(rows, key=lambda row: row[3])
        ]

    def write(
        self, transactions: Sequence[tuple[Sequence[Compare], Sequence[Operation]]]
    ) -> tuple[list[int | None], list[Changes]]:
        """Run transactions one after the other and make them durable together.

        Returns each one's answer (see Store.transact), and what those that took effect changed.
        """
        before = self.revision
        answers: list[int | None] = []
        written: list[Changes] = []
        self._database.execute("BEGIN IMMEDIATE")
        try:
            for compares, operations in transactions:
                if all(self._holds(compare) for compare in compares):
                    changes = self._apply(operations, self.revision + 1)
                    if changes:
                        self.revision += 1
                        written.append(Changes(self.revision, changes))
                    answers.append(self.revision)
                else:
                    answers.append(None)
            if written:
                self._database.execute("UPDATE revision SET newest = ?", (self.revision,))
            self._database.execute("COMMIT")
        except BaseException:
            self.revision = before
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            raise
        return answers, written

    def compact(self, revision: int) -> None:
        """Delete what ended at or before a revision."""
        if revision <= self.compacted:
            return
        self._database.execute("BEGIN IMMEDIATE")
        try:
            self._database.execute("DELETE FROM item WHERE ended <= ?", (revision,))
            self._database.execute("UPDATE revision SET compacted = ?", (revision,))
            self._database.execute("COMMIT")
        except sqlite3.Error:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            raise
        self.compacted = revision

    def _now(self, key: bytes) -> Item | None:
        row = self._database.execute(f"{_NOW} AND key = ?", (key,)).fetchone()
        return Item(*row) if row else None

    def _holds(self, compare: Compare) -> bool:
        match compare:
            case Unchanged(key, mod_revision):
                item = self._now(key)
                return (item.mod_revision if item else 0) == mod_revision
            case Exists(key):
                return self._now(key) is not None
            case ValueIs(key, value):
                item = self._now(key)
                return item is not None and item.value == value
            case NoneWithin(prefix):
                return not self.range(prefix, b"", 1, self.revision)

    def _apply(self, operations: Sequence[Operation], revision: int) -> tuple[Change, ...]:
        changes: list[Change] = []
        for operation in operations:
            old = self._now(operation.key)
            if old is not None:
                self._database.execute(
                    "UPDATE item SET ended = ? WHERE key = ? AND ended IS NULL",
                    (revision, operation.key),
                )
            match operation:
                case Put(key, value):
                    item = Item(
                        key,
                        value,
                        old.create_revision if old else revision,
                        revision,
                        old.version + 1 if old else 1,
                    )
                    self._insert(item, None)
                    changes.append(Change(key, item))
                case Delete(key):
                    if old is not None:
                        self._insert(Item(key, b"", revision, revision, 0), revision)
                        changes.append(Change(key, None))
        return tuple(sorted(changes, key=lambda change: change.key))

    def _insert(self, item: Item, ended: int | None) -> None:
        self._database.execute(
            "INSERT INTO item (key, value, create_revision, mod_revision, version, ended)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            (
                item.key,
                item.value if ended is None else None,
                item.create_revision,
                item.mod_revision,
                item.version,
                ended,
            ),
        )
