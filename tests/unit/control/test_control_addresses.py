"""AddressService over gRPC, and the rows that hosts get of floating addresses."""

from __future__ import annotations

import asyncio
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any

import grpc
import pytest
from control_fleet import Agent, Fleet, Stubs, refused, running_fleet, until

from netagent.api.control.v1 import address_service_pb2 as pb
from netagent.api.control.v1 import machine_service_pb2 as machines_pb
from netagent.api.control.v1 import network_service_pb2 as networks_pb
from netagent.control import address_plans, keys, move_begin
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

INVALID = grpc.StatusCode.INVALID_ARGUMENT
NOT_FOUND = grpc.StatusCode.NOT_FOUND
EXISTS = grpc.StatusCode.ALREADY_EXISTS
ABORTED = grpc.StatusCode.ABORTED
EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED


async def populate(stubs: Stubs, hosts: int = 3) -> tuple[int, int]:
    """Hosts, one machine on each of the first two; return the machines' ids."""
    for number in range(1, hosts + 1):
        await stubs.host(number)
    await stubs.network("blue")
    one = await stubs.machine("blue/one", "h1", app="one")
    two = await stubs.machine("blue/two", "h2", app="two")
    return id_of(one.address), id_of(two.address)


def id_of(address: str) -> int:
    return int(IPv6Address(address)) & ((1 << 64) - 1)


async def listed(stubs: Stubs, **filters: Any) -> list[tuple[str, str, str, int]]:
    response = await stubs.addresses.ListAddresses(pb.ListAddressesRequest(**filters))
    return [(f"{a.network}/{a.name}", a.holder, a.host, a.epoch) for a in response.addresses]


async def delete(stubs: Stubs, address: str, etag: str = "") -> None:
    await stubs.addresses.DeleteAddress(pb.DeleteAddressRequest(address=address, etag=etag))


async def finish(call: Any) -> list[Any]:
    responses = []
    async with asyncio.timeout(10):
        while (response := await call.read()) is not grpc.aio.EOF:
            responses.append(response)
    return responses


async def test_an_address_is_made_assigned_released_and_deleted(stubs: Stubs) -> None:
    await populate(stubs)
    made = await stubs.address("blue/vip")
    machine = await stubs.get("one")
    assert made.address not in (machine.address, "")
    assert id_of(made.address) >> 32 == id_of(machine.address) >> 32
    assert await listed(stubs) == [("blue/vip", "", "", 0)]

    assigned = (await stubs.assign("blue/vip", "one")).address
    assert (assigned.holder, assigned.host, assigned.epoch) == ("blue/one", "h1", 1)
    assert assigned.address == made.address
    assert (await stubs.assign("vip", "blue/two")).address.epoch == 2
    again = await stubs.assign(made.address, "two")
    assert (again.address.epoch, again.address.host) == (2, "h2")
    assert (await stubs.release("vip")).address.holder == ""
    assert await listed(stubs, network="blue") == [("blue/vip", "", "", 3)]
    assert (await stubs.release("vip")).address.epoch == 3

    await delete(stubs, "vip")
    assert await listed(stubs) == []
    assert (await stubs.address("blue/vip")).address != made.address


async def test_a_first_holder_can_be_named(stubs: Stubs) -> None:
    await populate(stubs)
    made = await stubs.address("blue/vip", "one")
    assert (made.holder, made.host, made.epoch) == ("blue/one", "h1", 1)


async def test_one_name_is_one_thing(stubs: Stubs) -> None:
    await populate(stubs)
    await stubs.address("blue/vip")
    async with refused(EXISTS, "name: floating address blue/vip exists already"):
        await stubs.address("blue/vip")
    async with refused(EXISTS, "name: blue/one is a machine"):
        await stubs.address("blue/one")
    async with refused(EXISTS, "name: blue/vip is a floating address"):
        await stubs.machine("blue/vip", "h1")
    async with refused(NOT_FOUND, "machine: blue/vip is a floating address, no machine"):
        await stubs.get("blue/vip")
    await stubs.network("red")
    await stubs.address("red/vip")
    async with refused(INVALID, "address: vip may be blue/vip, red/vip"):
        await stubs.assign("vip", "blue/one")


