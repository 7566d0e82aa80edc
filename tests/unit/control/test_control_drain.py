"""PlanDrain, and a drain of a thousand machines over ten hosts."""

from __future__ import annotations

import asyncio
import time
from ipaddress import ip_address
from pathlib import Path
from statistics import quantiles

import grpc
import pytest
from control_fleet import Agent, Fleet, Stubs, refused, running_fleet, until

from netagent.api.control.v1 import machine_service_pb2 as machines_pb
from netagent.api.control.v1 import move_service_pb2 as pb
from netagent.api.types.v1 import types_pb2

COMMITTED = types_pb2.MOVE_PHASE_COMMITTED
SETTLED = types_pb2.MOVE_PHASE_SETTLED
CALL = types_pb2.MOVE_TRIGGER_CALL


async def plan(stubs: Stubs, **fields: object) -> pb.PlanDrainResponse:
    return await stubs.moves.PlanDrain(pb.PlanDrainRequest(**fields))  # type: ignore[arg-type]


async def test_the_plan_is_of_what_is_there_and_not_moving(fleet: Fleet) -> None:
    for number in (1, 2, 3, 4):
        await fleet.stubs.host(number)
    await fleet.stubs.network("blue")
    for name in ("a", "b", "c"):
        await fleet.stubs.machine(f"blue/{name}", "h1")
    await fleet.stubs.machine("blue/d", "h2")
    await fleet.stubs.machine("blue/e", "h4")
    for host in ("h1", "h2", "h3"):
        await fleet.agent(host)
    call = fleet.stubs.move("b", "h3", trigger=CALL)
    move_id = (await call.read()).move.move_id

    planned = await plan(fleet.stubs, host="h1")

    # h4 is away; h2 has one machine, h3 is about to.
    assert [(each.machine, each.destination) for each in planned.assignments] == [
        ("blue/a", "h2"),
        ("blue/c", "h3"),
    ]
    assert [move.move_id for move in planned.under_way] == [move_id]
    async with refused(grpc.StatusCode.NOT_FOUND, "host: "):
        await plan(fleet.stubs, host="h9")
    async with refused(grpc.StatusCode.INVALID_ARGUMENT, "destinations: h1 is the host that"):
        await plan(fleet.stubs, host="h1", destinations=["h1"])


async def drain_all(fleet: Fleet, agents: list[Agent], parallel: int) -> tuple[list[float], float]:
    """Drain h0; return each move's seconds from call to applied on the last host, and all."""
    planned = await plan(fleet.stubs, host="h0")
    assert not planned.unplaced
    applied: dict[tuple[str, str], dict[str, float]] = {}

    def note(agent: Agent) -> None:
        now = time.monotonic()
        for table in [table for part in agent.batches[-1] for table in part.locations]:
            for name, locator in zip(table.names, table.locators, strict=True):
                applied.setdefault((name, str(locator)), {})[agent.host] = now

    for agent in agents:
        agent.on_applied = note
    began: dict[str, float] = {}
    room = asyncio.Semaphore(parallel)

    async def run(machine: str, destination: str) -> None:
        async with room:
            began[machine] = time.monotonic()
            call = fleet.stubs.move(machine, destination)
            async for response in call:
                assert not response.lagging_hosts, response
                if response.move.phase == COMMITTED:
                    break
        async for response in call:
            assert response.move.phase == SETTLED

    start = time.monotonic()
    await asyncio.gather(*(run(each.machine, each.destination) for each in planned.assignments))
    lasted_s = time.monotonic() - start
    locators = {agent.host: agent.locator for agent in agents}
    spans = []
    for each in planned.assignments:
        seen = applied[each.machine.partition("/")[2], str(locators[each.destination])]
        assert len(seen) == len(agents), "a host has not applied it"
        spans.append(max(seen.values()) - began[each.machine])
    return spans, lasted_s


async def fill(fleet: Fleet, hosts: int, machines: int) -> list[Agent]:
    """Make a fleet of hosts h0.. of which h0 has many machines, and the others one each."""
    records = [await fleet.stubs.host(n + 1, name=f"h{n}") for n in range(hosts)]
    await fleet.stubs.network("blue")
    for number in range(1, hosts):
        await fleet.stubs.machine(f"blue/peer-{number}", f"h{number}")
    for first in range(0, machines, 50):
        names = [f"blue/m{number}" for number in range(first, min(first + 50, machines))]
        await asyncio.gather(*(fleet.stubs.machine(name, "h0") for name in names))
    agents = []
    for record in records:
        agent = await fleet.agent(record.name)
        prefix = record.locator.partition("/")[0]
        agent.locator = int(ip_address(prefix)) >> 64
        agents.append(agent)
    return agents


@pytest.mark.parametrize(
    ("machines", "parallel"),
    [
        pytest.param(60, 8, id="60"),
        pytest.param(1_000, 32, id="1000", marks=(pytest.mark.long, pytest.mark.timeout(300))),
    ],
)
async def test_a_drain_reaches_every_host_and_leaves_nothing(
    tmp_path: Path, machines: int, parallel: int, capsys: pytest.CaptureFixture[str]
) -> None:
    async with running_fleet(tmp_path, drain_s=0.05) as fleet:
        agents = await fill(fleet, 10, machines)

        spans, lasted_s = await drain_all(fleet, agents, parallel)

        cuts = quantiles(spans, n=100)
        with capsys.disabled():
            print(
                f"\n{machines} moves over {len(agents)} hosts, {parallel} at a time:"
                f" {machines / lasted_s:.0f} moves/s; call to applied on the last host:"
                f" p50 {cuts[49] * 1000:.0f} ms, p99 {cuts[98] * 1000:.0f} ms"
            )
        request = machines_pb.ListMachinesRequest(host="h0")
        assert not (await fleet.stubs.machines.ListMachines(request)).machines
        await until(lambda: all(not agent.transitions.get(1) for agent in agents))
        tables = [agent.tables[1] for agent in agents[1:]]
        assert all(table == tables[0] for table in tables)
        assert 1 not in agents[0].tables
