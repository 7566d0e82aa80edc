"""SyncService over gRPC: snapshot, resume, interest, slow agents, rejections, takeovers."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from control_fleet import Agent, Fleet, Stubs, refused, until

from netagent.api.control.v1 import host_service_pb2 as hosts_pb
from netagent.api.control.v1 import machine_service_pb2 as machines_pb
from netagent.api.control.v1 import sync_service_pb2 as pb
from netagent.api.types.v1.types_pb2 import Endpoint


async def populate(stubs: Stubs) -> None:
    """Make three hosts; blue on h1 and h2, red on h2."""
    for number in (1, 2, 3):
        await stubs.host(number)
    for network in ("blue", "red"):
        await stubs.network(network)
    await stubs.machine("blue/a", "h1")
    await stubs.machine("blue/b", "h2")
    await stubs.machine("red/c", "h2")


async def relabel(stubs: Stubs, machine: str, **labels: str) -> int:
    request = machines_pb.UpdateMachineLabelsRequest(machine=machine, labels=labels)
    return (await stubs.machines.UpdateMachineLabels(request)).machine.identity


async def remove_host(stubs: Stubs, name: str) -> None:
    await stubs.hosts.RemoveHost(hosts_pb.RemoveHostRequest(name=name))


async def test_a_snapshot_holds_all_hosts_and_the_networks_that_the_host_needs(
    fleet: Fleet,
) -> None:
    await populate(fleet.stubs)

    agents = [await fleet.agent(host) for host in ("h1", "h2", "h3")]

    assert [agent.hosts for agent in agents] == [{"h1", "h2", "h3"}] * 3
    assert [sorted(agent.tables) for agent in agents] == [[1], [1, 2], []]
    assert agents[0].names(1) == agents[1].names(1) == ["a", "b"]
    assert all(agent.is_snapshot for agent in agents)
    assert len({agent.revision for agent in agents}) == 1


async def test_a_fleet_without_anything_has_a_first_batch_too(fleet: Fleet) -> None:
    await fleet.stubs.host(1)

    agent = await fleet.agent("h1")

    assert agent.is_snapshot
    assert agent.revision > 0
    assert agent.tables == {}


async def test_connected_and_applied_are_seen(fleet: Fleet) -> None:
    await populate(fleet.stubs)
    agent = await fleet.agent("h1")

    async def is_seen() -> bool:
        host = await fleet.stubs.connected("h1")
        return host.connected and host.applied_revision == agent.revision

    await until(is_seen)
    await fleet.leave(agent)

    host = await fleet.stubs.connected("h1")
    assert (host.connected, host.applied_revision) == (False, 0)


async def test_changes_reach_those_who_need_them_and_nobody_else(fleet: Fleet) -> None:
    await populate(fleet.stubs)
    first, second, third = [await fleet.agent(host) for host in ("h1", "h2", "h3")]

    await fleet.stubs.machine("red/d", "h2")
    await until(lambda: second.names(2) == ["c", "d"])
    await fleet.stubs.delete("red/d")
    await until(lambda: second.names(2) == ["c"])
    identity = await relabel(fleet.stubs, "red/c", app="x")
    await until(lambda: [row[1] for row in second.tables[2].values()] == [identity])

    assert [len(agent.batches) for agent in (first, second, third)] == [1, 4, 1]


async def test_a_network_comes_with_the_first_machine_and_goes_with_the_last(
    fleet: Fleet,
) -> None:
    await populate(fleet.stubs)
    agent = await fleet.agent("h1")

    await fleet.stubs.machine("red/d", "h1")
    await until(lambda: agent.names(2) == ["c", "d"])
    await fleet.stubs.delete("red/d")

    await until(lambda: sorted(agent.tables) == [1])


async def test_hosts_that_come_change_and_go_are_told_to_all(fleet: Fleet) -> None:
    await populate(fleet.stubs)
    agent = await fleet.agent("h1")

    await fleet.stubs.host(4)
    await until(lambda: "h4" in agent.hosts)
    await fleet.stubs.host(4, endpoint=Endpoint(address="192.0.2.44", port=9))
    await until(lambda: len(agent.batches) == 3)
    assert agent.batches[2][0].hosts[0].endpoint.address == "192.0.2.44"
    await remove_host(fleet.stubs, "h4")

    await until(lambda: "h4" not in agent.hosts)


async def test_an_agent_that_comes_back_gets_only_what_changed(fleet: Fleet) -> None:
    await populate(fleet.stubs)
    agent = await fleet.agent("h2")
    await fleet.leave(agent)
    await fleet.stubs.machine("blue/new", "h1")
    await fleet.stubs.delete("blue/a")
    await fleet.stubs.host(4)
    await remove_host(fleet.stubs, "h3")

    await fleet.agent(agent)

    assert not agent.is_snapshot
    assert agent.names(1) == ["b", "new"]
    assert agent.hosts == {"h1", "h2", "h4"}
    batch = agent.batches[-1]
    assert sum(len(table.ids) for part in batch for table in part.locations) == 1
    assert sum(len(part.hosts) for part in batch) == 1


async def test_an_agent_that_comes_back_to_no_change_gets_an_empty_batch(fleet: Fleet) -> None:
    await populate(fleet.stubs)
    agent = await fleet.agent("h2")
    await fleet.leave(agent)

    await fleet.agent(agent)

    assert not agent.is_snapshot
    assert [str(part).split() for part in agent.batches[-1]] == [["revision:", str(agent.revision)]]


async def test_interest_that_changed_while_away_is_made_good(fleet: Fleet) -> None:
    await populate(fleet.stubs)
    agent = await fleet.agent("h2")
    await fleet.leave(agent)
    await fleet.stubs.delete("blue/b")
    await fleet.stubs.network("green")
    await fleet.stubs.machine("green/e", "h2")

    await fleet.agent(agent)

    assert not agent.is_snapshot
    assert sorted(agent.tables) == [2, 3]
    assert agent.names(3) == ["e"]


async def test_agents_resume_across_a_restart_of_control(fleet: Fleet) -> None:
    await populate(fleet.stubs)
    agent = await fleet.agent("h2")
    await fleet.leave(agent)
    await fleet.stubs.delete("blue/a")
    await remove_host(fleet.stubs, "h3")
    await fleet.stop()
    await fleet.start()
    agent.stubs = fleet.stubs

    await fleet.agent(agent)

    assert not agent.is_snapshot
    assert agent.names(1) == ["b"]
    assert agent.hosts == {"h1", "h2"}


async def test_a_revision_that_control_never_had_means_a_snapshot(fleet: Fleet) -> None:
    await populate(fleet.stubs)

    agent = await fleet.agent(Agent(fleet.stubs, "h1", revision=1_000_000))

    assert agent.is_snapshot
    assert agent.names(1) == ["a", "b"]


async def test_a_slow_agent_gets_the_newest_state_once(fleet: Fleet) -> None:
    await populate(fleet.stubs)
    agent = await fleet.agent("h1")
    agent.answering.clear()
    await relabel(fleet.stubs, "blue/a", app="0")
    await until(lambda: len(agent.batches) == 2)

    for number in range(1, 50):
        newest = await relabel(fleet.stubs, "blue/a", app=str(number))
        await fleet.stubs.machine(f"blue/x{number}", "h2")
        await fleet.stubs.delete(f"blue/x{number}")
    agent.answering.set()

    await until(lambda: len(agent.batches) == 3)
    rows = [table for part in agent.batches[2] for table in part.locations]
    assert [list(table.identities) for table in rows] == [[newest]]
    await until(lambda: agent.names(1) == ["a", "b"])


async def test_a_rejected_batch_is_sent_again_with_the_next_change(fleet: Fleet) -> None:
    await populate(fleet.stubs)
    agent = await fleet.agent("h1")
    agent.reject = "no room"
    await fleet.stubs.machine("blue/x", "h2")
    await until(lambda: len(agent.batches) == 2)
    assert agent.names(1) == ["a", "b"]

    await fleet.stubs.machine("blue/y", "h2")

    await until(lambda: agent.names(1) == ["a", "b", "x", "y"])
    assert len(agent.batches) == 3


async def test_a_rejected_snapshot_is_sent_again_whole(fleet: Fleet) -> None:
    await populate(fleet.stubs)
    agent = await fleet.agent(Agent(fleet.stubs, "h1", reject="no room"))
    assert agent.tables == {}

    await fleet.stubs.host(4)

    await until(lambda: agent.names(1) == ["a", "b"])
    assert agent.hosts == {"h1", "h2", "h3", "h4"}


async def test_a_newer_stream_takes_over(fleet: Fleet) -> None:
    await populate(fleet.stubs)
    older = await fleet.agent("h1")

    newer = await fleet.agent(Agent(fleet.stubs, "h1"))

    await until(lambda: older.error is not None)
    assert older.error is not None
    assert older.error.code() is grpc.StatusCode.ABORTED
    await fleet.stubs.machine("blue/x", "h2")
    await until(lambda: "x" in newer.names(1))
    assert (await fleet.stubs.connected("h1")).connected


async def test_removing_a_host_ends_its_stream(fleet: Fleet) -> None:
    await fleet.stubs.host(1)
    agent = await fleet.agent("h1")

    await remove_host(fleet.stubs, "h1")

    await until(lambda: agent.error is not None)
    assert agent.error is not None
    assert agent.error.code() is grpc.StatusCode.NOT_FOUND


async def test_stopping_control_ends_streams_so_that_agents_come_back(fleet: Fleet) -> None:
    await fleet.stubs.host(1)
    agent = await fleet.agent("h1")

    async with asyncio.timeout(5):
        await fleet.stop()

    await until(lambda: agent.error is not None)
    assert agent.error is not None
    assert agent.error.code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize(
    ("message", "code", "begins"),
    [
        pytest.param(
            {"applied": pb.Applied(revision=1)},
            grpc.StatusCode.INVALID_ARGUMENT,
            "hello: ",
            id="no-hello",
        ),
        pytest.param({}, grpc.StatusCode.INVALID_ARGUMENT, "hello: ", id="nothing"),
        pytest.param(
            {"hello": pb.Hello(host="h9", protocol_version=1)},
            grpc.StatusCode.NOT_FOUND,
            "hello.host: ",
            id="unknown-host",
        ),
        pytest.param(
            {"hello": pb.Hello(host="h1", protocol_version=2)},
            grpc.StatusCode.FAILED_PRECONDITION,
            "hello.protocol_version: ",
            id="newer-protocol",
        ),
        pytest.param(
            {"hello": pb.Hello(host="h1", protocol_version=1, fleet_id="other")},
            grpc.StatusCode.FAILED_PRECONDITION,
            "hello.fleet_id: ",
            id="other-fleet",
        ),
    ],
)
async def test_streams_that_cannot_begin(
    stubs: Stubs, message: dict[str, Any], code: grpc.StatusCode, begins: str
) -> None:
    await stubs.host(1)
    call = stubs.sync.Sync()

    async with refused(code, begins):
        await call.write(pb.SyncRequest(**message))
        await call.read()

    assert not (await stubs.connected("h1")).connected


@pytest.mark.parametrize(
    "answer",
    [
        pb.SyncRequest(applied=pb.Applied(revision=999)),
        pb.SyncRequest(rejected=pb.Rejected(revision=999)),
        pb.SyncRequest(hello=pb.Hello(host="h1", protocol_version=1)),
        pb.SyncRequest(),
    ],
)
async def test_answers_that_make_no_sense_end_the_stream(
    stubs: Stubs, answer: pb.SyncRequest
) -> None:
    await stubs.host(1)
    call = stubs.sync.Sync()
    await call.write(pb.SyncRequest(hello=pb.Hello(host="h1", protocol_version=1)))
    await call.read()
    await call.read()

    await call.write(answer)

    async with refused(grpc.StatusCode.INVALID_ARGUMENT, ""):
        while await call.read() is not grpc.aio.EOF:
            pass
