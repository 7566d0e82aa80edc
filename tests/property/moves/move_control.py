"""Control without I/O: the real view, plans, state machines, outboxes and batches.

What the driver and the hub do with an event loop is done here in so many words; every decision is
the product's.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from move_agent import Said
from move_store import Store

from netagent.api.control.v1 import sync_service_pb2 as pb
from netagent.control.address_plans import Expectation, plan_assignment, plan_release
from netagent.control.machine_service import plan_deletion
from netagent.control.move_begin import Wish, plan_begin
from netagent.control.move_plans import plan_abort, plan_action, plan_call
from netagent.control.outbox import Outbox
from netagent.control.policy_tables import PolicyTables
from netagent.control.sync_batches import Batches
from netagent.control.view import View
from netagent.control.writer import Plan
from netagent.model.addresses import Fleet, StableId, network_of
from netagent.model.errors import NetagentError
from netagent.moves.actions import Action
from netagent.moves.events import (
    Event,
    HostApplied,
    HostLeft,
    HostRejected,
    HostReported,
    PhaseRecorded,
    TimePassed,
)
from netagent.moves.machine import MoveMachine


@dataclass
class Link:
    """One stream: what is under way in each direction."""

    outbox: Outbox
    is_snapshot: bool
    down: deque[list[pb.Update]] = field(default_factory=deque)
    up: deque[pb.SyncRequest | Said] = field(default_factory=deque)


class Control:
    """One process. `now` is its clock, in seconds; `actions` has been decided and not written.

    placed: where each id has been under each epoch.
    """

    def __init__(self, store: Store, fleet: Fleet, now: float) -> None:
        self.now = now
        self.store = store
        self.view = View(fleet)
        self.view.load(store.everything())
        self.view.loaded(store.revision)
        self.policies = PolicyTables(self.view)
        self.batches = Batches(self.view)
        self.view.listeners.append(self)
        self.links: dict[str, Link] = {}
        self.machines: dict[str, MoveMachine] = {}
        self.actions: list[Action] = []
        self.placed = {
            (stable_id, row.location.epoch): row.location.locator
            for table in self.view.tables.values()
            for stable_id, row in table.locations.items()
        }
        self._changed: dict[str, None] = {}
        for move_id in self.view.active_moves():
            self._record(move_id, is_resumed=True)

    # What callers ask for

    def begin(self, move_id: str, wish: Wish) -> bool:
        return self._try(
            lambda: plan_begin(
                self.view, move_id, wish, self.links.__contains__, self.links.__contains__
            )
        )

    def call(self, move_id: str) -> bool:
        machine = self.machines.get(move_id)
        progress = (machine.waiting, machine.carried) if machine else ((), None)
        return self._try(lambda: plan_call(self.view, move_id, *progress))

    def abort(self, move_id: str) -> bool:
        return self._try(lambda: plan_abort(self.view, move_id, "no"))

    def assign(self, address: str, machine: str) -> bool:
        return self._try(lambda: plan_assignment(self.view, address, machine, Expectation()))

    def release(self, address: str) -> bool:
        return self._try(lambda: plan_release(self.view, address, Expectation()))

    def delete(self, path: str) -> bool:
        return self._try(lambda: plan_deletion(self.view, path))

    def plan(self, action: Action) -> Plan:
        return plan_action(self.view, action)

    def write(self, plan: Plan) -> bool:
        """Write a plan, new or old; returns whether it was still good."""
        if not plan.operations:
            return False
        changes = self.store.transact(plan.compares, plan.operations)
        if changes is not None:
            self.view.apply(changes)
        return changes is not None

    # Streams

    def connect(self, host: str, revision: int, networks: Iterable[int]) -> None:
        outbox = Outbox(host, self.policies)
        self.links[host] = Link(outbox, outbox.begin(self.view, revision, networks, {}))
        self._progress(host)

    def disconnect(self, host: str) -> None:
        del self.links[host]
        self._progress(host)

    def send(self, host: str) -> bool:
        link = self.links[host]
        if not link.outbox.is_due:
            return False
        link.down.append(list(self.batches.make(link.outbox.take(self.view))))
        return True

    def receive(self, host: str, message: pb.SyncRequest | Said) -> None:
        if isinstance(message, Said):
            self.reported(message)
        elif message.HasField("applied"):
            assert self.links[host].outbox.confirm(message.applied.revision)
            self._progress(host)
        else:
            revision = message.rejected.revision
            assert self.links[host].outbox.reject(revision)
            for move_id in tuple(self.machines):
                self._handle(move_id, HostRejected(host, revision, "full"))
            self._progress(host)

    def reported(self, said: Said) -> None:
        path = self.view.paths_by_id.get(said.stable_id)
        if path is None:
            return
        move_id = self.view.machines[path].value.move_id
        if move_id in self.machines:
            self._handle(move_id, HostReported(said.host, said.epoch, said.report))

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        for move_id in tuple(self.machines):
            self._handle(move_id, TimePassed())

    # Listener

    def host_changed(self, name: str) -> None:
        for link in self.links.values():
            link.outbox.add_host(name)

    def row_changed(self, network: int, stable_id: StableId) -> None:
        row = self.view.table(network).locations.get(stable_id)
        if row is not None:
            self.placed[stable_id, row.location.epoch] = row.location.locator
        for host in self.view.interest.hosts(network) & self.links.keys():
            self.links[host].outbox.add_row(network, stable_id)

    def interest_changed(self, host: str, network: int) -> None:
        if host in self.links:
            self.links[host].outbox.add_interest(self.view, network)
        self._tell(host)

    def move_changed(self, move_id: str) -> None:
        self._changed[move_id] = None

    def revision_reached(self, revision: int) -> None:
        changed, self._changed = self._changed, {}
        for move_id in changed:
            self._record(move_id, is_resumed=False)

    # The driver

    def _try(self, plan: Any) -> bool:
        try:
            return self.write(plan())
        except NetagentError:
            return False

    def _progress(self, host: str) -> None:
        self._tell(host)

    def _tell(self, host: str) -> None:
        link = self.links.get(host)
        for move_id in tuple(self.machines):
            network = network_of(self.view.moves[move_id].value.move.stable_id)
            if link is not None and self.view.interest.is_needed(host, network):
                applied = link.outbox.in_step_with(self.view)
                self._handle(move_id, HostApplied(host, applied, is_reporting=True))
            else:
                self._handle(move_id, HostLeft(host))

    def _record(self, move_id: str, *, is_resumed: bool) -> None:
        stored = self.view.moves[move_id]
        record = stored.value
        self.machines.setdefault(
            move_id, MoveMachine(prepare_bound_s=5, settle_bound_s=10, drain_s=1)
        )
        hosts = {
            host: self.links[host].outbox.in_step_with(self.view) if host in self.links else 0
            for host in self.view.interest.hosts(network_of(record.move.stable_id))
            if is_resumed or host in self.links
        }
        self._handle(
            move_id,
            PhaseRecorded(
                record.move,
                stored.revision,
                hosts,
                frozenset(hosts.keys() & self.links.keys()),
                is_called=record.is_called,
                carried=record.carried,
                ready_bound_s=record.ready_bound_s,
            ),
        )

    def _handle(self, move_id: str, event: Event) -> None:
        machine = self.machines[move_id]
        self.actions += machine.handle(event, self.now)
        if machine.is_ended:
            del self.machines[move_id]
