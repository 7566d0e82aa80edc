"""The agent as a process: makes its parts, runs their tasks, and stops in order.

Stopping: no more intake, what was taken is written, edges are closed. The data path stays attached:
packets flow on without an agent.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from netagent.agent.attach import Attacher
from netagent.agent.auditor import Auditor
from netagent.agent.conditions import Code, Conditions
from netagent.agent.config import AgentConfig
from netagent.agent.engine import Engine
from netagent.agent.facts import EndpointStatus, OwnHost
from netagent.agent.flow_log import FlowLog
from netagent.agent.flow_names import FlowNames
from netagent.agent.flow_service import counters_to_message
from netagent.agent.flow_watch import FlowWatch
from netagent.agent.intake import Intake
from netagent.agent.kernel import Kernel
from netagent.agent.link_watch import LinkEvent, watch_links
from netagent.agent.local_api import serve_local_api
from netagent.agent.moving import Moving
from netagent.agent.policy_status import describe_policies, measure_maps
from netagent.agent.replica import Replica
from netagent.agent.respondent import Respondent
from netagent.agent.service import AgentService, AgentStatus
from netagent.agent.state_lock import hold_state_lock
from netagent.agent.sync import ControlClient
from netagent.agent.worker import Worker
from netagent.api.agent.v1 import agent_service_pb2 as pb
from netagent.dataplane.datapath import Datapath
from netagent.dataplane.links import Links
from netagent.dataplane.wireguard import Mesh, PeerStatus, ensure_private_key
from netagent.model.errors import DataplaneError
from netagent.reconcile.held_policies import HeldPolicies
from netagent.reconcile.policy_audit import PolicyIntent
from netagent.systemd.notify import find_supervisor

log = logging.getLogger(__name__)

DRAIN_TIMEOUT_S = 5.0


def read_boottime_ns() -> int:
    """Return CLOCK_BOOTTIME, the clock of the data path's deadlines, in nanoseconds."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


async def run_agent(config: AgentConfig) -> None:
    """Run the agent of this host until SIGTERM or SIGINT.

    Raises ConfigError or StateError when it cannot start, DataplaneError when the kernel lacks what
    is needed at all.
    """
    config.state_dir.mkdir(mode=0o755, parents=True, exist_ok=True)
    config.run_dir.mkdir(mode=0o755, parents=True, exist_ok=True)
    with hold_state_lock(config.lock):
        async with Worker("kernel") as kernel_worker, Worker("replica") as replica_worker:
            public_key = await kernel_worker.run(ensure_private_key, config.private_key)
            replica = await replica_worker.run(Replica, config.replica)
            try:
                kernel = await kernel_worker.run(_open_kernel, config)
                try:
                    agent = Agent(
                        config, public_key, kernel, kernel_worker, replica, replica_worker
                    )
                    with _on_stop_signal(agent.stop):
                        await agent.run()
                finally:
                    await kernel_worker.run(kernel.close)
            finally:
                await replica_worker.run(replica.close)


def _open_kernel(config: AgentConfig) -> Kernel:
    mesh = Mesh(config.mesh_interface, config.private_key)
    return Kernel(Datapath.open(config.pin_dir), Links(), mesh, read_boottime_ns)


