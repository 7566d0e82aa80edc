"""Everything at once: whatever happens, agents end with exactly what the fleet is."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network

import grpc.aio
import pytest
from control_fleet import Agent, Fleet, until

from netagent.api.control.v1 import host_service_pb2 as hosts_pb
from netagent.api.control.v1 import machine_service_pb2 as machines_pb
from netagent.api.control.v1 import move_service_pb2 as moves_pb
from netagent.api.control.v1 import network_service_pb2 as networks_pb
from netagent.api.control.v1 import policy_service_pb2 as policies_pb
from netagent.api.types.v1.types_pb2 import Endpoint
from netagent.control.reach import consent_of, find_reach
from netagent.model.fleet import Identity
from netagent.policy.compiler import compile_policy
from netagent.policy.entries import CompiledPolicy
from netagent.policy.fleet import Member, make_snapshot
from netagent.policy.language import Policy, built_in_policy
from netagent.policy.reading import load_policy
from netagent.policy.references import named_machines

HOSTS = [f"h{number}" for number in range(1, 6)]
NETWORKS = ["blue", "green", "red"]
STEPS = 250
BUILT_IN = ""
POLICIES = {
    "blue": [
        BUILT_IN,
        "network: blue\nrules:\n"
        "  - {name: a, from: {labels: {n: '1'}}, to: any, allow: [tcp/80]}\n",
        "network: blue\ndefault: allow\nrules:\n"
        "  - {name: a, from: {labels: {n: '2'}}, to: {labels: {}}, deny: [tcp/22]}\n"
        "  - {name: in, from: {network: red, labels: {n: '1'}}, to: {labels: {}}, allow: [udp]}\n",
    ],
    "green": [
        BUILT_IN,
        "network: green\nmode: audit\nrules:\n"
        "  - {name: w, from: {cidr: ['2001:db8::/32']}, to: {labels: {n: '3'}}, allow: [tcp]}\n",
    ],
    "red": [
        "network: red\nrules:\n"
        "  - {name: one, from: {machine: m1}, to: {machine: blue/m2}, allow: [any]}\n"
        "  - {name: out, from: {labels: {}}, to: {network: blue}, allow: [udp/53]}\n",
        "network: red\nrules:\n"
        "  - {name: any, from: any, to: {labels: {n: {not: '1'}}}, allow: [tcp/443]}\n",
    ],
}


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
            self.apply,
            self.apply,
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

    async def apply(self) -> None:
        network = self.random.choice(NETWORKS)
        text = self.random.choice(POLICIES[network])
        if text == BUILT_IN:
            request = policies_pb.RollbackPolicyRequest(network=network, version=0)
            await self.fleet.stubs.policies.RollbackPolicy(request)
            return
        await self.fleet.stubs.policies.ApplyPolicy(policies_pb.ApplyPolicyRequest(text=text))

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


Tables = dict[int, dict[int, tuple[int, int, int, str]]]


@dataclass
class Expected:
    """What each host should hold, as the API has it. numbers: of networks, by name."""

    tables: dict[str, Tables]
    own: dict[str, set[int]]
    numbers: dict[str, int]
    policies: dict[int, tuple[Policy, int]]
    members: list[Member]

    def compile(self, held: CompiledPolicy) -> CompiledPolicy:
        """Return a network's entries made anew; only the numbers of rules are the agent's."""
        policy, version = self.policies[held.number]
        snapshot = make_snapshot(None, self.numbers, self.members)
        numbers = {name: number for number, name in held.rules.items()}
        return compile_policy(policy, snapshot, version, numbers=numbers).entries

    def is_reached_by(self, agent: Agent) -> bool:
        return (
            agent.tables == self.tables[agent.host]
            and set(agent.policies) == self.own[agent.host]
            and all(held == self.compile(held) for held in agent.policies.values())
        )


async def read_fleet(fleet: Fleet) -> Expected:
    """Return the state that each host should hold, as the API has it."""
    stubs = fleet.stubs
    hosts = (await stubs.hosts.ListHosts(hosts_pb.ListHostsRequest())).hosts
    locators = {h.name: int(IPv6Network(h.locator).network_address) >> 64 for h in hosts}
    numbers = {
        network.name: network.number
        for network in (
            await stubs.networks.ListNetworks(networks_pb.ListNetworksRequest())
        ).networks
    }
    policies = {name: (built_in_policy(name), 0) for name in NETWORKS}
    for name in NETWORKS:
        with suppress(grpc.aio.AioRpcError):
            request = policies_pb.GetPolicyRequest(network=name)
            found = (await stubs.policies.GetPolicy(request)).policy
            policy = load_policy(found.text, name) if found.text else built_in_policy(name)
            policies[name] = policy, found.version
    tables: Tables = {number: {} for number in numbers.values()}
    own: dict[str, set[int]] = {host: set() for host in locators}
    members = []
    for machine in (await stubs.machines.ListMachines(machines_pb.ListMachinesRequest())).machines:
        stable_id = int(IPv6Address(machine.address)) & (1 << 64) - 1
        identity = Identity(machine.identity)
        members.append(Member(machine.network, machine.name, identity, dict(machine.labels)))
        if machine.host:
            row = locators[machine.host], machine.identity, machine.epoch, machine.name
            tables[stable_id >> 32][stable_id] = row
            own[machine.host].add(stable_id >> 32)
    consents = {name: consent_of(policy) for name, (policy, _) in policies.items()}
    reach = find_reach(consents, numbers)
    needed = {
        host: networks.union(*(reach.get(one, ()) for one in networks))
        for host, networks in own.items()
    }
    return Expected(
        {host: {one: tables[one] for one in networks} for host, networks in needed.items()},
        own,
        numbers,
        {numbers[name]: found for name, found in policies.items()},
        members,
    )


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
    for agent in chaos.agents.values():
        await until(lambda a=agent: expected.is_reached_by(a))
        await until(lambda a=agent: a.hosts == {*HOSTS, "h6"})
        await until(lambda a=agent: not any(a.transitions.values()))
    assert any(expected.tables.values())
    named = {path for policy, _ in expected.policies.values() for path in named_machines(policy)}
    for member in expected.members:
        kin = [
            one.path
            for one in expected.members
            if one.path not in named
            and (one.network, one.labels) == (member.network, member.labels)
        ]
        alike = [one.path for one in expected.members if one.identity == member.identity]
        assert alike == ([member.path] if member.path in named else kin)
