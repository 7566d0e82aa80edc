"""MoveService over gRPC, with agents that answer, lag and leave."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest
from control_fleet import Agent, Fleet, Stubs, finish, id_of, refused, running_fleet, until

from netagent.api.control.v1 import host_service_pb2 as hosts_pb
from netagent.api.control.v1 import move_service_pb2 as pb
from netagent.api.types.v1 import types_pb2

PREPARING = types_pb2.MOVE_PHASE_PREPARING
COMMITTED = types_pb2.MOVE_PHASE_COMMITTED
SETTLED = types_pb2.MOVE_PHASE_SETTLED
STATE = grpc.StatusCode.FAILED_PRECONDITION


async def populate(stubs: Stubs, hosts: int = 3) -> types_pb2.Machine:
    for number in range(1, hosts + 1):
        await stubs.host(number)
    await stubs.network("blue")
    return await stubs.machine("blue/web", "h1")


async def get_move(stubs: Stubs, move_id: str) -> types_pb2.Move:
    return (await stubs.moves.GetMove(pb.GetMoveRequest(move_id=move_id))).move


async def test_a_move_streams_its_phases(fleet: Fleet) -> None:
    before = await populate(fleet.stubs)
    for host in ("h1", "h2", "h3"):
        await fleet.agent(host)

    responses = await finish(fleet.stubs.move("web", "h2"))

    assert [response.move.phase for response in responses] == [PREPARING, COMMITTED, SETTLED]
    elapsed = [response.elapsed.ToNanoseconds() for response in responses]
    assert 0 < elapsed[0] < elapsed[1] < elapsed[2]
    move = responses[-1].move
    assert (move.machine, move.source, move.destination) == ("blue/web", "h1", "h2")
    after = await fleet.stubs.get("web")
    assert (after.host, after.epoch, after.address) == ("h2", before.epoch + 1, before.address)
    assert move.epoch == after.epoch
    assert not any(response.lagging_hosts for response in responses)
    assert await get_move(fleet.stubs, move.move_id) == move


async def test_the_destination_has_everything_before_the_commit(fleet: Fleet) -> None:
    await populate(fleet.stubs)
    source, destination = await fleet.agent("h1"), await fleet.agent("h2")
    destination.answering.clear()

    move = fleet.stubs.move("web", "h2")
    await move.read()
    await until(lambda: len(destination.batches) == 2)

    tables = [table for part in destination.batches[1] for table in part.locations]
    here = source.tables[1]
    assert {
        stable_id: locator
        for table in tables
        for stable_id, locator in zip(table.ids, table.locators, strict=True)
    } == {stable_id: row[0] for stable_id, row in here.items()}
    places = next(part.transitions[0] for part in destination.batches[1] if part.transitions)
    assert list(places.sources) == [row[0] for row in here.values()]
    assert list(places.destinations) != list(places.sources)
    assert (await fleet.stubs.get("web")).host == "h1"
    destination.answering.set()
    await finish(move)
    await until(lambda: destination.transitions[1] == {})
    assert [row[0] for row in destination.tables[1].values()] == list(places.destinations)
    await until(lambda: 1 not in source.tables)


@pytest.mark.parametrize("is_long", [True, False], ids=["long", "short"])
async def test_a_slow_destination_has_so_long_a_head_start(tmp_path: Path, is_long: bool) -> None:
    """Before the destination lets the machine speak, the source must not forbid it."""
    async with running_fleet(tmp_path, head_start_s=30.0 if is_long else 0.01) as fleet:
        machine = await populate(fleet.stubs)
        source, destination = await fleet.agent("h1"), await fleet.agent("h2")
        bystander = await fleet.agent("h3")
        await fleet.stubs.machine("blue/db", "h3")
        stable_id = id_of(machine.address)
        old = source.tables[1][stable_id][0]
        # It takes the transition, and then no more.
        destination.on_applied = lambda agent: (
            agent.answering.clear() if agent.transitions.get(1) else None
        )
        move = fleet.stubs.move("web", "h2")
        await until(lambda: not destination.answering.is_set())
        await until(lambda: any(part.locations for part in destination.batches[-1]))
        # Whoever does not wait hears of the commit with this at the latest.
        await fleet.stubs.machine("blue/new", "h1")
        await until(lambda: bystander.names(1) == ["db", "new", "web"])
        assert bystander.tables[1][stable_id][0] != old

        if is_long:
            assert source.tables[1][stable_id][0] == old
            destination.answering.set()
            destination.on_applied = lambda agent: None
        await until(lambda: source.tables[1][stable_id][0] != old)
        destination.answering.set()
        await finish(move)


async def test_a_commit_changes_one_row_and_nothing_else(fleet: Fleet) -> None:
    await populate(fleet.stubs)
    await fleet.stubs.machine("blue/db", "h3")
    await fleet.agent("h2")
    watcher = await fleet.agent("h3")

    await finish(fleet.stubs.move("web", "h2"))

    await until(lambda: len(watcher.batches) == 4)
    prepare, commit, settle = watcher.batches[1:]
    assert [len(part.transitions[0].ids) for part in prepare[:-1]] == [1]
    assert not any(part.locations for part in prepare)
    assert [len(part.locations[0].ids) for part in commit[:-1]] == [1]
    assert not any(part.transitions for part in commit)
    assert [len(part.transitions[0].removed_ids) for part in settle[:-1]] == [1]
    assert not any(part.locations for part in settle)


async def test_it_waits_for_every_host_that_holds_the_network(fleet: Fleet) -> None:
    await populate(fleet.stubs)
    await fleet.stubs.machine("blue/db", "h3")
    for host in ("h1", "h2"):
        await fleet.agent(host)
    slow = await fleet.agent("h3")
    slow.answering.clear()

    move = fleet.stubs.move("web", "h2")
    await move.read()
    await until(lambda: len(slow.batches) == 2)
    assert (await fleet.stubs.get("web")).host == "h1"
    slow.answering.set()

    assert [response.move.phase for response in await finish(move)] == [COMMITTED, SETTLED]


async def test_it_does_not_wait_for_hosts_that_do_not_need_the_network(fleet: Fleet) -> None:
    await populate(fleet.stubs)
    await fleet.agent("h2")
    stranger = await fleet.agent("h3")
    stranger.answering.clear()

    responses = await finish(fleet.stubs.move("web", "h2"))

    assert responses[-1].move.phase == SETTLED
    assert len(stranger.batches) == 1


async def test_a_host_that_leaves_is_waited_for_no_longer(fleet: Fleet) -> None:
    await populate(fleet.stubs)
    await fleet.stubs.machine("blue/db", "h3")
    await fleet.agent("h2")
    dying = await fleet.agent("h3")
    dying.answering.clear()
    move = fleet.stubs.move("web", "h2")
    await move.read()
    await until(lambda: len(dying.batches) == 2)

    await fleet.leave(dying)

    assert [response.move.phase for response in await finish(move)] == [COMMITTED, SETTLED]


async def test_the_bounds_end_the_waiting_and_say_who_lags(tmp_path: Path) -> None:
    async with running_fleet(tmp_path, prepare_bound_s=0.2, settle_bound_s=0.2) as fleet:
        await populate(fleet.stubs)
        await fleet.stubs.machine("blue/db", "h3")
        await fleet.agent("h2")
        stuck = await fleet.agent("h3")
        stuck.answering.clear()

        responses = await finish(fleet.stubs.move("web", "h2"))

    assert [list(response.lagging_hosts) for response in responses] == [[], ["h3"], ["h3"]]
    assert responses[1].elapsed.ToMilliseconds() >= 200


async def test_a_move_goes_on_when_its_caller_leaves(fleet: Fleet) -> None:
    await populate(fleet.stubs)
    destination = await fleet.agent("h2")
    destination.answering.clear()
    call = fleet.stubs.move("web", "h2")
    move_id = (await call.read()).move.move_id

    call.cancel()
    destination.answering.set()

    async def is_settled() -> bool:
        return (await get_move(fleet.stubs, move_id)).phase == SETTLED

    await until(is_settled)
    assert (await fleet.stubs.get("web")).host == "h2"


async def test_while_a_machine_moves_a_second_move_and_a_deletion_are_refused(
    fleet: Fleet,
) -> None:
    await populate(fleet.stubs)
    destination = await fleet.agent("h2")
    await fleet.agent("h3")
    destination.answering.clear()
    first = fleet.stubs.move("web", "h2")
    move_id = (await first.read()).move.move_id

    async with refused(STATE, f"machine: blue/web is on move {move_id}"):
        await finish(fleet.stubs.move("web", "h3"))
    async with refused(STATE, f"machine: blue/web is on move {move_id}"):
        await fleet.stubs.delete("web")
    for host in ("h1", "h2"):
        async with refused(STATE, f"name: host {host} has a machine, "):
            await fleet.stubs.hosts.RemoveHost(hosts_pb.RemoveHostRequest(name=host))

    destination.answering.set()
    assert (await finish(first))[-1].move.phase == SETTLED
    await fleet.stubs.hosts.RemoveHost(hosts_pb.RemoveHostRequest(name="h1"))


async def test_of_moves_asked_for_at_once_one_begins(fleet: Fleet) -> None:
    await populate(fleet.stubs, hosts=5)
    for host in ("h2", "h3", "h4", "h5"):
        (await fleet.agent(host)).answering.clear()

    calls = [fleet.stubs.move("web", host) for host in ("h2", "h3", "h4", "h5")]
    answers = await asyncio.gather(*(call.read() for call in calls), return_exceptions=True)

    begun = [answer for answer in answers if isinstance(answer, pb.MoveAddressResponse)]
    assert len(begun) == 1
    for answer in answers:
        if isinstance(answer, grpc.aio.AioRpcError):
            assert answer.code() is STATE
            assert begun[0].move.move_id in (answer.details() or "")


async def test_a_machine_without_a_host_is_placed_at_once(fleet: Fleet) -> None:
    await populate(fleet.stubs)
    machine = await fleet.stubs.machine("blue/new")
    assert (machine.host, machine.epoch) == ("", 0)
    destination = await fleet.agent("h2")
    await fleet.stubs.machine("blue/db", "h3")
    slow = await fleet.agent("h3")
    slow.answering.clear()

    move = fleet.stubs.move("new", "h2")

    phases = [(await move.read()).move.phase for _ in range(2)]
    assert phases == [PREPARING, COMMITTED]
    await until(lambda: destination.names(1) == ["db", "new", "web"])
    assert destination.transitions[1] == {}
    slow.answering.set()
    assert [response.move.phase for response in await finish(move)] == [SETTLED]
    placed = await fleet.stubs.get("new")
    assert (placed.host, placed.epoch) == ("h2", 1)


@pytest.mark.parametrize(
    ("machine", "destination", "code", "begins"),
    [
        ("", "h2", grpc.StatusCode.INVALID_ARGUMENT, "machine: "),
        ("nobody", "h2", grpc.StatusCode.NOT_FOUND, "machine: "),
        ("web", "", grpc.StatusCode.INVALID_ARGUMENT, "destination: "),
        ("web", "h9", grpc.StatusCode.NOT_FOUND, "destination: "),
        ("web", "h1", grpc.StatusCode.INVALID_ARGUMENT, "destination: "),
        ("web", "h3", STATE, "destination: the agent of host h3 is not connected"),
    ],
)
async def test_bad_moves_are_refused_whole(
    fleet: Fleet, machine: str, destination: str, code: grpc.StatusCode, begins: str
) -> None:
    await populate(fleet.stubs)
    await fleet.agent("h2")

    async with refused(code, begins):
        await finish(fleet.stubs.move(machine, destination))

    assert not (await fleet.stubs.moves.ListMoves(pb.ListMovesRequest())).moves
    assert (await fleet.stubs.get("web")).host == "h1"


async def test_a_stale_etag_moves_nothing(fleet: Fleet) -> None:
    machine = await populate(fleet.stubs)
    await fleet.agent("h1")
    await fleet.agent("h2")
    await finish(fleet.stubs.move("web", "h2", machine.etag))

    async with refused(grpc.StatusCode.ABORTED, "etag: "):
        await finish(fleet.stubs.move("web", "h1", machine.etag))


async def test_moves_are_listed_newest_first(fleet: Fleet) -> None:
    await populate(fleet.stubs)
    await fleet.stubs.machine("blue/db", "h1")
    await fleet.agent("h1")
    await fleet.agent("h2")
    ids = []
    for machine, host in (("web", "h2"), ("db", "h2"), ("web", "h1"), ("web", "h2")):
        ids.append((await finish(fleet.stubs.move(machine, host)))[0].move.move_id)

    async def listed(**fields: Any) -> list[str]:
        found, token = [], ""
        while True:
            request = pb.ListMovesRequest(page_size=2, page_token=token, **fields)
            page = await fleet.stubs.moves.ListMoves(request)
            found += [move.move_id for move in page.moves]
            token = page.next_page_token
            if not token:
                return found

    assert await listed() == ids[::-1]
    assert await listed(machine="web") == [ids[3], ids[2], ids[0]]
    assert await listed(machine="blue/db") == [ids[1]]
    assert await listed(active_only=True) == []
    async with refused(grpc.StatusCode.NOT_FOUND, "move_id: "):
        await get_move(fleet.stubs, "nothing")


@pytest.mark.parametrize("phase", [PREPARING, COMMITTED])
async def test_a_move_goes_on_after_control_restarts(fleet: Fleet, phase: int) -> None:
    await populate(fleet.stubs)
    await fleet.stubs.machine("blue/db", "h3")
    source, destination, slow = [await fleet.agent(host) for host in ("h1", "h2", "h3")]
    slow.answering.clear()
    call = fleet.stubs.move("web", "h2")
    move_id = (await call.read()).move.move_id
    if phase == COMMITTED:
        await until(lambda: len(slow.batches) == 2)
        slow.answering.set()
        assert (await call.read()).move.phase == COMMITTED
        # Stopped before everybody could say that they have it, or just after: both must go on.
    else:
        await until(lambda: len(slow.batches) == 2)

    await fleet.stop()
    await fleet.start()

    held = await get_move(fleet.stubs, move_id)
    assert held.phase >= phase
    for agent in (source, destination, slow):
        agent.stubs = fleet.stubs
        agent.answering.set()
        await fleet.agent(agent)

    async def is_settled() -> bool:
        return (await get_move(fleet.stubs, move_id)).phase == SETTLED

    await until(is_settled)
    after = await fleet.stubs.get("web")
    assert (after.host, after.epoch) == ("h2", 2)
    await until(lambda: slow.transitions[1] == {})


async def test_after_a_restart_a_move_waits_for_hosts_that_are_not_back(fleet: Fleet) -> None:
    await populate(fleet.stubs)
    destination = await fleet.agent("h2")
    destination.answering.clear()
    call = fleet.stubs.move("web", "h2")
    move_id = (await call.read()).move.move_id
    await fleet.stop()
    await fleet.start()

    back = await fleet.agent(Agent(fleet.stubs, "h2"))
    await until(lambda: 1 in back.tables)

    assert (await get_move(fleet.stubs, move_id)).phase == PREPARING
    await fleet.agent(Agent(fleet.stubs, "h1"))

    async def is_settled() -> bool:
        return (await get_move(fleet.stubs, move_id)).phase == SETTLED

    await until(is_settled)