async def test_what_cannot_be_is_refused(stubs: Stubs) -> None:
    await populate(stubs)
    await stubs.network("red")
    await stubs.machine("red/three", "h3")
    vip = await stubs.address("blue/vip")
    async with refused(INVALID, "machine: red/three is not of network blue"):
        await stubs.assign("vip", "red/three")
    async with refused(NOT_FOUND, "machine: there is no machine blue/three"):
        await stubs.assign("vip", "three")
    async with refused(NOT_FOUND, "address: there is no floating address vop"):
        await stubs.assign("vop", "one")
    own = (await stubs.get("one")).address
    async with refused(NOT_FOUND, f"address: {own} is machine blue/one's own"):
        await stubs.assign(own, "one")
    async with refused(INVALID, "address: fe80::1 is not within the fleet's prefix"):
        await stubs.release("fe80::1")
    async with refused(INVALID, "address: '1:2' is no IPv6 address"):
        await stubs.release("1:2")
    async with refused(NOT_FOUND, "network: there is no network green"):
        await stubs.address("green/vip")
    async with refused(INVALID, "name: "):
        await stubs.address("blue/-")
    async with refused(INVALID, "page_token: "):
        await listed(stubs, page_token="x")
    await stubs.assign("vip", "one")
    async with refused(ABORTED, "etag: floating address blue/vip has changed"):
        await stubs.assign("vip", "two", etag=vip.etag)
    async with refused(ABORTED, "etag: "):
        await delete(stubs, "vip", etag=vip.etag)


async def test_of_two_that_take_over_at_once_one_succeeds(stubs: Stubs) -> None:
    await populate(stubs)
    await stubs.machine("blue/three", "h3")
    await stubs.address("blue/vip", "one")

    results = await asyncio.gather(
        *(stubs.assign("vip", machine, expected="one") for machine in ("two", "blue/three")),
        return_exceptions=True,
    )

    (lost,) = (one for one in results if isinstance(one, grpc.aio.AioRpcError))
    assert lost.code() is ABORTED
    (((_, holder, _, epoch)),) = await listed(stubs)
    assert lost.details() == (f"expected_holder: {holder} has blue/vip now, not blue/one")
    assert epoch == 2
    async with refused(ABORTED, f"expected_holder: {holder} has blue/vip now"):
        await stubs.release("vip", expected="one")
    await stubs.release("vip")
    async with refused(ABORTED, "expected_holder: nobody has blue/vip now"):
        await stubs.assign("vip", "one", expected="blue/two")


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


async def test_a_machine_that_is_deleted_lets_its_addresses_go(fleet: Fleet) -> None:
    stubs = fleet.stubs
    one, two = await populate(stubs)
    vip = id_of((await stubs.address("blue/vip", "one")).address)
    agent = await fleet.agent("h2")
    assert vip in agent.tables[1]

    await stubs.delete("one")

    await until(lambda: one not in agent.tables[1])
    assert vip not in agent.tables[1]
    assert await listed(stubs) == [("blue/vip", "", "", 2)]
    await stubs.machine("blue/one", "h1")
    assert await listed(stubs) == [("blue/vip", "", "", 2)]
    await stubs.assign("vip", "two")
    assert agent.tables[1][vip][0] == agent.tables[1][two][0]


async def test_an_address_is_not_given_to_a_machine_that_is_deleted_meanwhile(
    stubs: Stubs,
) -> None:
    await populate(stubs)
    await stubs.address("blue/vip")
    for _ in range(5):
        await asyncio.gather(
            stubs.assign("vip", "one"), stubs.delete("one"), return_exceptions=True
        )
        ((_, holder, _, _),) = await listed(stubs)
        assert holder == ""
        await stubs.machine("blue/one", "h1")


