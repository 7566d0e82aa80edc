"""MoveService over gRPC: triggers, carrying, refusals, abort and force."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest
from control_fleet import Agent, Fleet, Stubs, finish, refused, running_fleet, until
from google.protobuf.duration_pb2 import Duration

from netagent.api.control.v1 import host_service_pb2 as hosts_pb
from netagent.api.control.v1 import move_service_pb2 as pb
from netagent.api.types.v1 import types_pb2
from netagent.moves.reports import Alive, Carried, Refused

PREPARING = types_pb2.MOVE_PHASE_PREPARING
READY = types_pb2.MOVE_PHASE_READY
COMMITTED = types_pb2.MOVE_PHASE_COMMITTED
SETTLED = types_pb2.MOVE_PHASE_SETTLED
ABORTED = types_pb2.MOVE_PHASE_ABORTED
CALL = types_pb2.MOVE_TRIGGER_CALL
LIFE = types_pb2.MOVE_TRIGGER_LIFE
STATE = grpc.StatusCode.FAILED_PRECONDITION


async def populate(stubs: Stubs) -> None:
    for number in (1, 2, 3):
        await stubs.host(number)
    await stubs.network("blue")
    await stubs.machine("blue/web", "h1")
    await stubs.machine("blue/db", "h3")


async def agents(fleet: Fleet, *, reporting: bool = False) -> list[Agent]:
    made = [Agent(fleet.stubs, host, reports_moves=reporting) for host in ("h1", "h2", "h3")]
    return [await fleet.agent(agent) for agent in made]


async def phases(call: Any) -> list[int]:
    return [response.move.phase for response in await finish(call)]


async def ready(fleet: Fleet, **fields: Any) -> tuple[Any, str]:
    """Begin a move of web to h2 and wait until it is ready; return its stream and id."""
    call = fleet.stubs.move("web", "h2", **fields)
    responses = [await call.read(), await call.read()]
    assert [each.move.phase for each in responses] == [PREPARING, READY]
    return call, responses[0].move.move_id


def web_id(agent: Agent) -> int:
    return next(i for i, row in agent.tables[1].items() if row[3] == "web")


async def get_move(stubs: Stubs, move_id: str) -> types_pb2.Move:
    return (await stubs.moves.GetMove(pb.GetMoveRequest(move_id=move_id))).move


async def test_a_move_by_call_waits_until_it_is_called(fleet: Fleet) -> None:
    await populate(fleet.stubs)
    source, destination, _ = await agents(fleet)
    call, move_id = await ready(fleet, trigger=CALL)
    assert (await fleet.stubs.get("web")).host == "h1"
    assert list(source.transitions[1]) == list(destination.transitions[1]) == [web_id(source)]

    committed = await fleet.stubs.commit(move_id)

    assert committed.phase in (COMMITTED, SETTLED)
    assert committed.trigger == CALL
    assert await phases(call) == [COMMITTED, SETTLED]
    assert (await fleet.stubs.get("web")).host == "h2"
    again = await fleet.stubs.commit(move_id)
    assert again.phase == SETTLED


async def test_a_call_that_comes_early_waits_for_all_to_be_prepared(fleet: Fleet) -> None:
    await populate(fleet.stubs)
    _, _, slow = await agents(fleet)
    slow.answering.clear()
    call = fleet.stubs.move("web", "h2", trigger=CALL)
    move_id = (await call.read()).move.move_id

    committing = asyncio.ensure_future(fleet.stubs.commit(move_id))
    await until(lambda: len(slow.batches) == 2)
    assert (await get_move(fleet.stubs, move_id)).phase == PREPARING
    slow.answering.set()

    assert (await committing).phase in (COMMITTED, SETTLED)
    assert await phases(call) == [COMMITTED, SETTLED]


async def test_a_call_survives_control(fleet: Fleet) -> None:
    await populate(fleet.stubs)
    source, destination, slow = await agents(fleet)
    slow.answering.clear()
    move_id = (await fleet.stubs.move("web", "h2", trigger=CALL).read()).move.move_id
    committing = asyncio.ensure_future(fleet.stubs.commit(move_id))
    await until(lambda: len(slow.batches) == 2)

    async def is_called() -> bool:
        return (await get_move(fleet.stubs, move_id)).called

    await until(is_called)
    await fleet.stop()
    with pytest.raises(grpc.aio.AioRpcError, match="control is stopping"):
        await committing
    await fleet.start()
    for agent in (source, destination, slow):
        agent.stubs = fleet.stubs
        agent.answering.set()
        await fleet.agent(agent)

    async def is_settled() -> bool:
        return (await get_move(fleet.stubs, move_id)).phase == SETTLED

    await until(is_settled)


async def test_a_ready_move_is_ready_after_a_restart_too(fleet: Fleet) -> None:
    await populate(fleet.stubs)
    hosts = await agents(fleet)
    _, move_id = await ready(fleet, trigger=CALL)

    await fleet.stop()
    await fleet.start()
    for agent in hosts:
        agent.stubs = fleet.stubs
        await fleet.agent(agent)

    assert (await get_move(fleet.stubs, move_id)).phase == READY
    watch = fleet.stubs.moves.WatchMove(pb.WatchMoveRequest(move_id=move_id))
    assert (await watch.read()).move.phase == READY
    await fleet.stubs.commit(move_id)
    assert await phases(watch) == [COMMITTED, SETTLED]


async def test_life_at_the_destination_commits(fleet: Fleet) -> None:
    await populate(fleet.stubs)
    source, destination, third = await agents(fleet, reporting=True)
    call = fleet.stubs.move("web", "h2", trigger=LIFE)
    move = (await call.read()).move
    await source.report(web_id(source), move.epoch, Carried(3))
    assert (await call.read()).move.phase == READY

    # Not theirs to say, and of another move.
    await source.report(web_id(source), move.epoch, Alive())
    await third.report(web_id(source), move.epoch, Alive())
    await destination.report(web_id(source), move.epoch - 1, Alive())
    assert (await get_move(fleet.stubs, move.move_id)).phase == READY
    await destination.report(web_id(source), move.epoch, Alive())

    response = await call.read()
    assert response.move.phase == COMMITTED
    assert response.move.carried_connections == 3
    await source.report(web_id(source), move.epoch, Carried(5, is_final=True))
    (settled,) = await finish(call)
    assert (settled.move.phase, settled.move.carried_connections) == (SETTLED, 5)


async def test_life_needs_an_agent_that_watches(fleet: Fleet) -> None:
    await populate(fleet.stubs)
    await agents(fleet)

    async with refused(STATE, "trigger: the agent of host h2 does not watch for life"):
        await finish(fleet.stubs.move("web", "h2", trigger=LIFE))


async def test_connections_that_are_not_carried_are_a_warning(tmp_path: Path) -> None:
    async with running_fleet(tmp_path, prepare_bound_s=0.2, settle_bound_s=0.2) as fleet:
        await populate(fleet.stubs)
        await agents(fleet, reporting=True)

        responses = await finish(fleet.stubs.move("web", "h2"))

    assert [each.move.phase for each in responses] == [PREPARING, COMMITTED, SETTLED]
    assert [len(each.move.warnings) for each in responses] == [0, 1, 2]
    assert responses[1].move.warnings[0].startswith("host h1 has not carried")
    assert not responses[2].move.HasField("carried_connections")
    assert not any(each.lagging_hosts for each in responses)


@pytest.mark.parametrize("is_ready", [False, True])
async def test_abort_undoes_everything(fleet: Fleet, is_ready: bool) -> None:
    await populate(fleet.stubs)
    source, destination, third = await agents(fleet)
    before = await fleet.stubs.get("web")
    row = source.tables[1][web_id(source)]
    if is_ready:
        call, move_id = await ready(fleet, trigger=CALL)
    else:
        third.answering.clear()
        call = fleet.stubs.move("web", "h2")
        move_id = (await call.read()).move.move_id

    aborted = await fleet.stubs.abort(move_id, "no longer wanted")

    assert (aborted.phase, aborted.abort_reason) == (ABORTED, "no longer wanted")
    third.answering.set()
    (last,) = await finish(call)
    assert (last.move.phase, last.move.abort_reason) == (ABORTED, "no longer wanted")
    after = await fleet.stubs.get("web")
    assert (after.host, after.epoch) == (before.host, before.epoch)
    await until(lambda: 1 not in destination.tables)
    await until(lambda: source.transitions[1] == third.transitions[1] == {})
    assert source.tables[1][web_id(source)] == third.tables[1][web_id(source)] == row
    assert (await fleet.stubs.abort(move_id)).abort_reason == "no longer wanted"
    async with refused(STATE, f"move_id: {move_id} was aborted: no longer wanted"):
        await fleet.stubs.commit(move_id)
    await fleet.stubs.hosts.RemoveHost(hosts_pb.RemoveHostRequest(name="h2"))


async def test_no_epoch_is_used_twice(fleet: Fleet) -> None:
    await populate(fleet.stubs)
    source, _, _ = await agents(fleet)
    _, first = await ready(fleet, trigger=CALL)
    await fleet.stubs.abort(first)

    call, second = await ready(fleet, trigger=CALL)

    epochs = [(await get_move(fleet.stubs, each)).epoch for each in (first, second)]
    assert epochs == [2, 3]
    await fleet.stubs.commit(second)
    await phases(call)
    assert (await fleet.stubs.get("web")).epoch == 3
    await until(lambda: 1 not in source.tables)


async def test_what_has_committed_cannot_be_aborted(fleet: Fleet) -> None:
    await populate(fleet.stubs)
    await agents(fleet)
    move_id = (await finish(fleet.stubs.move("web", "h2")))[0].move.move_id

    async with refused(STATE, f"move_id: {move_id} has committed: blue/web is at h2"):
        await fleet.stubs.abort(move_id)
    async with refused(grpc.StatusCode.NOT_FOUND, "move_id: "):
        await fleet.stubs.abort("none")
    async with refused(grpc.StatusCode.NOT_FOUND, "move_id: "):
        await fleet.stubs.commit("none")
    async with refused(grpc.StatusCode.NOT_FOUND, "move_id: "):
        await finish(fleet.stubs.moves.WatchMove(pb.WatchMoveRequest(move_id="none")))


async def test_of_a_call_and_an_abort_at_once_one_wins(fleet: Fleet) -> None:
    await populate(fleet.stubs)
    await agents(fleet)
    for destination, source in (("h2", "h1"), ("h1", "h2"), ("h2", "h1")):
        call = fleet.stubs.move("web", destination, trigger=CALL)
        move_id = (await call.read()).move.move_id
        assert (await call.read()).move.phase == READY

        answers = await asyncio.gather(
            fleet.stubs.commit(move_id), fleet.stubs.abort(move_id), return_exceptions=True
        )

        last = (await finish(call))[-1].move
        refusals = [each for each in answers if isinstance(each, grpc.aio.AioRpcError)]
        assert [each.code() for each in refusals] == [STATE]
        is_at = destination if last.phase == SETTLED else source
        assert (await fleet.stubs.get("web")).host == is_at
        if is_at == source:
            await finish(fleet.stubs.move("web", destination))


@pytest.mark.parametrize("how", ["reports", "rejects"])
async def test_a_destination_that_refuses_leaves_the_machine_undisturbed(
    fleet: Fleet, how: str
) -> None:
    await populate(fleet.stubs)
    source, destination, third = await agents(fleet, reporting=True)
    third.answering.clear()
    if how == "rejects":
        destination.reject = "map location: full"
    call = fleet.stubs.move("web", "h2")
    move = (await call.read()).move
    if how == "reports":
        await destination.report(web_id(source), move.epoch, Refused("no room"))

    (aborted,) = await finish(call)

    assert aborted.move.phase == ABORTED
    said = {
        "reports": "host h2 refuses: no room",
        "rejects": "host h2 cannot hold it: map location: full",
    }
    assert aborted.move.abort_reason == said[how]
    assert (await fleet.stubs.get("web")).host == "h1"
    third.answering.set()
    await until(lambda: source.transitions[1] == third.transitions[1] == {})
    await until(lambda: 1 not in destination.tables)


async def test_a_destination_that_does_not_answer_is_not_committed_to(tmp_path: Path) -> None:
    async with running_fleet(tmp_path, prepare_bound_s=0.2) as fleet:
        await populate(fleet.stubs)
        _, destination, _ = await agents(fleet)
        destination.answering.clear()

        responses = await finish(fleet.stubs.move("web", "h2"))

        assert responses[-1].move.abort_reason == (
            "host h2 has not applied the preparation within 0.2 s"
        )
        assert (await fleet.stubs.get("web")).host == "h1"


async def test_a_trigger_that_does_not_come_undoes_the_move(fleet: Fleet) -> None:
    await populate(fleet.stubs)
    await agents(fleet)

    call, _ = await ready(fleet, trigger=CALL, ready_bound=Duration(seconds=1))

    (aborted,) = await finish(call)
    assert aborted.move.abort_reason == "no call has come in time"


async def test_a_dead_source_is_not_waited_for_and_has_no_transition(fleet: Fleet) -> None:
    await populate(fleet.stubs)
    source, destination, third = await agents(fleet)
    await fleet.leave(source)
    seen: list[dict[int, tuple[int, int, int]]] = []
    third.on_applied = lambda agent: seen.append(agent.transitions[1])

    responses = await finish(fleet.stubs.move("web", "h2", force=True))

    assert [each.move.phase for each in responses] == [PREPARING, COMMITTED, SETTLED]
    assert all(each.move.forced for each in responses)
    assert not any(seen)
    await until(lambda: web_id(third) in destination.tables[1])
    assert destination.tables[1] == third.tables[1]
    # When it comes back it is told at once, and has no part in the machine any more.
    await fleet.agent(source)
    await until(lambda: 1 not in source.tables)
    await fleet.leave(source)
    await fleet.stubs.hosts.RemoveHost(hosts_pb.RemoveHostRequest(name="h1"))


async def test_a_living_source_is_forced_only_when_the_caller_vouches(fleet: Fleet) -> None:
    await populate(fleet.stubs)
    await agents(fleet)

    async with refused(STATE, "force: the agent of host h1 is connected"):
        await finish(fleet.stubs.move("web", "h2", force=True))

    forced = fleet.stubs.move("web", "h2", force=True, source_is_dead=True)
    assert await phases(forced) == [PREPARING, COMMITTED, SETTLED]


@pytest.mark.parametrize(
    ("machine", "fields", "begins"),
    [
        ("web", {"source_is_dead": True}, "source_is_dead: "),
        ("web", {"force": True, "trigger": LIFE}, "trigger: "),
        ("web", {"trigger": 9}, "trigger: "),
        ("web", {"ready_bound": Duration(nanos=5)}, "ready_bound: "),
        ("new", {"force": True}, "force: "),
        ("new", {"trigger": LIFE}, "trigger: "),
    ],
)
async def test_what_makes_no_sense_is_refused(
    fleet: Fleet, machine: str, fields: dict[str, Any], begins: str
) -> None:
    await populate(fleet.stubs)
    await fleet.stubs.machine("blue/new")
    await agents(fleet, reporting=True)

    async with refused(grpc.StatusCode.INVALID_ARGUMENT, begins):
        await finish(fleet.stubs.move(machine, "h2", **fields))


async def test_a_placement_by_call_waits_for_its_destination(fleet: Fleet) -> None:
    await populate(fleet.stubs)
    await fleet.stubs.machine("blue/new")
    _, destination, _ = await agents(fleet)

    call = fleet.stubs.move("new", "h2", trigger=CALL)

    move_id = (await call.read()).move.move_id
    assert (await call.read()).move.phase == READY
    assert destination.names(1) == ["db", "web"]
    await fleet.stubs.commit(move_id)
    assert await phases(call) == [COMMITTED, SETTLED]


async def test_transitions_say_what_commits_them(fleet: Fleet) -> None:
    await populate(fleet.stubs)
    source, destination, _ = await agents(fleet, reporting=True)

    call = fleet.stubs.move("web", "h2", trigger=LIFE)
    move = (await call.read()).move

    await until(lambda: len(destination.batches) == 2)
    (table,) = [table for part in destination.batches[1] for table in part.transitions]
    assert list(table.triggers) == [LIFE]
    await fleet.stubs.abort(move.move_id)
    await until(lambda: source.transitions[1] == {})
