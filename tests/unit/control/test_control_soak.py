"""Everything at once: whatever happens, agents end with exactly what the fleet is."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from ipaddress import IPv6Address, IPv6Network

import grpc.aio
import pytest
from control_fleet import Agent, Fleet, until

from netagent.api.control.v1 import host_service_pb2 as hosts_pb
from netagent.api.control.v1 import machine_service_pb2 as machines_pb
from netagent.api.control.v1 import move_service_pb2 as moves_pb
from netagent.api.types.v1.types_pb2 import Endpoint

HOSTS = [f"h{number}" for number in range(1, 6)]
NETWORKS = ["blue", "green", "red"]
STEPS = 250


class Chaos:
    """Does one random thing after the other; what is refused is refused."""

    def __init__(self, fleet: Fleet, seed: int) -> None:
        self.fleet = fleet
        self.random = random.Random(seed)
        self.agents: dict[str, Agent] = {}
        self.moving: set[asyncio.Future[None]] = set()

    async def step(self, number: int) -> None:
        actions: list[Callable[[], Awaitable[object]]] = [
            self.create,
            self.create,
            self.delete,
            self.relabel,
            self.move,
            self.move,
            self.reconnect,
            self.stall,
            self.reject,
            self.change_host,
        ]
        with suppress(grpc.aio.AioRpcError):
            await self.random.choice(actions)()
        if number in (100, 180):
            await self.restart()

    def machine(self) -> str:
        return f"{self.random.choice(NETWORKS)}/m{self.random.randrange(6)}"

    async def create(self) -> None:
        host = self.random.choice([*HOSTS, ""])
        await self.fleet.stubs.machine(self.machine(), host, n=str(self.random.randrange(4)))

    async def delete(self) -> None:
        await self.fleet.stubs.delete(self.machine())

    async def relabel(self) -> None:
        labels = {"n": str(self.random.randrange(4))}
        request = machines_pb.UpdateMachineLabelsRequest(machine=self.machine(), labels=labels)
        await self.fleet.stubs.machines.UpdateMachineLabels(request)

    async def move(self) -> None:
        call = self.fleet.stubs.move(self.machine(), self.random.choice(HOSTS))
        await call.read()

    async def change_host(self) -> None:
        number = self.random.randrange(1, 6)
        address = f"198.51.100.{self.random.randrange(1, 250)}"
        await self.fleet.stubs.host(number, endpoint=Endpoint(address=address, port=1))

    async def reconnect(self) -> None:
        host = self.random.choice(HOSTS)
        agent = self.agents.get(host)
        if agent is not None:
            await self.fleet.leave(agent)
            agent.answering.set()
            agent.stubs = self.fleet.stubs
        if self.random.random() < 0.3:
            agent = None
        self.agents[host] = await self.fleet.agent(agent or Agent(self.fleet.stubs, host))

    async def stall(self) -> None:
        for agent in self.agents.values():
            (agent.answering.clear if self.random.random() < 0.3 else agent.answering.set)()

    async def reject(self) -> None:
        agent = self.agents.get(self.random.choice(HOSTS))
        if agent is not None:
            agent.reject = "for the sake of it"

    async def restart(self) -> None:
        await self.fleet.stop()
        await self.fleet.start()
        for agent in self.agents.values():
            agent.stubs = self.fleet.stubs
            agent.answering.set()
            await self.fleet.agent(agent)


async def read_fleet(fleet: Fleet) -> dict[str, dict[int, dict[int, tuple[int, int, int, str]]]]:
    """Return the tables that each host should hold, as the API has them."""
    stubs = fleet.stubs
    hosts = (await stubs.hosts.ListHosts(hosts_pb.ListHostsRequest())).hosts
    locators = {h.name: int(IPv6Network(h.locator).network_address) >> 64 for h in hosts}
    tables: dict[int, dict[int, tuple[int, int, int, str]]] = {}
    interest: dict[str, set[int]] = {host: set() for host in locators}
    for machine in (await stubs.machines.ListMachines(machines_pb.ListMachinesRequest())).machines:
        stable_id = int(IPv6Address(machine.address)) & (1 << 64) - 1
        network = tables.setdefault(stable_id >> 32, {})
        if machine.host:
            row = locators[machine.host], machine.identity, machine.epoch, machine.name
            network[stable_id] = row
            interest[machine.host].add(stable_id >> 32)
    return {
        host: {network: tables[network] for network in needed} for host, needed in interest.items()
    }


@pytest.mark.parametrize("seed", range(3))
async def test_whatever_happens_agents_end_with_what_the_fleet_is(fleet: Fleet, seed: int) -> None:
    for number in range(1, 6):
        await fleet.stubs.host(number)
    for network in NETWORKS:
        await fleet.stubs.network(network)
    chaos = Chaos(fleet, seed)

    for number in range(STEPS):
        await chaos.step(number)

    for host in HOSTS:
        if host not in chaos.agents:
            chaos.agents[host] = await fleet.agent(host)
    for agent in chaos.agents.values():
        agent.reject = ""
        agent.answering.set()

    async def is_over() -> bool:
        request = moves_pb.ListMovesRequest(active_only=True)
        return not (await fleet.stubs.moves.ListMoves(request)).moves

    await until(is_over)
    # What an agent rejected comes again with the next change, so there has to be one for each.
    await fleet.stubs.host(6)
    expected = await read_fleet(fleet)
    for host, agent in chaos.agents.items():
        await until(lambda h=host, a=agent: a.tables == expected[h])
        await until(lambda a=agent: a.hosts == {*HOSTS, "h6"})
        await until(lambda a=agent: not any(a.transitions.values()))
    assert any(expected.values())
