"""The rows that hosts get of floating addresses."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest
from control_fleet import Agent, Fleet, finish, id_of, populate, until

from netagent.api.control.v1 import machine_service_pb2 as machines_pb
from netagent.control import keys
from netagent.control.records import (
    MachineRecord,
    MoveRecord,
    encode_address,
    encode_host,
    encode_machine,
    encode_move,
    make_host,
)
from netagent.control.view import View
from netagent.model.addresses import Fleet as Parameters
from netagent.model.addresses import make_id, random_prefix
from netagent.model.fleet import (
    ASSIGNMENT_MAX,
    EPOCH_MAX,
    Endpoint,
    FloatingAddress,
    Identity,
    Machine,
    Move,
    MovePhase,
    floating_epoch,
)
from netagent.store.contract import Item


async def test_rows_are_those_of_the_holder_under_an_epoch_of_both(fleet: Fleet) -> None:
    stubs = fleet.stubs
    one, two = await populate(stubs)
    vip = id_of((await stubs.address("blue/vip")).address)
    agents = [await fleet.agent(host) for host in ("h1", "h2")]
    assert all(vip not in agent.tables[1] for agent in agents)

    for assignment, holder, name in ((1, one, "one"), (2, two, "two"), (3, one, "one")):
        response = await stubs.assign("vip", name)
        assert not response.lagging_hosts
        assert not response.away_hosts
        for agent in agents:
            locator, identity, epoch, own_name = agent.tables[1][vip]
            assert (locator, identity) == agent.tables[1][holder][:2]
            assert (epoch, own_name) == (floating_epoch(assignment, 1), "vip")
            assert agent.holders[vip] == holder
    await stubs.release("vip")
    assert all(vip not in agent.tables[1] for agent in agents)
    (removed,) = [p.locations[0] for p in agents[0].batches[-1] if p.locations]
    assert list(removed.removed_ids) == [vip]
    assert list(removed.removed_epochs) == [floating_epoch(3, 1)]


async def test_a_move_takes_the_addresses_of_the_machine_along_in_the_same_batches(
    fleet: Fleet,
) -> None:
    stubs = fleet.stubs
    one, _ = await populate(stubs)
    vips = [id_of((await stubs.address(f"blue/vip-{n}", "one")).address) for n in (1, 2)]
    await stubs.machine("blue/watched", "h3")
    for host in ("h1", "h2"):
        await fleet.agent(host)
    watcher = await fleet.agent("h3")

    await finish(stubs.move("one", "h2"))

    await until(lambda: len(watcher.batches) == 4)
    prepare, commit, settle = watcher.batches[1:]
    ids = sorted([one, *vips])
    moving = [part.transitions[0] for part in prepare if part.transitions]
    assert [sorted(table.ids) for table in moving] == [ids]
    epochs = dict(zip(moving[0].ids, moving[0].epochs, strict=True))
    assert epochs == {one: 2, **{vip: floating_epoch(1, 2) for vip in vips}}
    assert len(set(zip(moving[0].sources, moving[0].destinations, strict=True))) == 1
    located = [part.locations[0] for part in commit if part.locations]
    assert [sorted(table.ids) for table in located] == [ids]
    assert dict(zip(located[0].ids, located[0].epochs, strict=True)) == epochs
    assert len(set(located[0].locators)) == 1
    gone = [part.transitions[0] for part in settle if part.transitions]
    assert [sorted(table.removed_ids) for table in gone] == [ids]


async def test_an_address_that_fails_over_while_its_holder_moves_stays_where_it_went(
    fleet: Fleet,
) -> None:
    stubs = fleet.stubs
    one, two = await populate(stubs)
    vip = id_of((await stubs.address("blue/vip", "one")).address)
    watcher = await fleet.agent("h3")
    await stubs.machine("blue/watched", "h3")
    for host in ("h1", "h2"):
        await fleet.agent(host)
    move = stubs.move("one", "h2", trigger=2)
    while (response := await move.read()).move.phase != 5:
        pass
    assert watcher.transitions[1].keys() == {one, vip}

    await stubs.assign("vip", "two")
    assert watcher.transitions[1].keys() == {one}
    assert watcher.tables[1][vip][:2] == watcher.tables[1][two][:2]
    await stubs.commit(response.move.move_id)
    await finish(move)

    await until(lambda: watcher.transitions[1] == {})
    assert watcher.tables[1][vip][2] == floating_epoch(2, 1)
    assert watcher.tables[1][vip][0] == watcher.tables[1][two][0]


async def test_an_address_given_to_a_machine_on_the_move_goes_along(fleet: Fleet) -> None:
    stubs = fleet.stubs
    one, _ = await populate(stubs)
    vip = id_of((await stubs.address("blue/vip")).address)
    watcher = await fleet.agent("h2")
    await fleet.agent("h1")
    move = stubs.move("one", "h2", trigger=2)
    while (response := await move.read()).move.phase != 5:
        pass
    await stubs.assign("vip", "one")
    assert watcher.transitions[1].keys() == {one, vip}
    assert watcher.transitions[1][vip][2] == floating_epoch(1, 2)
    await stubs.abort(response.move.move_id)
    await until(lambda: watcher.transitions[1] == {})
    assert watcher.tables[1][vip][2] == floating_epoch(1, 1)


async def test_labels_of_the_holder_are_those_of_the_address(fleet: Fleet) -> None:
    stubs = fleet.stubs
    one, _ = await populate(stubs)
    vip = id_of((await stubs.address("blue/vip", "one")).address)
    agent = await fleet.agent("h1")
    before = agent.tables[1][one][1]
    request = machines_pb.UpdateMachineLabelsRequest(machine="one", labels={"app": "other"})
    await stubs.machines.UpdateMachineLabels(request)
    await until(lambda: agent.tables[1][one][1] != before)
    assert agent.tables[1][vip][1] == agent.tables[1][one][1]


@pytest.mark.parametrize("change", ["assign", "release", "move"])
async def test_agents_learn_across_a_restart_of_control(fleet: Fleet, change: str) -> None:
    """An agent that was away resumes with the difference, whichever record it follows from."""
    one, two = await populate(fleet.stubs)
    vip = id_of((await fleet.stubs.address("blue/vip", "one")).address)
    await fleet.stubs.machine("blue/three", "h3")
    await fleet.agent("h1")
    await fleet.agent("h2")
    away = await fleet.agent("h3")
    await fleet.leave(away)
    if change == "assign":
        await fleet.stubs.assign("vip", "two")
    elif change == "release":
        await fleet.stubs.release("vip")
    else:
        await finish(fleet.stubs.move("one", "h2"))
    await fleet.stop()
    await fleet.start()

    back = Agent(fleet.stubs, "h3", away.revision, fleet_id=away.fleet_id, tables=away.tables)
    back.transitions, back.holders = away.transitions, away.holders
    await fleet.agent(back)

    assert back.is_snapshot is False
    holder = {"assign": two, "release": None, "move": one}[change]
    if holder is None:
        assert vip not in back.tables[1]
        return
    epoch = {"assign": floating_epoch(2, 1), "move": floating_epoch(1, 2)}[change]
    assert back.tables[1][vip][0] == back.tables[1][holder][0]
    assert (back.tables[1][vip][2], back.holders[vip]) == (epoch, holder)


def test_a_view_that_is_loaded_dates_rows_by_the_newest_record_that_they_follow_from() -> None:
    """An agent that resumes gets what is newer than what it holds, and nothing else."""
    fleet = Parameters("f", random_prefix())
    hosts = [
        make_host(fleet, f"h{n}", 1, n, bytes([n]) * 32, Endpoint(IPv4Address(f"192.0.2.{n}"), 1))
        for n in (1, 2)
    ]
    one, vip = make_id(1, 1, 1), make_id(1, 1, 9)
    machine = Machine("blue", "one", one, Identity(9), {}, "h1", 4)
    move = Move("m1", "blue/one", one, "h1", "h2", 5, MovePhase.PREPARING)
    address = FloatingAddress("blue", "vip", vip, "one", 3)

    def loaded(*revisions: int) -> tuple[int, int]:
        of_machine, of_move, of_address = revisions
        values = {
            **{keys.host_key(host.name): (encode_host(host), 1) for host in hosts},
            keys.address_key("blue/vip"): (encode_address(address), of_address),
            keys.machine_key("blue/one"): (
                encode_machine(MachineRecord(machine, "m1")),
                of_machine,
            ),
            keys.move_key("m1"): (encode_move(MoveRecord(move)), of_move),
        }
        items = [Item(key, value, 1, revision, 1) for key, (value, revision) in values.items()]
        view = View(fleet)
        view.load(tuple(sorted(items, key=lambda item: (b"host" not in item.key, item.key))))
        location, moving = view.table(1).locations[vip], view.table(1).transitions[vip]
        assert location.location.epoch == floating_epoch(3, 4)
        assert moving.transition.epoch == floating_epoch(3, 5)
        return location.revision, moving.revision

    assert loaded(5, 6, 9) == (9, 9)
    assert loaded(7, 6, 2) == (7, 6)


def test_the_greatest_epochs_fit_where_they_are_kept() -> None:
    greatest = floating_epoch(ASSIGNMENT_MAX, EPOCH_MAX)
    assert greatest == (1 << 63) - 1
    assert floating_epoch(1, EPOCH_MAX) < floating_epoch(2, 0)
