"""One batch of the Sync stream as plain values: what control says has changed.

A batch is applied as a whole or not at all. Nothing here knows what the agent holds; see delta.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from netagent.model.addresses import StableId
from netagent.model.fleet import Host, Location, Transition
from netagent.policy.delta import PolicyChange


@dataclass(frozen=True, slots=True)
class NamedLocation:
    """A location, and what has it.

    name: of the machine or floating address within its network. holder: of a floating address, the
    id of the machine that has it.
    """

    name: str
    location: Location
    holder: StableId | None = None

    @property
    def epoch(self) -> int:
        """The location's epoch."""
        return self.location.epoch


@dataclass(frozen=True, slots=True)
class LocationChange:
    """Rows of one network's location table.

    is_whole: what the agent holds of the network and this does not name is gone.
    removed: id -> the epoch that is removed; a newer one stays.
    """

    network: int
    network_name: str
    is_whole: bool = False
    rows: Mapping[StableId, NamedLocation] = field(default_factory=dict)
    removed: Mapping[StableId, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TransitionChange:
    """Rows of one network's transition table; fields as in LocationChange."""

    network: int
    is_whole: bool = False
    rows: Mapping[StableId, Transition] = field(default_factory=dict)
    removed: Mapping[StableId, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Batch:
    """Everything between two revisions, in the order in which it came.

    is_snapshot: what the batch does not hold is gone.
    """

    revision: int
    is_snapshot: bool = False
    hosts: tuple[Host, ...] = ()
    removed_hosts: tuple[str, ...] = ()
    locations: tuple[LocationChange, ...] = ()
    transitions: tuple[TransitionChange, ...] = ()
    dropped_networks: tuple[int, ...] = ()
    policies: tuple[PolicyChange, ...] = ()
    dropped_policies: tuple[int, ...] = ()
