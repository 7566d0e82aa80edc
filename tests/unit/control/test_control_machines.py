"""NetworkService and MachineService over gRPC."""

from __future__ import annotations

import asyncio
from ipaddress import IPv6Address
from typing import Any

import grpc
import pytest
from control_fleet import Fleet, Stubs, refused

from netagent.api.control.v1 import machine_service_pb2 as pb
from netagent.api.control.v1 import network_service_pb2 as networks_pb

INVALID = grpc.StatusCode.INVALID_ARGUMENT
NOT_FOUND = grpc.StatusCode.NOT_FOUND


async def paths(stubs: Stubs, **filters: Any) -> list[str]:
    response = await stubs.machines.ListMachines(pb.ListMachinesRequest(**filters))
    return [f"{machine.network}/{machine.name}" for machine in response.machines]


async def update(stubs: Stubs, machine: str, etag: str = "", **labels: str) -> Any:
    request = pb.UpdateMachineLabelsRequest(machine=machine, labels=labels, etag=etag)
    return (await stubs.machines.UpdateMachineLabels(request)).machine


async def test_networks_are_numbered_listed_and_deleted(stubs: Stubs) -> None:
    blue, red = await stubs.network("blue"), await stubs.network("red")
    assert (blue.number, red.number) == (1, 2)
    async with refused(grpc.StatusCode.ALREADY_EXISTS, "name: "):
        await stubs.network("blue")

    await stubs.networks.DeleteNetwork(networks_pb.DeleteNetworkRequest(name="blue"))

    async with refused(NOT_FOUND, "name: "):
        await stubs.networks.GetNetwork(networks_pb.GetNetworkRequest(name="blue"))
    assert (await stubs.network("blue")).number == 3
    listed = await stubs.networks.ListNetworks(networks_pb.ListNetworksRequest())
    assert [network.name for network in listed.networks] == ["blue", "red"]


async def test_a_network_with_machines_stays(stubs: Stubs) -> None:
    await stubs.network("blue")
    await stubs.machine("blue/web")
    request = networks_pb.DeleteNetworkRequest(name="blue")

    async with refused(grpc.StatusCode.FAILED_PRECONDITION, "name: network blue has a machine"):
        await stubs.networks.DeleteNetwork(request)
    found = await stubs.networks.GetNetwork(networks_pb.GetNetworkRequest(name="blue"))
    assert found.network.machine_count == 1
    await stubs.delete("web")

    await stubs.networks.DeleteNetwork(request)


async def test_nothing_of_a_deleted_network_stays_in_the_store(fleet: Fleet) -> None:
    stubs = fleet.stubs
    await stubs.network("blue")
    for number in range(140):
        await stubs.machine(f"blue/m{number}", labels=str(number))
        await stubs.delete(f"m{number}")

    await stubs.networks.DeleteNetwork(networks_pb.DeleteNetworkRequest(name="blue"))
    await fleet.stop()

    from netagent.control.keys import ROOT
    from netagent.store.sqlite import SqliteStore

    store = await SqliteStore.open(fleet.config.state_dir / "store.sqlite")
    left = [item.key[len(ROOT) :] for item in (await store.range(ROOT)).items]
    await store.close()
    assert left == [b"cursor/identity", b"cursor/network", b"fleet"]


async def test_a_machine_gets_an_address_for_life(stubs: Stubs) -> None:
    await stubs.host(1, region=3)
    network = await stubs.network("blue")

    machine = await stubs.machine("blue/web", "h1", app="web")

    low = int(IPv6Address(machine.address)) & (1 << 64) - 1
    assert low == network.number << 32 | 3 << 20 | 1
    assert (machine.host, machine.epoch, dict(machine.labels)) == ("h1", 1, {"app": "web"})
    assert machine.mac.startswith("02:6e:")
    assert await stubs.get("blue/web") == machine
    assert await stubs.get("web") == machine


