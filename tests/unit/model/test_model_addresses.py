"""Address arithmetic: what leaves every checksum as it is, and what comes back as it went."""

from __future__ import annotations

from ipaddress import IPv6Address, IPv6Network

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from netagent.model.addresses import (
    GATEWAY_MAC,
    HOST_NUMBER_MAX,
    LOCATOR_TOP_DEFAULT,
    NETWORK_MAX,
    NUMBER_MAX,
    REGION_MAX,
    Fleet,
    StableId,
    locator_network,
    machine_mac,
    make_id,
    make_locator,
    network_of,
    number_of,
    ones_complement_sum,
    parse_stable_address,
    random_prefix,
    region_of,
    stable_address,
)
from netagent.model.errors import InvalidError

networks = st.integers(0, NETWORK_MAX)
regions = st.integers(0, REGION_MAX)
numbers = st.integers(0, NUMBER_MAX)
hosts = st.integers(0, HOST_NUMBER_MAX)
ids = st.builds(make_id, networks, regions, numbers)
uppers = st.integers(1, (1 << 64) - 1)


def make_fleet(upper: int) -> Fleet:
    return Fleet("f", IPv6Network((upper << 64, 64)))


fleets = uppers.filter(lambda upper: upper >> 48 != LOCATOR_TOP_DEFAULT).map(make_fleet)


def transport_checksum(source: bytes, destination: bytes, segment: bytes) -> int:
    """RFC 8200, 8.1: the pseudo-header and the segment, in words, carries folded, inverted."""
    data = source + destination + len(segment).to_bytes(4, "big") + b"\0\0\0\x06" + segment
    data += b"\0" * (len(data) % 2)
    total = sum(int.from_bytes(data[i : i + 2], "big") for i in range(0, len(data), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


@given(fleets, regions, hosts, regions, hosts, ids, ids, st.binary(max_size=64))
def test_both_rewrites_leave_the_transport_checksum_as_it_is(
    fleet: Fleet,
    source_region: int,
    source_host: int,
    region: int,
    host: int,
    source: StableId,
    destination: StableId,
    segment: bytes,
) -> None:
    stable = [stable_address(fleet, stable_id).packed for stable_id in (source, destination)]
    uppers = make_locator(fleet, source_region, source_host), make_locator(fleet, region, host)
    on_wire = [
        upper.to_bytes(8, "big") + stable_id.to_bytes(8, "big")
        for upper, stable_id in zip(uppers, (source, destination), strict=True)
    ]

    assert transport_checksum(*stable, segment) == transport_checksum(*on_wire, segment)


@given(fleets, regions, hosts)
def test_a_locator_sums_to_the_prefix_and_says_what_it_is(
    fleet: Fleet, region: int, host: int
) -> None:
    locator = make_locator(fleet, region, host)

    assert ones_complement_sum(locator) == ones_complement_sum(fleet.prefix_int)
    assert (locator >> 48, locator >> 32 & 0xFFFF, locator >> 16 & 0xFFFF) == (
        LOCATOR_TOP_DEFAULT,
        region,
        host,
    )
    assert locator_network(locator).prefixlen == 64
    assert int(locator_network(locator).network_address) >> 64 == locator


@given(fleets, regions, hosts, regions, hosts)
def test_two_hosts_have_two_locators(
    fleet: Fleet, region: int, host: int, other_region: int, other_host: int
) -> None:
    assume((region, host) != (other_region, other_host))

    assert make_locator(fleet, region, host) != make_locator(fleet, other_region, other_host)


@given(networks, regions, numbers)
def test_an_id_gives_back_its_parts(network: int, region: int, number: int) -> None:
    stable_id = make_id(network, region, number)

    assert (network_of(stable_id), region_of(stable_id), number_of(stable_id)) == (
        network,
        region,
        number,
    )
    assert 0 <= stable_id < 1 << 64


@given(fleets, ids)
def test_an_address_gives_back_its_id(fleet: Fleet, stable_id: StableId) -> None:
    address = stable_address(fleet, stable_id)

    assert address in fleet.prefix
    assert parse_stable_address(fleet, address) == stable_id


@pytest.mark.parametrize(
    ("parts", "field"),
    [
        ((-1, 0, 0), "network"),
        ((NETWORK_MAX + 1, 0, 0), "network"),
        ((0, REGION_MAX + 1, 0), "region"),
        ((0, -1, 0), "region"),
        ((0, 0, NUMBER_MAX + 1), "number"),
    ],
)
def test_parts_that_do_not_fit_are_named(parts: tuple[int, int, int], field: str) -> None:
    with pytest.raises(InvalidError) as caught:
        make_id(*parts)

    assert caught.value.field == field


@pytest.mark.parametrize(("region", "host"), [(REGION_MAX + 1, 0), (0, HOST_NUMBER_MAX + 1)])
def test_a_locator_takes_what_fits(region: int, host: int) -> None:
    fleet = make_fleet(0xFD12 << 48)

    with pytest.raises(InvalidError):
        make_locator(fleet, region, host)


def test_an_address_of_another_fleet_is_refused() -> None:
    fleet = make_fleet(0xFD12 << 48)

    with pytest.raises(InvalidError, match="not within the fleet's prefix"):
        parse_stable_address(fleet, IPv6Address("fd13::1"))


@pytest.mark.parametrize(
    ("prefix", "locator_top", "field"),
    [
        ("fd00::/48", LOCATOR_TOP_DEFAULT, "prefix"),
        ("fd00::/64", 0, "locator_top"),
        ("fd00::/64", 0x10000, "locator_top"),
        ("fd00::/64", 0xFD00, "locator_top"),
    ],
)
def test_fleets_that_cannot_be(prefix: str, locator_top: int, field: str) -> None:
    with pytest.raises(InvalidError) as caught:
        Fleet("f", IPv6Network(prefix), locator_top)

    assert caught.value.field == field


def test_random_prefixes_are_unique_local_and_differ() -> None:
    prefixes = {random_prefix() for _ in range(20)}

    assert len(prefixes) == 20
    assert all(prefix.subnet_of(IPv6Network("fd00::/8")) for prefix in prefixes)
    assert {prefix.prefixlen for prefix in prefixes} == {64}


@given(ids)
def test_a_machines_mac_is_local_unicast_and_never_the_gateways(stable_id: StableId) -> None:
    mac = machine_mac(stable_id)

    assert len(mac) == 6
    assert mac[0] & 0b11 == 0b10
    assert mac != GATEWAY_MAC
