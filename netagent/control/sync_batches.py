"""Batches of the Sync stream: what is owed, as the newest values, in messages of bounded size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

from netagent.api.control.v1 import sync_service_pb2 as pb
from netagent.api.convert import host_to_message
from netagent.api.convert_sync import (
    LocationRows,
    TransitionRows,
    locations_to_message,
    transitions_to_message,
)
from netagent.control.outbox import Owed
from netagent.control.view import View
from netagent.model.addresses import StableId

ROWS_MAX = 4_096
"""Most rows of one message: some 200 KB, far below gRPC's limit of 4 MiB."""

_Value = TypeVar("_Value")


def make_batch(view: View, owed: Owed, revision: int) -> Iterator[pb.Update]:
    """Yield the messages of a batch; the last has the revision.

    Values are read as each message is made: what changes in between is newer than the revision,
    and owed for the next batch as well.
    """
    yield from _hosts(view, sorted(owed.hosts))
    for network in sorted(owed.whole):
        yield from _whole_table(view, network)
    for network, ids in sorted(owed.rows.items()):
        for chunk in _chunks(sorted(ids)):
            yield _changed_rows(view, network, chunk, owed.since)
    yield pb.Update(dropped_networks=sorted(owed.dropped), revision=revision)


def _hosts(view: View, names: Sequence[str]) -> Iterator[pb.Update]:
    for chunk in _chunks(names):
        update = pb.Update()
        for name in chunk:
            host = view.hosts.get(name)
            if host is None:
                update.removed_hosts.append(name)
            else:
                update.hosts.append(host_to_message(view.fleet, host.value))
        yield update


def _whole_table(view: View, network: int) -> Iterator[pb.Update]:
    table = view.table(network)
    name = view.network_names.get(network, "")
    transitions = TransitionRows(
        network,
        whole=True,
        rows=[(stable_id, row.transition) for stable_id, row in table.transitions.items()],
    )
    # An empty table is sent as well: the agent must know that it holds all of it.
    begun = pb.Update(transitions=[transitions_to_message(transitions)])
    begun.locations.append(locations_to_message(LocationRows(network, name, whole=True)))
    yield begun
    for chunk in _chunks(tuple(table.locations)):
        rows = [
            (stable_id, row.location, row.name)
            for stable_id in chunk
            if (row := table.locations.get(stable_id)) is not None
        ]
        part = LocationRows(network, name, whole=False, rows=rows)
        yield pb.Update(locations=[locations_to_message(part)])


def _changed_rows(view: View, network: int, ids: Sequence[StableId], since: int) -> pb.Update:
    table = view.table(network)
    locations = LocationRows(
        network,
        view.network_names.get(network, ""),
        whole=False,
        rows=[
            (stable_id, row.location, row.name)
            for stable_id in ids
            if (row := table.locations.get(stable_id)) is not None and row.revision > since
        ],
        removed=list(table.removed_locations.of(ids, since)),
    )
    transitions = TransitionRows(
        network,
        whole=False,
        rows=[
            (stable_id, moving.transition)
            for stable_id in ids
            if (moving := table.transitions.get(stable_id)) is not None and moving.revision > since
        ],
        removed=list(table.removed_transitions.of(ids, since)),
    )
    update = pb.Update()
    if locations.rows or locations.removed:
        update.locations.append(locations_to_message(locations))
    if transitions.rows or transitions.removed:
        update.transitions.append(transitions_to_message(transitions))
    return update


def _chunks(values: Iterable[_Value]) -> Iterator[list[_Value]]:
    iterator = iter(values)
    while chunk := list(islice(iterator, ROWS_MAX)):
        yield chunk
