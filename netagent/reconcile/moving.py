"""Who moves away from this host and who moves here, as a view has it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv6Address

from netagent.model.addresses import Fleet, Locator, StableId, stable_address
from netagent.model.fleet import MoveTrigger
from netagent.reconcile.view import View


@dataclass(frozen=True, slots=True)
class Departure:
    """A machine that moves away from here.

    epoch: the move's. destination: the stable address of the host it moves to. is_committed: it is
    located there already, and fenced here.
    """

    stable_id: StableId
    epoch: int
    destination: IPv6Address
    is_committed: bool

    @property
    def key(self) -> tuple[StableId, int]:
        """What tells this move from all others."""
        return self.stable_id, self.epoch


@dataclass(frozen=True, slots=True)
class Arrival:
    """A machine that moves here.

    epoch: the move's. source: the stable address of the host it comes from. is_committed: it is
    located here already.
    """

    stable_id: StableId
    epoch: int
    source: IPv6Address
    trigger: MoveTrigger
    is_committed: bool

    @property
    def key(self) -> tuple[StableId, int]:
        """What tells this move from all others."""
        return self.stable_id, self.epoch


def find_departures(view: View, fleet: Fleet, own: Locator) -> tuple[Departure, ...]:
    """Return every machine that moves away from the host of locator `own`, by id."""
    return tuple(
        Departure(
            stable_id,
            moving.epoch,
            stable_address(fleet, host.stable_id),
            _is_committed(view, stable_id, moving.epoch),
        )
        for stable_id, moving in sorted(view.transitions().items())
        if moving.source == own
        and moving.destination != own
        and (host := view.find_host(moving.destination)) is not None
    )


def find_arrivals(view: View, fleet: Fleet, own: Locator) -> tuple[Arrival, ...]:
    """Return every machine that moves to the host of locator `own`, by id."""
    return tuple(
        Arrival(
            stable_id,
            moving.epoch,
            stable_address(fleet, host.stable_id),
            moving.trigger,
            _is_committed(view, stable_id, moving.epoch),
        )
        for stable_id, moving in sorted(view.transitions().items())
        if moving.destination == own
        and moving.source != own
        and (host := view.find_host(moving.source)) is not None
    )


def _is_committed(view: View, stable_id: StableId, epoch: int) -> bool:
    location = view.location(stable_id)
    return location is not None and location.epoch >= epoch