async def test_a_network_with_floating_addresses_stays(stubs: Stubs) -> None:
    await stubs.network("blue")
    await stubs.address("blue/vip")
    request = networks_pb.DeleteNetworkRequest(name="blue")
    async with refused(
        grpc.StatusCode.FAILED_PRECONDITION, "name: network blue has floating addresses"
    ):
        await stubs.networks.DeleteNetwork(request)
    await delete(stubs, "vip")
    await stubs.networks.DeleteNetwork(request)


async def test_lists_come_in_pages(stubs: Stubs) -> None:
    await stubs.network("blue")
    await stubs.network("red")
    for path in ("blue/a", "blue/b", "red/a"):
        await stubs.address(path)
    first = await stubs.addresses.ListAddresses(pb.ListAddressesRequest(page_size=2))
    rest = await listed(stubs, page_token=first.next_page_token)
    assert [one.name for one in first.addresses] == ["a", "b"]
    assert [name for name, *_ in rest] == ["red/a"]
    assert [name for name, *_ in await listed(stubs, network="blue")] == ["blue/a", "blue/b"]


async def test_an_assignment_names_who_lags_and_who_is_away(tmp_path: Path) -> None:
    async with running_fleet(tmp_path, settle_bound_s=0.3) as fleet:
        stubs = fleet.stubs
        await populate(stubs)
        await stubs.machine("blue/three", "h3")
        await stubs.address("blue/vip", "one")
        lagging = await fleet.agent("h2")
        await fleet.agent("h3")
        lagging.answering.clear()

        response = await stubs.assign("vip", "two")

        assert list(response.lagging_hosts) == ["h2"]
        assert list(response.away_hosts) == ["h1"]
        assert response.elapsed.ToNanoseconds() >= 300_000_000
        lagging.answering.set()
        again = await stubs.assign("vip", "two")
        assert not again.lagging_hosts
        await fleet.leave(lagging)


async def test_an_assignment_does_not_wait_for_a_host_that_leaves(fleet: Fleet) -> None:
    stubs = fleet.stubs
    await populate(stubs)
    await stubs.address("blue/vip", "one")
    lagging = await fleet.agent("h2")
    lagging.answering.clear()
    assigning = asyncio.ensure_future(stubs.assign("vip", "two"))
    await until(lambda: len(lagging.batches) == 2)
    await fleet.leave(lagging)
    async with asyncio.timeout(5):
        response = await assigning
    assert not response.lagging_hosts
    assert list(response.away_hosts) == ["h1", "h2"]


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


async def test_a_machine_has_so_many_addresses_and_no_more(
    stubs: Stubs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(address_plans, "HELD_MAX", 2)
    await populate(stubs)
    for name in ("a", "b"):
        await stubs.address(f"blue/{name}", "one")
    async with refused(EXHAUSTED, "machine: blue/one has 2 floating addresses already"):
        await stubs.address("blue/c", "one")
    await stubs.address("blue/c", "two")
    async with refused(EXHAUSTED, "machine: blue/one has 2 floating addresses already"):
        await stubs.assign("blue/c", "one")
    await stubs.delete("one")
    assert [holder for _, holder, _, _ in await listed(stubs)] == ["", "", "blue/two"]


async def test_epochs_end_before_they_do_not_fit(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    stubs = fleet.stubs
    monkeypatch.setattr(address_plans, "ASSIGNMENT_MAX", 1)
    await populate(stubs)
    await stubs.address("blue/vip", "one")
    async with refused(EXHAUSTED, "address: blue/vip has been assigned 1 times"):
        await stubs.release("vip")
    monkeypatch.setattr(move_begin, "EPOCH_MAX", 1)
    await fleet.agent("h2")
    async with refused(EXHAUSTED, "machine: blue/one has been moved 1 times"):
        await stubs.move("one", "h2").read()


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
