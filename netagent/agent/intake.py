"""Takes batches: kernel first, then the answer to control, then what may wait.

The answer goes out once the kernel holds the batch. Then the attachments of machines that have
moved away are undone, and the replica is written.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time

from netagent.agent.attached import AttachedMachine
from netagent.agent.auditor import Auditor
from netagent.agent.conditions import Code, Conditions
from netagent.agent.engine import Engine
from netagent.agent.facts import OwnHost
from netagent.agent.pulse import Pulse
from netagent.agent.replica import Replica
from netagent.agent.worker import Worker
from netagent.model.addresses import StableId
from netagent.model.errors import (
    DataplaneError,
    ExhaustedError,
    InvalidError,
    StateError,
    UnavailableError,
)
from netagent.reconcile.batch import Batch
from netagent.reconcile.moving import Taking
from netagent.reconcile.view import Delta

log = logging.getLogger(__name__)


class Intake:
    """What changes intent goes through here: batches, attachments, this host's own place.

    kernel_worker owns the engine, replica_worker the replica. changed: beats after each change of
    what this host is to do.
    """

    def __init__(
        self,
        engine: Engine,
        kernel_worker: Worker,
        replica: Replica,
        replica_worker: Worker,
        auditor: Auditor,
        conditions: Conditions,
    ) -> None:
        self._engine = engine
        self._kernel_worker = kernel_worker
        self._replica = replica
        self._replica_worker = replica_worker
        self._auditor = auditor
        self._conditions = conditions
        self.changed = Pulse()
        self._own: OwnHost | None = None
        self._placed = asyncio.Event()
        self._unwritten: list[Delta] = []
        self._detached: set[StableId] = set()
        self._taken: dict[StableId, Taking] = {}

    @property
    def own(self) -> OwnHost | None:
        """Who this host is; None before the first contact with control."""
        return self._own

    def require_own(self) -> OwnHost:
        """Return who this host is; StateError or UnavailableError says why that is not known."""
        if self._own is not None:
            return self._own
        for condition in self._conditions.active():
            if condition.code is Code.REGISTRATION_REFUSED:
                raise StateError(
                    f"this host is not registered: control refuses it: {condition.detail}"
                )
        raise UnavailableError("this host is not registered yet: control cannot be reached")

    async def wait_until_placed(self) -> OwnHost:
        """Return who this host is, once that is known."""
        await self._placed.wait()
        assert self._own is not None
        return self._own

    async def restore(self) -> None:
        """Start from the replica."""
        held = await self._replica_worker.run(self._replica.read)
        if held.own is None:
            return
        await self._kernel_worker.run(self._engine.restore, held.view, held.attached, held.taken)
        self._taken = dict(held.taken)
        await self._take_place(held.own)
        log.info(
            "started from the replica revision=%d hosts=%d locations=%d policies=%d attachments=%d",
            held.view.revision,
            len(held.view.hosts),
            held.view.count_locations(),
            len(held.view.policies),
            len(held.attached),
        )

    async def register(self, own: OwnHost) -> None:
        """Take what control says of this host; returns when the data path stands.

        StateError when this host holds the state of another fleet.
        """
        if self._own is not None and own.fleet != self._own.fleet:
            raise StateError(
                f"this host holds the state of fleet {self._own.fleet.fleet_id}, control is of"
                f" fleet {own.fleet.fleet_id}: point the agent at its own control, or stop it and"
                f" run `netagent agent cleanup`"
            )
        if own != self._own:
            await self._take_place(own)
            await self._replica_worker.run(self._replica.write_own, own)
        await self._auditor.wait_until_clean()

    async def take(self, batch: Batch, *, was_away: bool = False) -> str | None:
        """Bring the kernel to a batch; return why not when it cannot be taken.

        was_away: as in Engine.take_batch. A failure of the kernel is tried again until it is mended
        or this is cancelled.
        """
        began_s = time.monotonic()
        try:
            if await self._kernel_worker.run(self._engine.take_batch, batch, was_away=was_away):
                self._auditor.request(expects_writes=True)
        except (InvalidError, ExhaustedError) as error:
            self._conditions.set(Code.BATCH_REJECTED, f"revision {batch.revision}: {error}")
            return str(error)
        except Exception as error:
            # Once the view holds it, the auditor brings the kernel there, whatever went wrong.
            if self._engine.view.revision != batch.revision:
                raise
            if not isinstance(error, DataplaneError):
                log.exception("unexpected failure while applying a batch")
            self._conditions.set(Code.RECONCILE_FAILING, str(error))
            self._auditor.request(expects_writes=True)
            await self._auditor.wait_until_clean()
        self._conditions.clear(Code.BATCH_REJECTED)
        lasted_s = time.monotonic() - began_s
        self.changed.beat()
        log.debug("batch applied revision=%d lasted_ms=%.2f", batch.revision, lasted_s * 1000)
        return None

    async def finish(self) -> None:
        """Do what may wait until after the answer: retire, and write the replica."""
        if self._own is None:
            return
        try:
            retired = await self._kernel_worker.run(self._engine.retire)
        except DataplaneError as error:
            log.warning("cannot retire an interface detail=%r", str(error))
            self._auditor.request(expects_writes=True)
        else:
            self._detached.update(retired)
        # Into our own list on that thread: a stop may come while we wait for it.
        await self._kernel_worker.run(self._engine.hand_over_unwritten, self._unwritten)
        await self._flush()

    async def position(self) -> tuple[str, int, tuple[int, ...], dict[int, bytes]]:
        """Return (fleet id or empty, newest revision applied, networks held, policies held)."""
        held = await self._kernel_worker.run(self._engine.position)
        return self._own.fleet.fleet_id if self._own else "", *held

    async def keep(self, machine: AttachedMachine) -> AttachedMachine:
        """Record an attachment before it is made, so that a crash in between leaves no orphan.

        Returns it as recorded, with what its interface was before anybody attached it.
        """
        assert self._own is not None
        self._detached.discard(machine.stable_id)
        return await self._replica_worker.run(
            self._replica.write_attached, self._own.fleet, machine
        )

    async def forget(self, stable_id: StableId) -> None:
        """Drop the record of an attachment."""
        assert self._own is not None
        await self._replica_worker.run(self._replica.delete_attached, self._own.fleet, stable_id)
        self.changed.beat()

    async def _take_place(self, own: OwnHost) -> None:
        self._own = own
        self._placed.set()
        await self._kernel_worker.run(self._engine.take_place, own)
        self.changed.beat()
        self._auditor.request(expects_writes=True)

    async def _flush(self) -> None:
        assert self._own is not None
        taken = dict(self._engine.taken)
        try:
            if taken != self._taken:
                # Before the deltas that say so: they are not seen again.
                await self._replica_worker.run(self._replica.write_taken, self._own.fleet, taken)
                self._taken = taken
            while self._unwritten:
                await self._replica_worker.run(
                    self._replica.write_delta, self._own.fleet, self._unwritten[0], self._detached
                )
                del self._unwritten[0]
                self._detached.clear()
        except sqlite3.Error as error:
            self._conditions.set(Code.REPLICA_FAILING, f"cannot write the replica: {error}")
        else:
            self._conditions.clear(Code.REPLICA_FAILING)