async def test_a_freed_address_is_not_given_out_again_soon(stubs: Stubs) -> None:
    await stubs.network("blue")
    before = await stubs.machine("blue/web")
    await stubs.delete("web")

    after = await stubs.machine("blue/web")

    assert after.address != before.address


async def test_machines_at_once_get_addresses_of_their_own(stubs: Stubs) -> None:
    networks = [f"n{number}" for number in range(40)]
    await asyncio.gather(*(stubs.network(network) for network in networks))

    machines = await asyncio.gather(
        *(
            stubs.machine(f"{network}/m{number}", label=f"{number}")
            for network in networks
            for number in range(5)
        )
    )

    assert len({machine.address for machine in machines}) == 200
    assert len({machine.identity for machine in machines}) == 200


async def test_of_one_name_asked_for_at_once_one_is_made(stubs: Stubs) -> None:
    await stubs.network("blue")

    answers = await asyncio.gather(
        *(stubs.machine("blue/web") for _ in range(10)), return_exceptions=True
    )

    assert sum(not isinstance(answer, Exception) for answer in answers) == 1
    codes = {answer.code() for answer in answers if isinstance(answer, grpc.aio.AioRpcError)}
    assert codes == {grpc.StatusCode.ALREADY_EXISTS}


async def test_one_identity_for_each_label_set_of_a_network(stubs: Stubs) -> None:
    await stubs.network("blue")
    await stubs.network("red")

    first = await stubs.machine("blue/a", app="web", tier="1")
    same = await stubs.machine("blue/b", tier="1", app="web")
    other = await stubs.machine("blue/c", app="db")
    elsewhere = await stubs.machine("red/a", app="web", tier="1")

    assert first.identity == same.identity
    assert len({first.identity, other.identity, elsewhere.identity, 0, 1}) == 5


async def test_labels_are_replaced_and_with_them_the_identity(stubs: Stubs) -> None:
    await stubs.network("blue")
    before = await stubs.machine("blue/a", app="web")
    other = await stubs.machine("blue/b", app="db")

    after = await update(stubs, "a", app="db")

    assert after.identity == other.identity
    assert after.address == before.address
    assert await update(stubs, "a", app="db") == after
    async with refused(grpc.StatusCode.ABORTED, "etag: "):
        await update(stubs, "a", before.etag, app="x")
    assert (await update(stubs, "a", after.etag)).labels == {}


@pytest.mark.parametrize(
    ("fields", "code", "begins"),
    [
        pytest.param({"network": ""}, INVALID, "network: ", id="no-network"),
        pytest.param({"network": "green"}, NOT_FOUND, "network: ", id="unknown-network"),
        pytest.param({"name": ""}, INVALID, "name: ", id="no-name"),
        pytest.param({"name": "-web"}, INVALID, "name: ", id="hyphen"),
        pytest.param({"name": "web.example"}, INVALID, "name: ", id="dot"),
        pytest.param({"host": "h9"}, NOT_FOUND, "host: ", id="unknown-host"),
        pytest.param({"host": "H"}, INVALID, "host: ", id="bad-host"),
        pytest.param({"labels": {"": "x"}}, INVALID, "labels[]: ", id="empty-key"),
        pytest.param({"labels": {"a b": "x"}}, INVALID, "labels[a b]: ", id="space-in-key"),
        pytest.param({"labels": {"a": "x y"}}, INVALID, "labels[a]: ", id="space-in-value"),
        pytest.param({"labels": {"a": "x" * 64}}, INVALID, "labels[a]: ", id="long-value"),
        pytest.param({"labels": {"a": "x\n"}}, INVALID, "labels[a]: ", id="newline"),
        pytest.param(
            {"labels": {str(n): "" for n in range(65)}}, INVALID, "labels: ", id="many-labels"
        ),
    ],
)
async def test_bad_machines_are_refused_whole(
    stubs: Stubs, fields: dict[str, Any], code: grpc.StatusCode, begins: str
) -> None:
    await stubs.network("blue")
    request = pb.CreateMachineRequest(**{"network": "blue", "name": "web", **fields})

    async with refused(code, begins):
        await stubs.machines.CreateMachine(request)

    assert await paths(stubs) == []


