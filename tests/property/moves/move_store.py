"""The store in memory: compare-and-swap and one revision for all, as the contract has it."""

from __future__ import annotations

from collections.abc import Sequence

from netagent.store.contract import (
    Change,
    Changes,
    Compare,
    Exists,
    Item,
    NoneWithin,
    Operation,
    Put,
    Unchanged,
    ValueIs,
)


class Store:
    def __init__(self) -> None:
        self.items: dict[bytes, Item] = {}
        self.revision = 1

    def transact(
        self, compares: Sequence[Compare], operations: Sequence[Operation]
    ) -> Changes | None:
        if not all(map(self._holds, compares)):
            return None
        self.revision += 1
        changes = []
        for operation in operations:
            old = self.items.get(operation.key)
            item = None
            if isinstance(operation, Put):
                created = old.create_revision if old else self.revision
                version = old.version + 1 if old else 1
                item = Item(operation.key, operation.value, created, self.revision, version)
                self.items[operation.key] = item
            else:
                self.items.pop(operation.key, None)
            changes.append(Change(operation.key, item))
        return Changes(self.revision, tuple(sorted(changes, key=lambda change: change.key)))

    def everything(self) -> tuple[Item, ...]:
        return tuple(item for _, item in sorted(self.items.items()))

    def _holds(self, compare: Compare) -> bool:
        match compare:
            case Unchanged(key, revision):
                item = self.items.get(key)
                return (item.mod_revision if item else 0) == revision
            case Exists(key):
                return key in self.items
            case ValueIs(key, value):
                return key in self.items and self.items[key].value == value
            case NoneWithin(prefix):
                return not any(key.startswith(prefix) for key in self.items)
