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
from netagent.api.types.v1 import types_pb2
from netagent.control.outbox import Bundle
from netagent.control.policy_messages import PolicyMessages
from netagent.control.view import View
from netagent.model.addresses import StableId

ROWS_MAX = 4_096
"""Most rows of one message: some 200 KB, far below gRPC's limit of 4 MiB."""

_Value = TypeVar("_Value")


class Batches:
    """Makes batches from a view. Keeps the message of each host, which all agents get."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._hosts: dict[str, tuple[int, types_pb2.Host]] = {}
        self._policies = PolicyMessages()

    def make(self, bundle: Bundle) -> Iterator[pb.Update]:
        """Yield the messages of a batch; the last has the revision.

        Values of rows are read as each message is made: what changes in between is newer than the
        revision, and owed for the next batch as well. A row whose identity is so new that the
        policies of this batch do not know it waits for the next. Policies come first, since rows
        may have identities that only the new entries know.
        """
        owed = bundle.owed
        for before, after in bundle.policies.values():
            for table in self._policies.step(before, after):
                yield pb.Update(policies=[table])
        for names in _chunks(sorted(owed.hosts)):
            yield self._host_update(names)
        for network in sorted(owed.whole):
            yield from _whole_table(self._view, network, bundle)
        for network, ids in sorted(owed.rows.items()):
            for chunk in _chunks(sorted(ids)):
                yield _changed_rows(self._view, network, chunk, bundle)
        yield pb.Update(
            dropped_networks=sorted(owed.dropped),
            dropped_policies=sorted(owed.dropped_policies),
            revision=bundle.revision,
        )

    def _host_update(self, names: Iterable[str]) -> pb.Update:
        update = pb.Update()
        for name in names:
            host = self._view.hosts.get(name)
            if host is None:
                self._hosts.pop(name, None)
                update.removed_hosts.append(name)
                continue
            revision, message = self._hosts.get(name, (0, None))
            if message is None or revision != host.revision:
                message = host_to_message(self._view.fleet, host.value)
                self._hosts[name] = host.revision, message
            update.hosts.append(message)
        return update


def _whole_table(view: View, network: int, bundle: Bundle) -> Iterator[pb.Update]:
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
            (stable_id, row.location, row.name, row.holder)
            for stable_id in chunk
            if (row := table.locations.get(stable_id)) is not None
            and bundle.knows(network, row.location.identity)
        ]
        part = LocationRows(network, name, whole=False, rows=rows)
        yield pb.Update(locations=[locations_to_message(part)])


def _changed_rows(view: View, network: int, ids: Sequence[StableId], bundle: Bundle) -> pb.Update:
    table = view.table(network)
    since = bundle.owed.since
    locations = LocationRows(
        network,
        view.network_names.get(network, ""),
        whole=False,
        rows=[
            (stable_id, row.location, row.name, row.holder)
            for stable_id in ids
            if (row := table.locations.get(stable_id)) is not None
            and row.revision > since
            and bundle.knows(network, row.location.identity)
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
