"""Who moves away from this host and who moves here, as a view has it. Pure."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from ipaddress import IPv6Address

from netagent.model.addresses import Fleet, Locator, StableId, stable_address
from netagent.model.fleet import MoveTrigger
from netagent.reconcile.view import Delta, View


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


@dataclass(frozen=True, slots=True)
class Taking:
    """A machine was taken from this host, which did not know.

    host: to which it was taken, empty when that is not known, or it was deleted. epoch: the newest
    of the machine that is known here.
    """

    host: str
    epoch: int


def find_departures(view: View, fleet: Fleet, own: Locator) -> tuple[Departure, ...]:
    """Return every machine that moves away from the host of locator `own`, by id.

    Floating addresses go with their holders, and are not named.
    """
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
        and view.holder(stable_id) is None
        and (host := view.find_host(moving.destination)) is not None
    )


def find_arrivals(view: View, fleet: Fleet, own: Locator) -> tuple[Arrival, ...]:
    """Return every machine that moves to the host of locator `own`, by id; as find_departures."""
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
        and view.holder(stable_id) is None
        and (host := view.find_host(moving.source)) is not None
    )


def find_taken(
    view: View, delta: Delta, own: Locator, attached: Set[StableId], *, was_away: bool
) -> dict[StableId, Taking]:
    """Return the attached machines that were taken away with `delta`.

    They were here, are not after it, and this host never heard of the move that did that: it was
    forced, for this host was thought dead, or came and went while it was away. view: as it is
    before the delta. was_away: whether this is the first delta after a time without control. Where
    machines have gone is not told to a host that has no other of their network; nor that they were
    deleted.
    """
    hosts = {host.locator: host.name for host in (*view.hosts.values(), *delta.hosts.values())}
    taken = {}
    gone = {*delta.locations, *(delta.removed_locations if was_away else ())}
    for stable_id in sorted(gone & attached):
        before, row = view.location(stable_id), delta.locations.get(stable_id)
        after = row.location if row else None
        if before is None or before.locator != own or (after and after.locator == own):
            continue
        heard = view.transition(stable_id), delta.transitions.get(stable_id)
        epochs = {row.epoch for row in heard if row and row.source == own}
        if after is not None and after.epoch not in epochs:
            taken[stable_id] = Taking(hosts.get(after.locator, ""), after.epoch)
        elif after is None and not any(epoch > before.epoch for epoch in epochs):
            taken[stable_id] = Taking("", before.epoch)
    return taken


def _is_committed(view: View, stable_id: StableId, epoch: int) -> bool:
    location = view.location(stable_id)
    return location is not None and location.epoch >= epoch
