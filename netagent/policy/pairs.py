"""The pair table under construction: copies only the rows it changes, counts who uses a class."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from netagent.model.fleet import Identity
from netagent.policy.entries import ClassId, CompiledPolicy, Direction, Rows


class PairTable:
    """Pairs and defaults; `rows`, `defaults` and `uses` are the result once nothing more is set."""

    def __init__(
        self,
        rows: Mapping[Direction, Rows],
        defaults: Mapping[Direction, ClassId],
        uses: Mapping[ClassId, int],
    ) -> None:
        self.rows: dict[Direction, dict[Identity, Mapping[Identity, ClassId]]] = {
            direction: dict(rows.get(direction, {})) for direction in Direction
        }
        self.defaults = dict(defaults)
        self.uses = dict(uses)

    @classmethod
    def empty(cls) -> PairTable:
        """Return a table without pairs."""
        return cls({}, {}, {})

    @classmethod
    def copy_of(cls, entries: CompiledPolicy, uses: Mapping[ClassId, int]) -> PairTable:
        """Return a table that begins as `entries`, sharing rows until they change."""
        return cls(entries.pairs, entries.defaults, uses)

    def set_defaults(self, defaults: Mapping[Direction, ClassId]) -> None:
        """Replace the defaults."""
        for class_id in self.defaults.values():
            self._release(class_id)
        for class_id in defaults.values():
            self._hold(class_id)
        self.defaults = dict(defaults)

    def update(
        self,
        direction: Direction,
        source: Identity,
        cells: Iterable[tuple[Identity, ClassId | None]],
    ) -> None:
        """Set or (None) remove the classes of some pairs of one source."""
        before = self.rows[direction].get(source, {})
        if not before:
            self._insert(direction, source, cells)
            return
        row: dict[Identity, ClassId] | None = None
        for destination, class_id in cells:
            old = before.get(destination)
            if old == class_id:
                continue
            if row is None:
                row = dict(before)
            if old is not None:
                self._release(old)
            if class_id is None:
                del row[destination]
            else:
                row[destination] = class_id
                self._hold(class_id)
        if row:
            self.rows[direction][source] = row
        elif row is not None:
            self.rows[direction].pop(source, None)

    def _insert(
        self,
        direction: Direction,
        source: Identity,
        cells: Iterable[tuple[Identity, ClassId | None]],
    ) -> None:
        row = {destination: class_id for destination, class_id in cells if class_id is not None}
        if not row:
            return
        self.rows[direction][source] = row
        uses = self.uses
        for class_id in row.values():
            uses[class_id] = uses.get(class_id, 0) + 1

    def forget(self, identities: Iterable[Identity]) -> None:
        """Remove every pair of identities that are gone."""
        gone = set(identities)
        if not gone:
            return
        for direction, rows in self.rows.items():
            for source in list(rows):
                row = rows[source]
                lost = row.keys() if source in gone else row.keys() & gone
                if lost:
                    self.update(direction, source, [(one, None) for one in lost])

    def used_classes(self) -> list[ClassId]:
        """Return the classes that pairs or defaults refer to, in no order."""
        return list(self.uses)

    def _hold(self, class_id: ClassId) -> None:
        self.uses[class_id] = self.uses.get(class_id, 0) + 1

    def _release(self, class_id: ClassId) -> None:
        left = self.uses[class_id] - 1
        if left:
            self.uses[class_id] = left
        else:
            del self.uses[class_id]
