"""Drives every move that has not ended: feeds its state machine, writes what that decides.

The store is the only memory. A driver that starts finds the moves in the view and goes on; two
drivers of one move cannot harm each other, for each step is a compare-and-swap.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from netagent.control.logging import log_event
from netagent.control.move_plans import plan_commit, plan_settle
from netagent.control.records import MoveRecord
from netagent.control.sync_hub import SyncHub
from netagent.control.view import View
from netagent.control.writer import Plan, Writer
from netagent.model.addresses import StableId, network_of
from netagent.model.errors import UnavailableError
from netagent.moves.machine import (
    Action,
    Commit,
    Event,
    HostApplied,
    HostLeft,
    MoveMachine,
    PhaseRecorded,
    TimePassed,
)

RETRY_FIRST_S = 0.1
RETRY_MAX_S = 5.0

Followed = asyncio.Queue[MoveRecord | UnavailableError]


class MovesDriver:
    """The driver. The times are those of MoveMachine. Works while `run` runs."""

    def __init__(
        self,
        writer: Writer,
        hub: SyncHub,
        *,
        prepare_bound_s: float,
        settle_bound_s: float,
        drain_s: float,
    ) -> None:
        self._writer = writer
        self._hub = hub
        self._times = {
            "prepare_bound_s": prepare_bound_s,
            "settle_bound_s": settle_bound_s,
            "drain_s": drain_s,
        }
        self._view = writer.feed.view
        self._machines: dict[str, MoveMachine] = {}
        self._by_network: dict[int, set[str]] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._changed: dict[str, None] = {}
        self._followers: dict[str, list[Followed]] = {}
        self._actions: asyncio.Queue[Action] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()
        self._view.listeners.append(self)
        hub.on_progress.append(self._host_progressed)

    async def run(self) -> None:
        """Take up the moves that have not ended, and drive them and all new ones."""
        try:
            for move_id in self._view.active_moves():
                # Nobody is connected yet after a start: wait for all, up to the bound.
                self._record(move_id, is_resumed=True)
            async with asyncio.TaskGroup() as group:
                while True:
                    group.create_task(self._write(await self._actions.get()))
        finally:
            for timer in self._timers.values():
                timer.cancel()
            for follower in [f for followers in self._followers.values() for f in followers]:
                follower.put_nowait(
                    UnavailableError("control is stopping; the move goes on, ask for it later")
                )

    @asynccontextmanager
    async def follow(self, move_id: str) -> AsyncIterator[Followed]:
        """Give every phase of a move from now on; at most four, so the queue needs no bound."""
        queue: Followed = asyncio.Queue()
        self._followers.setdefault(move_id, []).append(queue)
        try:
            yield queue
        finally:
            self._followers[move_id].remove(queue)
            if not self._followers[move_id]:
                del self._followers[move_id]

    def move_changed(self, move_id: str) -> None:
        """See Listener."""
        self._changed[move_id] = None

    def revision_reached(self, revision: int) -> None:
        """See Listener: the hub knows by now who has to hear of the revision."""
        changed, self._changed = self._changed, {}
        for move_id in changed:
            stored = self._view.moves.get(move_id)
            if stored is not None:
                for follower in self._followers.get(move_id, ()):
                    follower.put_nowait(stored.value)
                self._record(move_id, is_resumed=False)

    def interest_changed(self, host: str, network: int) -> None:
        """See Listener."""
        self._tell(host, [network])

    def host_changed(self, name: str) -> None:
        """See Listener; a host that is removed has no machines."""

    def row_changed(self, network: int, stable_id: StableId) -> None:
        """See Listener; rows follow from the moves."""

    def _host_progressed(self, host: str) -> None:
        self._tell(host, self._view.interest.needed(host) & self._by_network.keys())

    def _tell(self, host: str, networks: Iterable[int]) -> None:
        applied = self._hub.applied_revision(host)
        for network in networks:
            is_interested = self._view.interest.is_needed(host, network)
            for move_id in tuple(self._by_network.get(network, ())):
                if applied is not None and is_interested:
                    self._handle(move_id, HostApplied(host, applied))
                else:
                    self._handle(move_id, HostLeft(host))

    def _record(self, move_id: str, *, is_resumed: bool) -> None:
        stored = self._view.moves[move_id]
        network = network_of(stored.value.move.stable_id)
        if move_id not in self._machines:
            self._machines[move_id] = MoveMachine(**self._times)
            self._by_network.setdefault(network, set()).add(move_id)
        hosts = {
            host: self._hub.applied_revision(host) or 0
            for host in self._view.interest.hosts(network)
            if is_resumed or self._hub.is_connected(host)
        }
        self._handle(move_id, PhaseRecorded(stored.value.move, stored.revision, hosts))

    def _handle(self, move_id: str, event: Event) -> None:
        machine = self._machines[move_id]
        for action in machine.handle(event, self._loop.time()):
            self._actions.put_nowait(action)
        timer = self._timers.pop(move_id, None)
        if timer is not None:
            timer.cancel()
        deadline = machine.deadline()
        if deadline is not None:
            self._timers[move_id] = self._loop.call_at(
                deadline, self._handle, move_id, TimePassed()
            )
        if machine.is_ended:
            self._forget(move_id)

    def _forget(self, move_id: str) -> None:
        del self._machines[move_id]
        for network in [n for n, moves in self._by_network.items() if move_id in moves]:
            self._by_network[network].discard(move_id)
            if not self._by_network[network]:
                del self._by_network[network]

    async def _write(self, action: Action) -> None:
        """Write what a machine decided, for as long as it takes."""
        move_id, lagging = action.move.move_id, action.lagging
        plan_step = plan_commit if isinstance(action, Commit) else plan_settle

        def plan(view: View) -> Plan:
            return plan_step(view, move_id, lagging)

        delay_s = RETRY_FIRST_S
        while True:
            try:
                await self._writer.write(plan)
                break
            except UnavailableError as error:
                log_event(logging.WARNING, "move waits", move=move_id, error=error)
                await asyncio.sleep(delay_s)
                delay_s = min(delay_s * 2, RETRY_MAX_S)
        log_event(
            logging.WARNING if lagging else logging.INFO,
            "move committed" if isinstance(action, Commit) else "move settled",
            move=move_id,
            machine=action.move.machine,
            source=action.move.source,
            destination=action.move.destination,
            epoch=action.move.epoch,
            lagging=",".join(lagging),
        )
