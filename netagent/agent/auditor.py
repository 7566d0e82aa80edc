"""The auditor: brings the kernel in step when asked to, and looks for itself every so often.

What it finds different without having been told is drift: it mends and counts it. A failure is
tried again with backoff, or at once when something happens that may have helped.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from netagent.agent.conditions import Code, Conditions
from netagent.agent.engine import Engine
from netagent.agent.facts import Reconciled
from netagent.agent.worker import Worker
from netagent.model.errors import DataplaneError, NetagentError
from netagent.reconcile.backoff import Backoff, BackoffPolicy

log = logging.getLogger(__name__)

TRANSITION_INTERVAL_S = 15.0
"""While machines move, so that no transition runs out."""


class Auditor:
    """One task runs `run`; everybody else asks and waits.

    jitter: draws from 0 to 1. interval_s: greatest time between two comparisons.
    """

    def __init__(
        self,
        engine: Engine,
        worker: Worker,
        conditions: Conditions,
        interval_s: float,
        jitter: Callable[[], float],
    ) -> None:
        self._engine = engine
        self._worker = worker
        self._conditions = conditions
        self._interval_s = interval_s
        self._jitter = jitter
        self._backoff = Backoff(BackoffPolicy())
        self._wake = asyncio.Event()
        self._clean = asyncio.Event()
        self._expects_writes = False
        self.drift_mended = 0

    def request(self, *, expects_writes: bool) -> None:
        """Ask for a comparison now.

        expects_writes: intent has changed or a write has failed, so what is found is no drift.
        """
        self._expects_writes |= expects_writes
        self._clean.clear()
        self._wake.set()

    async def wait_until_clean(self) -> None:
        """Return once a comparison that began after the last request has succeeded."""
        await self._clean.wait()

    async def run(self) -> None:
        """Compare on request and on time, for ever. The first comparison comes by request."""
        await self._wake.wait()
        while True:
            self._wake.clear()
            timeout_s = await self._compare()
            try:
                async with asyncio.timeout(timeout_s):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def _compare(self) -> float:
        """Compare once and return how long to wait for the next time, in seconds."""
        expects_writes, self._expects_writes = self._expects_writes, False
        began_s = time.monotonic()
        try:
            done = await (self._repair() if expects_writes else self._look())
        except Exception as error:
            # The task's boundary: an auditor that gave up would leave the host to drift.
            if not isinstance(error, NetagentError):
                log.exception("unexpected failure while comparing")
            self._expects_writes |= expects_writes
            return await self._fail(error)
        self._succeed(done, time.monotonic() - began_s, is_drift=not expects_writes)
        await self._check_peers()
        if await self._worker.run(self._engine.view.count_transitions):
            return min(self._interval_s, TRANSITION_INTERVAL_S)
        return self._interval_s

    async def _repair(self) -> Reconciled:
        """Compare everything in one go: nobody is to come in between."""
        return await self._worker.run(self._engine.reconcile)

    async def _look(self) -> Reconciled:
        """Compare everything, and let commits go first while what is large is read."""
        done = await self._worker.run(self._engine.reconcile, with_large=False)
        intent = await self._worker.run(self._engine.policy_intent)
        networks = await asyncio.to_thread(self._engine.find_policy_suspects, intent)
        mended = await self._worker.run(self._engine.mend_policies, networks)
        desired = await self._worker.run(self._engine.desired_locations)
        suspects = await asyncio.to_thread(self._engine.find_suspects, desired)
        mended += await self._worker.run(self._engine.mend_locations, suspects)
        return Reconciled(done.writes + mended, done.missing)

    async def _check_peers(self) -> None:
        try:
            silent = await self._worker.run(self._engine.find_silent_peers, time.time())
        except DataplaneError as error:
            log.debug("cannot observe peers detail=%r", str(error))
            return
        self._conditions.replace(Code.NO_HANDSHAKE, silent)

    async def _fail(self, error: Exception) -> float:
        delay_s = self._backoff.fail(self._jitter())
        self._conditions.set(Code.RECONCILE_FAILING, str(error))
        if await self._worker.run(self._engine.own_links.mesh_ifindex) is None:
            self._conditions.set(Code.WIREGUARD_DOWN, str(error))
        return delay_s

    def _succeed(self, done: Reconciled, lasted_s: float, *, is_drift: bool) -> None:
        self._backoff.succeed()
        self._conditions.clear(Code.RECONCILE_FAILING)
        self._conditions.clear(Code.WIREGUARD_DOWN)
        missing = {machine: f"{machine}: {why}" for machine, why in done.missing.items()}
        self._conditions.replace(Code.ENDPOINT_MISSING, missing)
        if not self._wake.is_set():
            self._clean.set()
        if is_drift:
            self.drift_mended += done.writes
        if done.writes or not is_drift:
            log.info(
                "reconciled kernel_writes=%d drift=%s lasted_ms=%.1f",
                done.writes,
                is_drift and bool(done.writes),
                lasted_s * 1000,
            )
