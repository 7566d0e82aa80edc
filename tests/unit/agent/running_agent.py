"""A whole agent in this process: real control, real streams, real replica, data path in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc.aio
from agent_rig import make_host
from simulated_dataplane import (
    SimulatedDatapath,
    SimulatedDataplane,
    SimulatedLinks,
    SimulatedMesh,
)

from netagent.agent.config import AgentConfig
from netagent.agent.daemon import Agent, read_boottime_ns
from netagent.agent.kernel import Kernel
from netagent.agent.replica import Replica
from netagent.agent.worker import Worker
from netagent.api.agent.v1 import agent_service_pb2 as pb
from netagent.api.agent.v1 import agent_service_pb2_grpc

DEADLINE_S = 10.0


@dataclass
class RunningAgent:
    config: AgentConfig
    state: SimulatedDataplane
    stub: agent_service_pb2_grpc.AgentServiceStub

    async def status(self) -> pb.GetStatusResponse:
        return await self.stub.GetStatus(pb.GetStatusRequest())

    async def conditions(self) -> list[str]:
        return [condition.code for condition in (await self.status()).conditions]

    async def attach(self, machine: str, interface: str) -> pb.AttachedEndpoint:
        self.state.links.get(interface) or self.state.make_link(interface)
        request = pb.AttachRequest(machine=machine, interface=interface)
        return (await self.stub.Attach(request)).endpoint


async def until(claim: Callable) -> None:
    """Wait until `claim`, a coroutine function, returns something true."""
    async with asyncio.timeout(DEADLINE_S):
        while not await claim():  # noqa: ASYNC110  the other side is another task's, or the kernel's
            await asyncio.sleep(0.01)


@asynccontextmanager
async def running_agent(
    directory: Path, name: str, target: str, state: SimulatedDataplane
) -> AsyncIterator[RunningAgent]:
    number = int(name[1:])
    config = AgentConfig(
        name=name,
        control=target,
        endpoint=make_host(number).endpoint,
        state_dir=directory / name,
        run_dir=directory / name,
        bpffs=directory,
    )
    config.state_dir.mkdir(exist_ok=True)
    kernel = Kernel(
        SimulatedDatapath(state), SimulatedLinks(state), SimulatedMesh(state), read_boottime_ns
    )
    replica = Replica(config.replica)
    async with Worker("kernel") as kernel_worker, Worker("replica") as replica_worker:
        agent = Agent(config, bytes([number]) * 32, kernel, kernel_worker, replica, replica_worker)
        task = asyncio.ensure_future(agent.run())
        try:
            options = (("grpc.initial_reconnect_backoff_ms", 50),)
            async with grpc.aio.insecure_channel(f"unix://{config.socket}", options) as channel:
                await channel.channel_ready()
                yield RunningAgent(config, state, agent_service_pb2_grpc.AgentServiceStub(channel))
        finally:
            agent.stop()
            await task
            replica.close()
            kernel.close()