async def test_a_bare_name_serves_while_it_is_unambiguous(stubs: Stubs) -> None:
    await stubs.network("blue")
    await stubs.network("red")
    await stubs.machine("blue/web")
    assert (await stubs.get("web")).network == "blue"

    await stubs.machine("red/web")

    async with refused(INVALID, "machine: web may be blue/web, red/web"):
        await stubs.get("web")
    await stubs.delete("blue/web")
    assert (await stubs.get("web")).network == "red"


@pytest.mark.parametrize(
    ("machine", "code"),
    [
        ("", INVALID),
        ("/", INVALID),
        ("blue/", INVALID),
        ("/web", INVALID),
        ("a/b/c", INVALID),
        ("blue/nobody", NOT_FOUND),
        ("nobody", NOT_FOUND),
    ],
)
async def test_machines_that_are_not_there(
    stubs: Stubs, machine: str, code: grpc.StatusCode
) -> None:
    await stubs.network("blue")

    async with refused(code, "machine: "):
        await stubs.get(machine)
    async with refused(code, "machine: "):
        await stubs.delete(machine)
    async with refused(code, "machine: "):
        await update(stubs, machine)


async def test_deleting_takes_an_etag(stubs: Stubs) -> None:
    await stubs.network("blue")
    before = await stubs.machine("blue/web")
    after = await update(stubs, "web", app="web")

    async with refused(grpc.StatusCode.ABORTED, "etag: "):
        await stubs.delete("web", before.etag)
    await stubs.delete("web", after.etag)

    async with refused(NOT_FOUND, "machine: "):
        await stubs.delete("web", after.etag)


async def test_lists_are_by_network_then_name_and_filtered(stubs: Stubs) -> None:
    await stubs.host(1)
    await stubs.host(2)
    for network in ("a", "a-b"):
        await stubs.network(network)
    for path, host in (("a-b/x", "h1"), ("a/y", "h2"), ("a/x", "h1"), ("a/z", "")):
        await stubs.machine(path, host)

    assert await paths(stubs) == ["a/x", "a/y", "a/z", "a-b/x"]
    assert await paths(stubs, network="a") == ["a/x", "a/y", "a/z"]
    assert await paths(stubs, host="h1") == ["a/x", "a-b/x"]
    assert await paths(stubs, host="h1", network="a") == ["a/x"]
    async with refused(NOT_FOUND, "network: "):
        await paths(stubs, network="nowhere")
    async with refused(NOT_FOUND, "host: "):
        await paths(stubs, host="nobody")


@pytest.mark.parametrize("filters", [{}, {"host": "h1"}, {"network": "a"}])
async def test_pages_hold_what_stays_exactly_once(stubs: Stubs, filters: dict[str, str]) -> None:
    await stubs.host(1)
    await stubs.network("a")
    for number in range(9):
        await stubs.machine(f"a/m{number}", "h1")

    first = await stubs.machines.ListMachines(pb.ListMachinesRequest(page_size=4, **filters))
    await stubs.delete("m3")
    await stubs.delete("m4")
    rest = await paths(stubs, page_token=first.next_page_token, **filters)

    assert [machine.name for machine in first.machines] == ["m0", "m1", "m2", "m3"]
    assert rest == ["a/m5", "a/m6", "a/m7", "a/m8"]


async def test_a_page_token_of_another_query_is_refused(stubs: Stubs) -> None:
    await stubs.network("a")
    await stubs.machine("a/x")
    await stubs.machine("a/y")
    page = await stubs.machines.ListMachines(pb.ListMachinesRequest(page_size=1))

    async with refused(INVALID, "page_token: "):
        await paths(stubs, network="a", page_token=page.next_page_token)
    async with refused(INVALID, "page_size: "):
        await paths(stubs, page_size=5000)
