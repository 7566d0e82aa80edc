"""HostService over gRPC: registration, its bad inputs, removal."""

from __future__ import annotations

import asyncio
from ipaddress import IPv6Address, IPv6Network
from pathlib import Path
from typing import Any

import grpc
import pytest
from control_fleet import Stubs, key_of, refused, running_fleet

from netagent.api.control.v1 import host_service_pb2 as pb
from netagent.api.types.v1.types_pb2 import Endpoint

INVALID = grpc.StatusCode.INVALID_ARGUMENT
EXISTS = grpc.StatusCode.ALREADY_EXISTS
PRIME = (1 << 255) - 19


async def names(stubs: Stubs) -> list[str]:
    return [host.name for host in (await stubs.hosts.ListHosts(pb.ListHostsRequest())).hosts]


async def test_a_host_gets_its_number_address_and_locator(stubs: Stubs) -> None:
    request = pb.RegisterHostRequest(
        name="h1",
        region=7,
        public_key=key_of(1),
        endpoint=Endpoint(address="192.0.2.1", port=51820),
    )

    response = await stubs.hosts.RegisterHost(request)

    host, prefix = response.host, IPv6Network(response.fleet.prefix)
    assert (host.name, host.region, host.number) == ("h1", 7, 1)
    assert IPv6Address(host.address) == prefix[7 << 20 | 1]
    assert host.locator.startswith("fc1a:7:1:")
    assert not host.connected
    assert await stubs.hosts.RegisterHost(request) == response
    assert await stubs.connected("h1") == host


async def test_the_endpoint_may_change_and_the_old_one_is_free(stubs: Stubs) -> None:
    before = await stubs.host(1)

    after = await stubs.host(1, endpoint=Endpoint(address="2001:db8::5", port=1))

    assert (after.number, after.endpoint.address) == (before.number, "2001:db8::5")
    assert after.etag != before.etag
    other = await stubs.host(2, endpoint=Endpoint(address="192.0.2.1", port=51820))
    assert other.endpoint.address == "192.0.2.1"


@pytest.mark.parametrize(
    ("changes", "begins"),
    [
        pytest.param({"name": ""}, "name: ", id="no-name"),
        pytest.param({"name": "UPPER"}, "name: ", id="upper-case"),
        pytest.param({"name": "a" * 64}, "name: ", id="long-name"),
        pytest.param({"name": "a/b"}, "name: ", id="slash"),
        pytest.param({"name": "a\nb"}, "name: ", id="newline"),
        pytest.param({"name": "é" * 100_000}, "name: ", id="huge-name"),
        pytest.param({"region": 4096}, "region: ", id="region"),
        pytest.param({"public_key": b""}, "public_key: ", id="no-key"),
        pytest.param({"public_key": b"x" * 31}, "public_key: ", id="short-key"),
        pytest.param({"public_key": b"x" * 33}, "public_key: ", id="long-key"),
        pytest.param({"public_key": bytes(32)}, "public_key: ", id="zero-key"),
        pytest.param({"public_key": b"\x01" + bytes(31)}, "public_key: ", id="order-1"),
        pytest.param({"public_key": PRIME.to_bytes(32, "little")}, "public_key: ", id="prime"),
        pytest.param(
            {"public_key": ((1 << 255) + PRIME - 1).to_bytes(32, "little")},
            "public_key: ",
            id="order-2-with-the-ignored-bit",
        ),
        pytest.param({"endpoint": None}, "endpoint.address: ", id="no-endpoint"),
        pytest.param({"endpoint": ("example.org", 1)}, "endpoint.address: ", id="dns-name"),
        pytest.param({"endpoint": ("0.0.0.0", 1)}, "endpoint.address: ", id="unspecified"),
        pytest.param({"endpoint": ("::", 1)}, "endpoint.address: ", id="unspecified-6"),
        pytest.param({"endpoint": ("239.1.1.1", 1)}, "endpoint.address: ", id="multicast"),
        pytest.param({"endpoint": ("ff02::1", 1)}, "endpoint.address: ", id="multicast-6"),
        pytest.param({"endpoint": ("255.255.255.255", 1)}, "endpoint.address: ", id="broadcast"),
        pytest.param({"endpoint": ("fe80::1", 1)}, "endpoint.address: ", id="link-local"),
        pytest.param({"endpoint": ("2001:db8::1%eth0", 1)}, "endpoint.address: ", id="scope"),
        pytest.param({"endpoint": ("::ffff:192.0.2.1", 1)}, "endpoint.address: ", id="mapped"),
        pytest.param({"endpoint": ("[2001:db8::1]", 1)}, "endpoint.address: ", id="brackets"),
        pytest.param({"endpoint": ("fc1a::1", 1)}, "endpoint.address: ", id="a-locator"),
        pytest.param({"endpoint": ("192.0.2.1", 0)}, "endpoint.port: ", id="port-0"),
        pytest.param({"endpoint": ("192.0.2.1", 65536)}, "endpoint.port: ", id="port-65536"),
    ],
)
async def test_bad_registrations_are_refused_whole(
    stubs: Stubs, changes: dict[str, Any], begins: str
) -> None:
    if changes.get("endpoint"):
        address, port = changes["endpoint"]
        changes = {"endpoint": Endpoint(address=address, port=port)}

    async with refused(INVALID, begins):
        await stubs.host(1, **changes)

    assert await names(stubs) == []


