"""Tells the orchestrator's hook of machines that were taken away while this host did not know.

The machine may still run here. It is fenced, so it can do no harm; ending it is up to whoever
started it. The hook is told once for each machine and start of the agent, again until it succeeds.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from ipaddress import IPv6Address

from netagent.agent.facts import TakenMachine
from netagent.agent.hooks import Hooks
from netagent.model.addresses import StableId

log = logging.getLogger(__name__)

EVENT = "machine-taken"
RETRY_S = 10.0


class Warden:
    """A task for each machine. host: this one's name. address_of: of a machine."""

    def __init__(
        self, hooks: Hooks, host: str, address_of: Callable[[StableId], IPv6Address]
    ) -> None:
        self._hooks = hooks
        self._host = host
        self._address_of = address_of
        self._telling: dict[StableId, asyncio.Task[None]] = {}

    def take(self, group: asyncio.TaskGroup, taken: Mapping[StableId, TakenMachine]) -> None:
        """Do in `group` what follows from the machines that were taken away."""
        for stable_id in self._telling.keys() - taken.keys():
            self._telling.pop(stable_id).cancel()
        for stable_id, machine in taken.items():
            if stable_id not in self._telling:
                self._telling[stable_id] = group.create_task(self._tell(machine))

    async def _tell(self, taken: TakenMachine) -> None:
        machine = taken.attached
        environment = {
            "NETAGENT_MACHINE": machine.machine,
            "NETAGENT_ADDRESS": str(self._address_of(machine.stable_id)),
            "NETAGENT_EPOCH": str(taken.taking.epoch),
            "NETAGENT_HOST": self._host,
            "NETAGENT_LOCATION": taken.taking.host,
            "NETAGENT_INTERFACE": machine.interface,
            "NETAGENT_NETNS": str(machine.netns or ""),
        }
        while problem := await self._hooks.run(EVENT, environment):
            log.warning("hook failed machine=%s detail=%r", machine.machine, problem)
            await asyncio.sleep(RETRY_S)
