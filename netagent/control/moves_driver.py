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
from netagent.control.move_plans import plan_action
from netagent.control.records import MoveRecord
from netagent.control.sync_hub import SyncHub
from netagent.control.view import View
from netagent.control.writer import Plan, Writer
from netagent.model.addresses import StableId, network_of
from netagent.model.errors import UnavailableError
from netagent.model.fleet import MovePhase
from netagent.moves.actions import Abort, Action, Commit, MakeReady
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
from netagent.moves.reports import Report

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
        self._phases: dict[str, MovePhase] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._changed: dict[str, None] = {}
        self._followers: dict[str, list[Followed]] = {}
        self._actions: asyncio.Queue[Action] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()
        self._view.listeners.append(self)
        hub.on_progress.append(self._host_progressed)
        hub.on_rejected.append(self._host_rejected)
        hub.on_report.append(self._host_reported)

    async def run(self) -> None:
        """Take up the moves that have not ended, and drive them and all new ones."""
        try:
            for move_id in self._view.active_moves():
                # Nobody is connected yet after a start: wait for all, up to the bound.
                self._phases[move_id] = self._view.moves[move_id].value.move.phase
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
        """Give every phase of a move from now on; at most five, so the queue needs no bound."""
        queue: Followed = asyncio.Queue()
        self._followers.setdefault(move_id, []).append(queue)
        try:
            yield queue
        finally:
            self._followers[move_id].remove(queue)
            if not self._followers[move_id]:
                del self._followers[move_id]

    def progress(self, move_id: str) -> tuple[tuple[str, ...], int | None]:
        """Return (hosts that have yet to apply a move's phase, connections carried or None)."""
        machine = self._machines.get(move_id)
        return (machine.waiting, machine.carried) if machine is not None else ((), None)

    def move_changed(self, move_id: str) -> None:
        """See Listener."""
        self._changed[move_id] = None

    def revision_reached(self, revision: int) -> None:
        """See Listener: the hub knows by now who has to hear of the revision."""
        changed, self._changed = self._changed, {}
        for move_id in changed:
            stored = self._view.moves.get(move_id)
            if stored is not None:
                if self._phases.get(move_id) is not stored.value.move.phase:
                    self._phases[move_id] = stored.value.move.phase
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

    def _host_rejected(self, host: str, revision: int, reason: str) -> None:
        for network in self._view.interest.needed(host) & self._by_network.keys():
            for move_id in tuple(self._by_network.get(network, ())):
                self._handle(move_id, HostRejected(host, revision, reason))

    def _host_reported(self, host: str, stable_id: StableId, epoch: int, report: Report) -> None:
        path = self._view.paths_by_id.get(stable_id)
        machine = self._view.machines.get(path) if path is not None else None
        move_id = machine.value.move_id if machine is not None else None
        if move_id in self._machines:
            self._handle(move_id, HostReported(host, epoch, report))

    def _tell(self, host: str, networks: Iterable[int]) -> None:
        applied = self._hub.applied_revision(host)
        for network in networks:
            is_interested = self._view.interest.is_needed(host, network)
            for move_id in tuple(self._by_network.get(network, ())):
                if applied is not None and is_interested:
                    is_reporting = self._hub.is_reporting(host)
                    self._handle(move_id, HostApplied(host, applied, is_reporting))
                else:
                    self._handle(move_id, HostLeft(host))

    def _record(self, move_id: str, *, is_resumed: bool) -> None:
        stored = self._view.moves[move_id]
        record = stored.value
        network = network_of(record.move.stable_id)
        if move_id not in self._machines:
            self._machines[move_id] = MoveMachine(**self._times)
            self._by_network.setdefault(network, set()).add(move_id)
        hosts = {
            host: self._hub.applied_revision(host) or 0
            for host in self._view.interest.hosts(network)
            if is_resumed or self._hub.is_connected(host)
        }
        event = PhaseRecorded(
            record.move,
            stored.revision,
            hosts,
            frozenset(host for host in hosts if self._hub.is_reporting(host)),
            is_called=record.is_called,
            carried=record.carried,
            ready_bound_s=record.ready_bound_s,
        )
        self._handle(move_id, event)

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
        self._phases.pop(move_id, None)
        for network in [n for n, moves in self._by_network.items() if move_id in moves]:
            self._by_network[network].discard(move_id)
            if not self._by_network[network]:
                del self._by_network[network]

    async def _write(self, action: Action) -> None:
        """Write what a machine decided, for as long as it takes."""
        move = action.move

        def plan(view: View) -> Plan:
            return plan_action(view, action)

        delay_s = RETRY_FIRST_S
        while True:
            try:
                await self._writer.write(plan)
                break
            except UnavailableError as error:
                log_event(logging.WARNING, "move waits", move=move.move_id, error=error)
                await asyncio.sleep(delay_s)
                delay_s = min(delay_s * 2, RETRY_MAX_S)
        log_event(
            logging.WARNING if _trouble(action) else logging.INFO,
            _describe(action),
            move=move.move_id,
            machine=move.machine,
            source=move.source,
            destination=move.destination,
            epoch=move.epoch,
            trouble=_trouble(action),
        )


def _describe(action: Action) -> str:
    match action:
        case MakeReady():
            return "move ready"
        case Commit():
            return "move committed"
        case Abort():
            return "move aborted"
        case _:
            return "move settled"


def _trouble(action: Action) -> str:
    """Return what a person may want to look into, or an empty text."""
    if isinstance(action, Abort):
        return action.reason
    lagging = f"lagging: {', '.join(action.lagging)}" if action.lagging else ""
    return "; ".join(each for each in (lagging, action.warning) if each)
