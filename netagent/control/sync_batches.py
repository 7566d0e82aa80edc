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
        yield from _table(view, network, tuple(view.table(network).locations), is_whole=True)
    for network, ids in sorted(owed.rows.items()):
        yield from _table(view, network, sorted(ids), is_whole=False)
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


def _table(
    view: View, network: int, ids: Sequence[StableId], *, is_whole: bool
) -> Iterator[pb.Update]:
    table = view.table(network)
    # A table that is empty is sent all the same: the agent must know that it holds all of it.
    for part, chunk in enumerate(_chunks(ids) if ids else iter([[]])):
        is_start = is_whole and part == 0
        transition_ids: Iterable[StableId] = chunk
        if is_whole:
            transition_ids = tuple(table.transitions) if part == 0 else ()
        locations = LocationRows(
            network=network,
            network_name=view.network_names.get(network, ""),
            whole=is_start,
            rows=[
                (stable_id, row.location, row.name)
                for stable_id in chunk
                if (row := table.locations.get(stable_id)) is not None
            ],
            removed=[
                (stable_id, removal.epoch)
                for stable_id in chunk
                if (removal := table.removed_locations.removals.get(stable_id)) is not None
            ],
        )
        transitions = TransitionRows(
            network=network,
            whole=is_start,
            rows=[
                (stable_id, moving.transition)
                for stable_id in transition_ids
                if (moving := table.transitions.get(stable_id)) is not None
            ],
            removed=[
                (stable_id, removal.epoch)
                for stable_id in chunk
                if (removal := table.removed_transitions.removals.get(stable_id)) is not None
            ],
        )
        update = pb.Update(locations=[locations_to_message(locations)])
        if transitions.whole or transitions.rows or transitions.removed:
            update.transitions.append(transitions_to_message(transitions))
        yield update


def _chunks(values: Iterable[_Value]) -> Iterator[list[_Value]]:
    iterator = iter(values)
    while chunk := list(islice(iterator, ROWS_MAX)):
        yield chunk
