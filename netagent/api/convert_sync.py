"""Between messages and the model: rows of location and transition tables, columns on the wire."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from netagent.api.control.v1 import sync_service_pb2
from netagent.api.convert import trigger_from_message, trigger_to_message
from netagent.api.types.v1 import types_pb2
from netagent.model.addresses import Locator, StableId
from netagent.model.errors import InvalidError
from netagent.model.fleet import Identity, Location, Transition
from netagent.moves.reports import Alive, Carried, Refused, Report


@dataclass(frozen=True, slots=True)
class LocationRows:
    """Changes of one network's location table.

    whole: the rows replace all that the agent holds of the network (more parts may follow).
    rows: id, where it is, name of the machine or floating address, of the latter its holder.
    removed: ids that have no location any more, and the epoch they had.
    """

    network: int
    network_name: str
    whole: bool
    rows: Sequence[tuple[StableId, Location, str, StableId | None]] = ()
    removed: Sequence[tuple[StableId, int]] = ()


@dataclass(frozen=True, slots=True)
class TransitionRows:
    """Changes of one network's transition table; fields as in LocationRows."""

    network: int
    whole: bool
    rows: Sequence[tuple[StableId, Transition]] = ()
    removed: Sequence[tuple[StableId, int]] = ()


def locations_to_message(table: LocationRows) -> sync_service_pb2.LocationTable:
    """Return location rows as a message."""
    return sync_service_pb2.LocationTable(
        network=table.network,
        network_name=table.network_name,
        whole=table.whole,
        ids=[stable_id for stable_id, *_ in table.rows],
        locators=[location.locator for _, location, _, _ in table.rows],
        identities=[location.identity for _, location, _, _ in table.rows],
        epochs=[location.epoch for _, location, _, _ in table.rows],
        names=[name for _, _, name, _ in table.rows],
        holders=_holders([holder for *_, holder in table.rows]),
        removed_ids=[stable_id for stable_id, _ in table.removed],
        removed_epochs=[epoch for _, epoch in table.removed],
    )


def locations_from_message(message: sync_service_pb2.LocationTable) -> LocationRows:
    """Return location rows; InvalidError when the columns are not of equal length."""
    holders = message.holders or [0] * len(message.ids)
    columns = (
        *(message.ids, message.locators, message.identities),
        *(message.epochs, message.names, holders),
    )
    check_columns("locations", *columns)
    check_columns("locations.removed", message.removed_ids, message.removed_epochs)
    return LocationRows(
        network=message.network,
        network_name=message.network_name,
        whole=message.whole,
        rows=[
            (
                StableId(stable_id),
                Location(Locator(locator), Identity(identity), epoch),
                name,
                StableId(holder) if holder else None,
            )
            for stable_id, locator, identity, epoch, name, holder in zip(*columns, strict=True)
        ],
        removed=_removed(message.removed_ids, message.removed_epochs),
    )


def _holders(holders: Sequence[StableId | None]) -> list[int]:
    """Return the column of holders; none where no row has one, as mostly."""
    return [holder or 0 for holder in holders] if any(holders) else []


def transitions_to_message(table: TransitionRows) -> sync_service_pb2.TransitionTable:
    """Return transition rows as a message."""
    return sync_service_pb2.TransitionTable(
        network=table.network,
        whole=table.whole,
        ids=[stable_id for stable_id, _ in table.rows],
        sources=[transition.source for _, transition in table.rows],
        destinations=[transition.destination for _, transition in table.rows],
        epochs=[transition.epoch for _, transition in table.rows],
        triggers=[trigger_to_message(transition.trigger) for _, transition in table.rows],
        removed_ids=[stable_id for stable_id, _ in table.removed],
        removed_epochs=[epoch for _, epoch in table.removed],
    )


def transitions_from_message(message: sync_service_pb2.TransitionTable) -> TransitionRows:
    """Return transition rows; InvalidError when the columns are not of equal length."""
    triggers = message.triggers or [types_pb2.MOVE_TRIGGER_UNSPECIFIED] * len(message.ids)
    columns = message.ids, message.sources, message.destinations, message.epochs, triggers
    check_columns("transitions", *columns)
    check_columns("transitions.removed", message.removed_ids, message.removed_epochs)
    return TransitionRows(
        network=message.network,
        whole=message.whole,
        rows=[
            (
                StableId(stable_id),
                Transition(
                    Locator(source),
                    Locator(destination),
                    epoch,
                    trigger_from_message(trigger, "transitions.triggers"),
                ),
            )
            for stable_id, source, destination, epoch, trigger in zip(*columns, strict=True)
        ],
        removed=_removed(message.removed_ids, message.removed_epochs),
    )


def report_to_message(
    stable_id: StableId, epoch: int, report: Report
) -> sync_service_pb2.MoveReport:
    """Return what a host reports about a move as a message. epoch: the move's."""
    message = sync_service_pb2.MoveReport(id=stable_id, epoch=epoch)
    match report:
        case Carried(entries, is_final):
            message.carried.entries, message.carried.final = entries, is_final
        case Refused(reason):
            message.refused.reason = reason
        case Alive():
            message.alive.SetInParent()
    return message


def report_from_message(
    message: sync_service_pb2.MoveReport,
) -> tuple[StableId, int, Report] | None:
    """Return (id, epoch of the move, report); None for a kind that this release does not know."""
    report: Report
    match message.WhichOneof("kind"):
        case "carried":
            report = Carried(message.carried.entries, message.carried.final)
        case "refused":
            report = Refused(message.refused.reason)
        case "alive":
            report = Alive()
        case _:
            return None
    return StableId(message.id), message.epoch, report


def _removed(ids: Sequence[int], epochs: Sequence[int]) -> list[tuple[StableId, int]]:
    return [(StableId(stable_id), epoch) for stable_id, epoch in zip(ids, epochs, strict=True)]


def check_columns(field: str, *columns: Sequence[object]) -> None:
    """Raise InvalidError with the lengths unless all columns have the same."""
    lengths = [len(column) for column in columns]
    if len(set(lengths)) > 1:
        raise InvalidError(field, f"columns of unequal length: {lengths}")
