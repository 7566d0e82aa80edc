"""One network's location and transition rows, with the revision of each, as agents get them.

Removals are remembered up to a bound, so that an agent that comes back learns what went; one that
has been away for longer gets the table whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from netagent.model.addresses import StableId
from netagent.model.fleet import Location, Transition

REMOVED_MAX = 4_096
"""How many removals a table remembers."""


@dataclass(frozen=True, slots=True)
class LocationRow:
    """Where a machine or floating address is.

    name: within its network. revision: when the row last changed. holder: of a floating address,
    the id of the machine that has it.
    """

    name: str
    location: Location
    revision: int
    holder: StableId | None = None

    def says(self) -> tuple[str, Location, StableId | None]:
        """Return what agents are told."""
        return self.name, self.location, self.holder


@dataclass(frozen=True, slots=True)
class TransitionRow:
    """A machine on the move. revision: when the row last changed."""

    transition: Transition
    revision: int


@dataclass(frozen=True, slots=True)
class Removal:
    """A row that went. epoch: the one it had. revision: when it went."""

    epoch: int
    revision: int


@dataclass(slots=True)
class RemovalLog:
    """The latest removals by id, oldest first. floor: removals up to this revision may be gone."""

    floor: int
    removals: dict[StableId, Removal] = field(default_factory=dict)

    def add(self, stable_id: StableId, removal: Removal) -> None:
        """Remember a removal; forgets the oldest beyond the bound."""
        self.removals.pop(stable_id, None)
        self.removals[stable_id] = removal
        if len(self.removals) > REMOVED_MAX:
            oldest = next(iter(self.removals))
            self.floor = self.removals.pop(oldest).revision

    def of(self, ids: Iterable[StableId], since: int) -> Iterator[tuple[StableId, int]]:
        """Yield those of some ids that went after a revision, with the epoch they had."""
        for stable_id in ids:
            removal = self.removals.get(stable_id)
            if removal is not None and removal.revision > since:
                yield stable_id, removal.epoch

    def since(self, revision: int) -> Iterator[StableId]:
        """Yield the ids that went after a revision, newest first."""
        for stable_id, removal in reversed(self.removals.items()):
            if removal.revision <= revision:
                return
            yield stable_id


class NetworkTable:
    """All rows of one network number. since_revision: nothing older is known to this table."""

    def __init__(self, since_revision: int) -> None:
        self.locations: dict[StableId, LocationRow] = {}
        self.transitions: dict[StableId, TransitionRow] = {}
        self.removed_locations = RemovalLog(since_revision)
        self.removed_transitions = RemovalLog(since_revision)

    def set_location(self, stable_id: StableId, row: LocationRow | None, revision: int) -> bool:
        """Set or (None) remove a row; returns whether anything has changed."""
        old = self.locations.get(stable_id)
        if row is None:
            if old is None:
                return False
            del self.locations[stable_id]
            self.removed_locations.add(stable_id, Removal(old.location.epoch, revision))
            return True
        if old is not None and old.says() == row.says():
            return False
        self.locations[stable_id] = row
        self.removed_locations.removals.pop(stable_id, None)
        return True

    def set_transition(self, stable_id: StableId, row: TransitionRow | None, revision: int) -> bool:
        """Set or (None) remove a row; returns whether anything has changed."""
        old = self.transitions.get(stable_id)
        if row is None:
            if old is None:
                return False
            del self.transitions[stable_id]
            self.removed_transitions.add(stable_id, Removal(old.transition.epoch, revision))
            return True
        if old is not None and old.transition == row.transition:
            return False
        self.transitions[stable_id] = row
        self.removed_transitions.removals.pop(stable_id, None)
        return True

    def changed_since(self, revision: int) -> set[StableId] | None:
        """Return the ids whose rows changed or went after a revision; None: longer than known."""
        if revision < self.floor:
            return None
        changed = {id_ for id_, row in self.locations.items() if row.revision > revision}
        changed.update(id_ for id_, row in self.transitions.items() if row.revision > revision)
        changed.update(self.removed_locations.since(revision))
        changed.update(self.removed_transitions.since(revision))
        return changed

    @property
    def floor(self) -> int:
        """The revision from which on every removal is remembered."""
        return max(self.removed_locations.floor, self.removed_transitions.floor)
