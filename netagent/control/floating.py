"""What rows a floating address has: those of its holder, under an epoch of its own.

So the two go together in every batch, and nothing but the holder's record says where either is.
"""

from __future__ import annotations

from dataclasses import replace

from netagent.control.tables import LocationRow, TransitionRow
from netagent.model.addresses import StableId
from netagent.model.fleet import FloatingAddress, floating_epoch


def follow_location(
    address: FloatingAddress, revision: int, holder: StableId, row: LocationRow
) -> LocationRow:
    """Return the location row of an address that last changed at `revision`.

    holder: the machine's id. row: the machine's own.
    """
    location = replace(row.location, epoch=floating_epoch(address.epoch, row.location.epoch))
    return LocationRow(address.name, location, max(revision, row.revision), holder)


def follow_transition(address: FloatingAddress, revision: int, row: TransitionRow) -> TransitionRow:
    """Return the transition row; arguments as in follow_location."""
    epoch = floating_epoch(address.epoch, row.transition.epoch)
    return TransitionRow(replace(row.transition, epoch=epoch), max(revision, row.revision))
