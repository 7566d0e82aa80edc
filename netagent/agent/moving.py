"""What an agent does about machines on the move, beyond what its tables say.

As the source it carries connections; as the destination it takes them over. It tells of machines
that were taken away while this host did not know. All of it follows from the view after each batch.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import closing
from ipaddress import IPv6Address
from typing import NoReturn

from netagent.agent.attached import AttachedMachine
from netagent.agent.carrier import Carrier
from netagent.agent.carry_service import CarryService
from netagent.agent.conditions import Code, Conditions
from netagent.agent.config import AgentConfig
from netagent.agent.engine import Engine
from netagent.agent.facts import describe_taken
from netagent.agent.hooks import Hooks
from netagent.agent.intake import Intake
from netagent.agent.life_watch import LifePort, LifeWatch
from netagent.agent.mesh_server import MeshServer
from netagent.agent.move_reports import MoveReports
from netagent.agent.ports import DatapathPort
from netagent.agent.warden import Warden
from netagent.agent.worker import Worker
from netagent.dataplane.life import LifeSocket
from netagent.model.addresses import StableId, stable_address
from netagent.model.fleet import MoveTrigger
from netagent.model.flows import CarriedFlow
from netagent.moves.reports import Alive, Carried
from netagent.reconcile.moving import Arrival, Departure, find_arrivals, find_departures


class Moving:
    """One task runs `run`. reports: what there is to say to control."""

    def __init__(
        self,
        config: AgentConfig,
        engine: Engine,
        worker: Worker,
        intake: Intake,
        datapath: DatapathPort,
        conditions: Conditions,
        listen: Callable[[str, bytes, IPv6Address], LifePort] = LifeSocket,
    ) -> None:
        self._engine = engine
        self._worker = worker
        self._intake = intake
        self.reports = MoveReports()
        self._connections = datapath.connections
        self._carrier = Carrier(self._flows_of, self._report_carried)
        self._conditions = conditions
        self._life = LifeWatch(listen, self._find_address_of, self._report_alive)
        self._warden = Warden(Hooks(config.hooks_dir), config.name, self._find_address_of)
        service = CarryService(self._find_source, self._held_by, datapath.connections.take_over)
        self._server = MeshServer(service, self._find_address, intake.changed)

    async def run(self) -> NoReturn:
        """Do what is due, for ever."""
        await self._intake.wait_until_placed()
        with closing(self._life):
            await self._follow()

    async def _follow(self) -> NoReturn:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._server.run(), name="mesh-server")
            while True:
                beat = self._intake.changed.next
                departures, arrivals = await self._worker.run(self._find)
                taken = await self._worker.run(self._engine.find_taken)
                self._conditions.replace(
                    Code.MACHINE_TAKEN,
                    {one.attached.machine: describe_taken(one) for one in taken.values()},
                )
                self._warden.take(group, taken)
                keys = {each.key for each in departures} | {each.key for each in arrivals}
                self.reports.keep_only(keys)
                self._carrier.take(group, departures)
                self._life.take(await self._worker.run(self._find_awaited, arrivals))
                await beat.wait()

    def _find(self) -> tuple[tuple[Departure, ...], tuple[Arrival, ...]]:
        """Return who leaves and who comes; runs on the kernel's thread."""
        own = self._intake.require_own()
        place = self._engine.view, own.fleet, own.host.locator
        return find_departures(*place), find_arrivals(*place)

    def _find_awaited(self, arrivals: Iterable[Arrival]) -> dict[Arrival, AttachedMachine]:
        """Return whose life is waited for, with its interface; runs on the kernel's thread."""
        attached = self._engine.interfaces.attached
        return {
            arrival: attached[arrival.stable_id]
            for arrival in arrivals
            if arrival.trigger is MoveTrigger.LIFE
            and not arrival.is_committed
            and arrival.stable_id in attached
            and not self.reports.holds(arrival.key)
        }

    def _flows_of(self, stable_id: StableId) -> list[CarriedFlow]:
        """Return a machine's flows, those of its floating addresses too; any thread may ask."""
        return self._connections.flows_of(stable_id, *self._held_by(stable_id))

    def _held_by(self, stable_id: StableId) -> tuple[StableId, ...]:
        return self._engine.view.held_by(stable_id)

    def _report_alive(self, arrival: Arrival) -> None:
        self.reports.say(arrival.stable_id, arrival.epoch, Alive())

    def _report_carried(self, departure: Departure, carried: Carried) -> None:
        self.reports.say(departure.stable_id, departure.epoch, carried)

    def _find_address_of(self, stable_id: StableId) -> IPv6Address:
        return stable_address(self._intake.require_own().fleet, stable_id)

    async def _find_address(self) -> IPv6Address:
        own = await self._intake.wait_until_placed()
        return stable_address(own.fleet, own.host.stable_id)

    async def _find_source(
        self, stable_id: StableId, epoch: int, wait_s: float
    ) -> IPv6Address | None:
        try:
            async with asyncio.timeout(wait_s or None):
                while True:
                    beat = self._intake.changed.next
                    _, arrivals = await self._worker.run(self._find)
                    for arrival in arrivals:
                        if arrival.key == (stable_id, epoch):
                            return arrival.source
                    if not wait_s:
                        return None
                    await beat.wait()
        except TimeoutError:
            return None