class Agent:
    """The parts of a running agent."""

    def __init__(
        self,
        config: AgentConfig,
        public_key: bytes,
        kernel: Kernel,
        kernel_worker: Worker,
        replica: Replica,
        replica_worker: Worker,
    ) -> None:
        self._config = config
        self._worker = kernel_worker
        self._stopping = asyncio.Event()
        self._conditions = Conditions(time.time)
        self._engine = Engine(config, kernel)
        self._auditor = Auditor(
            self._engine, kernel_worker, self._conditions, config.audit_interval_s, random.random
        )
        self._intake = Intake(
            self._engine, kernel_worker, replica, replica_worker, self._auditor, self._conditions
        )
        self._policies = kernel.datapath.policies
        self._events = kernel.datapath.events
        self._flows = FlowLog()
        self._respondent = Respondent(self._engine, kernel.datapath, lambda: self._intake.own)
        self._moving = Moving(
            config, self._engine, kernel_worker, self._intake, kernel.datapath, self._conditions
        )
        self._control = ControlClient(
            config,
            public_key,
            self._intake,
            self._respondent,
            self._moving.reports,
            self._conditions,
            random.random,
        )
        # A handle of its own: status must not make a commit wait for `wg`.
        self._observer = Mesh(config.mesh_interface, config.private_key)

    async def run(self) -> None:
        """Run until `stop`."""
        attacher = Attacher(self._config, self._engine, self._worker, self._intake, self._control)
        service = AgentService(
            attacher, self._read_endpoints, self._read_status, self._flows, self._read_counters
        )
        supervisor = find_supervisor(os.environ)
        await self._intake.restore()
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._auditor.run(), name="auditor"),
                group.create_task(self._control.run(), name="control"),
                group.create_task(self._respondent.run(), name="answers"),
                group.create_task(self._moving.run(), name="moves"),
                group.create_task(self._watch_flows(), name="flows"),
                group.create_task(watch_links(self._on_link_event), name="links"),
                # Alive is an agent whose kernel thread takes work, too.
                group.create_task(
                    supervisor.watch(lambda: self._worker.run(read_boottime_ns)), name="watchdog"
                ),
            ]
            async with serve_local_api(self._config.socket, service):
                log.info("agent runs host=%s", self._config.name)
                supervisor.ready()
                await self._stopping.wait()
                supervisor.stopping()
                self._flows.close()
            for task in tasks:
                task.cancel()
        await self._drain()

    def stop(self) -> None:
        """Make `run` end in order."""
        self._stopping.set()

    async def _drain(self) -> None:
        try:
            async with asyncio.timeout(DRAIN_TIMEOUT_S):
                await self._intake.finish()
        except TimeoutError:
            log.warning("stopped with changes unwritten; control will send them again")
        log.info("agent stopped; the data path stays")

    def _on_link_event(self, event: LinkEvent) -> None:
        is_mesh = event.name == self._config.mesh_interface
        if event.is_gone and is_mesh:
            self._conditions.set(Code.WIREGUARD_DOWN, f"interface {event.name} is gone")
        if self._engine.concerns(event.name, is_gone=event.is_gone):
            self._auditor.request(expects_writes=False)

    async def _watch_flows(self) -> None:
        fleet = (await self._intake.wait_until_placed()).fleet

        def names() -> FlowNames:
            return FlowNames(fleet, self._engine.view, time.time_ns() - read_boottime_ns())

        await FlowWatch(self._events, self._flows, names, self._conditions).run()

    async def _read_counters(self, network: str) -> pb.ListRuleCountersResponse:
        counters = await asyncio.to_thread(self._policies.rule_counters)
        return counters_to_message(counters, self._engine.view, network)

    async def _read_endpoints(self) -> tuple[OwnHost | None, tuple[EndpointStatus, ...]]:
        if self._intake.own is None:
            return None, ()
        return self._intake.own, await self._worker.run(self._engine.endpoints)

    async def _read_status(self) -> AgentStatus:
        engine = await self._worker.run(self._engine.status)
        hosts = await self._worker.run(self._engine.hosts_by_key)
        intent = await self._worker.run(self._read_policies)
        return AgentStatus(
            name=self._config.name,
            engine=engine,
            is_connected=self._control.is_connected,
            applied_revision=self._engine.applied_revision,
            peers=tuple(await asyncio.to_thread(self._observe_peers)),
            hosts=hosts,
            conditions=tuple(self._conditions.active()),
            drift_mended=self._auditor.drift_mended,
            policies=await asyncio.to_thread(describe_policies, intent.desired),
            policy_maps=await asyncio.to_thread(measure_maps, intent.believed, self._policies.room),
        )

    def _read_policies(self) -> PolicyIntent:
        try:
            return self._engine.policy_intent()
        except DataplaneError:
            return PolicyIntent({}, HeldPolicies(), is_whole=False)  # reconcile_failing says so

    def _observe_peers(self) -> list[PeerStatus]:
        try:
            return self._observer.observe()
        except DataplaneError:
            return []  # the condition wireguard_down says so


@contextmanager
def _on_stop_signal(stop: Callable[[], None]) -> Iterator[None]:
    """Call `stop` on SIGTERM and SIGINT, for the block."""
    loop = asyncio.get_running_loop()
    signals = (signal.SIGTERM, signal.SIGINT)
    for number in signals:
        loop.add_signal_handler(number, stop)
    try:
        yield
    finally:
        for number in signals:
            loop.remove_signal_handler(number)