async def test_an_endpoint_within_the_prefix_is_refused(tmp_path: Path) -> None:
    prefix = IPv6Network("fd12:3456:789a::/64")
    inside = Endpoint(address="fd12:3456:789a::1", port=1)
    async with (
        running_fleet(tmp_path, prefix=prefix) as fleet,
        refused(INVALID, "endpoint.address: "),
    ):
        await fleet.stubs.host(1, endpoint=inside)


@pytest.mark.parametrize(
    ("number", "changes", "begins"),
    [
        pytest.param(1, {"public_key": key_of(9)}, "name: ", id="name-with-another-key"),
        pytest.param(1, {"region": 2}, "region: ", id="another-region"),
        pytest.param(2, {"public_key": key_of(1)}, "public_key: ", id="key-of-another"),
        pytest.param(
            2,
            {"endpoint": Endpoint(address="192.0.2.1", port=51820)},
            "endpoint: ",
            id="endpoint-of-another",
        ),
    ],
)
async def test_what_another_host_has_is_refused(
    stubs: Stubs, number: int, changes: dict[str, Any], begins: str
) -> None:
    before = await stubs.host(1)

    async with refused(EXISTS, begins):
        await stubs.host(number, **changes)

    assert await names(stubs) == ["h1"]
    assert await stubs.connected("h1") == before


async def test_one_of_two_hosts_gets_an_endpoint_asked_for_at_once(stubs: Stubs) -> None:
    same = Endpoint(address="192.0.2.200", port=1)

    answers = await asyncio.gather(
        *(stubs.host(n, endpoint=same, region=n) for n in range(1, 9)), return_exceptions=True
    )

    assert sum(not isinstance(answer, Exception) for answer in answers) == 1
    assert len(await names(stubs)) == 1


async def test_many_at_once_get_numbers_of_their_own(stubs: Stubs) -> None:
    hosts = await asyncio.gather(*(stubs.host(number) for number in range(1, 41)))

    assert sorted(host.number for host in hosts) == list(range(1, 41))


async def test_a_freed_number_is_not_given_out_again_soon(stubs: Stubs) -> None:
    first = await stubs.host(1)
    await stubs.hosts.RemoveHost(pb.RemoveHostRequest(name="h1"))

    again = await stubs.host(1)

    assert (first.number, again.number) == (1, 2)


async def test_a_host_with_machines_stays(stubs: Stubs) -> None:
    await stubs.host(1)
    await stubs.network("blue")
    await stubs.machine("blue/web", "h1")

    async with refused(grpc.StatusCode.FAILED_PRECONDITION, "name: "):
        await stubs.hosts.RemoveHost(pb.RemoveHostRequest(name="h1"))
    await stubs.delete("web")
    await stubs.hosts.RemoveHost(pb.RemoveHostRequest(name="h1"))

    async with refused(grpc.StatusCode.NOT_FOUND, "name: "):
        await stubs.hosts.RemoveHost(pb.RemoveHostRequest(name="h1"))


async def test_a_stale_etag_removes_nothing(stubs: Stubs) -> None:
    before = await stubs.host(1)
    await stubs.host(1, endpoint=Endpoint(address="192.0.2.77", port=1))

    async with refused(grpc.StatusCode.ABORTED, "etag: "):
        await stubs.hosts.RemoveHost(pb.RemoveHostRequest(name="h1", etag=before.etag))

    assert await names(stubs) == ["h1"]


async def test_lists_page_in_order(stubs: Stubs) -> None:
    for number in (3, 1, 5, 2, 4):
        await stubs.host(number)

    found, token, pages = [], "", 0
    while pages == 0 or token:
        page = await stubs.hosts.ListHosts(pb.ListHostsRequest(page_size=2, page_token=token))
        found += [host.name for host in page.hosts]
        token, pages = page.next_page_token, pages + 1

    assert found == ["h1", "h2", "h3", "h4", "h5"]
    assert pages == 3


@pytest.mark.parametrize("token", ["x", "é", "AAAA", "bnVsbA==", "W10=", "e30=", "[" * 100_000])
async def test_a_bad_page_token_is_refused(stubs: Stubs, token: str) -> None:
    async with refused(INVALID, "page_token: "):
        await stubs.hosts.ListHosts(pb.ListHostsRequest(page_token=token))


async def test_too_large_a_page_is_refused(stubs: Stubs) -> None:
    async with refused(INVALID, "page_size: "):
        await stubs.hosts.ListHosts(pb.ListHostsRequest(page_size=1001))


async def test_unknown_and_impossible_names(stubs: Stubs) -> None:
    async with refused(grpc.StatusCode.NOT_FOUND, "name: "):
        await stubs.connected("nobody")
    async with refused(INVALID, "name: "):
        await stubs.connected("")
