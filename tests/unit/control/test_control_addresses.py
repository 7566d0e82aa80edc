"""AddressService over gRPC."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest
from control_fleet import Fleet, Stubs, id_of, populate, refused, running_fleet, until

from netagent.api.control.v1 import address_service_pb2 as pb
from netagent.api.control.v1 import network_service_pb2 as networks_pb
from netagent.control import address_plans, move_begin

INVALID = grpc.StatusCode.INVALID_ARGUMENT
NOT_FOUND = grpc.StatusCode.NOT_FOUND
EXISTS = grpc.StatusCode.ALREADY_EXISTS
ABORTED = grpc.StatusCode.ABORTED
EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED


async def listed(stubs: Stubs, **filters: Any) -> list[tuple[str, str, str, int]]:
    response = await stubs.addresses.ListAddresses(pb.ListAddressesRequest(**filters))
    return [(f"{a.network}/{a.name}", a.holder, a.host, a.epoch) for a in response.addresses]


async def delete(stubs: Stubs, address: str, etag: str = "") -> None:
    await stubs.addresses.DeleteAddress(pb.DeleteAddressRequest(address=address, etag=etag))


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
