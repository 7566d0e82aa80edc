"""Interfaces: made whole, made once, found again, and taken away without a trace."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from ipaddress import IPv6Address, IPv6Network
from pathlib import Path

import pytest
from kernel.namespaces import named_netns

from netagent.dataplane.links import Links
from netagent.dataplane.netns import run_in_netns
from netagent.model.addresses import GATEWAY_MAC
from netagent.model.errors import DataplaneError

pytestmark = pytest.mark.root

PREFIX = IPv6Network("fd4e:6574:6167:1::/64")
ADDRESS = IPv6Address("fd4e:6574:6167:1:0:1:10:1")
MAC = bytes.fromhex("026e00100001")
MTU_BYTES = 1408


@pytest.fixture
def links(namespaces: None) -> Iterator[Links]:
    with Links() as opened:
        yield opened


@pytest.fixture
def machine(links: Links) -> Iterator[Path]:
    with named_netns("machine") as path:
        yield path


def inside(arguments: str) -> list[dict[str, object]]:
    """Return what `ip -json` says in the machine's namespace."""
    command = ["ip", "-netns", "machine", "-json", *arguments.split()]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout or "[]")


def make(links: Links, machine: Path, name: str = "na-web") -> None:
    links.make_machine_interface(name, machine, ADDRESS, MAC, MTU_BYTES)


def test_a_machine_finds_its_interface_ready(links: Links, machine: Path) -> None:
    make(links, machine)
    links.activate_machine_interface("na-web", machine)
    (link,) = inside("link show eth0")
    assert (link["address"], link["mtu"], link["operstate"]) == (MAC.hex(":"), MTU_BYTES, "UP")
    (route,) = inside("-6 route show default")
    assert (route["gateway"], route["dev"]) == ("fe80::1", "eth0")
    (neighbour,) = inside("-6 neigh show fe80::1")
    assert (neighbour["lladdr"], neighbour["state"]) == (GATEWAY_MAC.hex(":"), ["PERMANENT"])
    addresses = inside("-6 addr show dev eth0 scope global")[0]["addr_info"]
    assert [(a["local"], a["prefixlen"]) for a in addresses if a] == [(str(ADDRESS), 128)]  # type: ignore[attr-defined]


def test_the_hosts_side_has_the_gateways_mac_and_no_address(links: Links, machine: Path) -> None:
    make(links, machine)
    link = links.find("na-web")
    assert link is not None
    assert (link.mac, link.is_up) == (GATEWAY_MAC, True)
    shown = subprocess.run(
        ["ip", "-6", "addr", "show", "dev", "na-web"], check=True, capture_output=True, text=True
    )
    assert shown.stdout == ""


def test_making_it_twice_changes_nothing(links: Links, machine: Path) -> None:
    def shape() -> list[object]:
        shown = inside("link show"), inside("-6 addr show scope global")
        kept = ("ifindex", "ifname", "address", "mtu", "addr_info")
        return [[{key: row.get(key) for key in kept} for row in rows] for rows in shown]

    make(links, machine)
    before = links.find("na-web"), shape()
    make(links, machine)
    assert (links.find("na-web"), shape()) == before


def test_a_second_interface_takes_over_when_it_is_activated(links: Links, machine: Path) -> None:
    make(links, machine, "na-old")
    links.activate_machine_interface("na-old", machine)
    make(links, machine, "na-new")
    assert [route["dev"] for route in inside("-6 route show default")] == ["eth0"]
    links.prepare_machine_route("na-new", machine)
    assert links.activate_machine_interface("na-new", machine)
    assert [route["dev"] for route in inside("-6 route show default")] == ["eth1"]
    assert links.remove("na-old")
    assert [route["dev"] for route in inside("-6 route show default")] == ["eth1"]


def test_only_what_we_made_is_ours(links: Links, machine: Path) -> None:
    subprocess.run(["ip", "link", "add", "theirs", "type", "veth"], check=True)
    make(links, machine)
    links.prepare_existing_interface("theirs")
    assert [link.name for link in links.owned()] == ["na-web"]


def test_an_interface_that_we_were_handed_gets_the_gateways_mac(links: Links) -> None:
    subprocess.run(["ip", "link", "add", "theirs", "type", "veth"], check=True)
    link = links.prepare_existing_interface("theirs")
    assert (link.mac, link.is_up) == (GATEWAY_MAC, True)


def test_the_hosts_own_stack_reaches_the_prefix_through_its_pair(links: Links) -> None:
    for _ in range(2):
        host, gateway = links.ensure_host_interface("na-host", ADDRESS, PREFIX, MTU_BYTES)
    assert (host.name, gateway.name, gateway.mac) == ("na-host", "na-host-gw", GATEWAY_MAC)
    found = subprocess.run(
        ["ip", "-json", "-6", "route", "get", str(PREFIX[77])],
        check=True,
        capture_output=True,
        text=True,
    )
    (route,) = json.loads(found.stdout)
    assert (route["gateway"], route["dev"], route["prefsrc"]) == (
        "fe80::1",
        "na-host",
        str(ADDRESS),
    )


def test_removal_is_complete_and_may_be_repeated(links: Links, machine: Path) -> None:
    make(links, machine)
    assert links.remove("na-web")
    assert not links.remove("na-web")
    assert links.find("na-web") is None
    assert [link["ifname"] for link in inside("link show")] == ["lo"]


def test_a_namespace_that_is_gone_is_named_and_nothing_is_left(links: Links) -> None:
    with pytest.raises(DataplaneError, match="/run/netns/gone"):
        make(links, Path("/run/netns/gone"))
    assert links.owned() == []


def test_an_interface_that_is_not_there_is_named(links: Links) -> None:
    with pytest.raises(DataplaneError, match="interface tap9"):
        links.prepare_existing_interface("tap9")


def test_an_underlay_address_of_nobody_is_named(links: Links) -> None:
    with pytest.raises(DataplaneError, match="2001:db8::1"):
        links.underlay_mtu(IPv6Address("2001:db8::1"))


def test_a_machine_of_two_hosts_is_not_mixed_up(links: Links, machine: Path) -> None:
    """Both hosts' sides have the same index, as they easily do in namespaces of their own."""

    def make_and_activate() -> int:
        with Links() as own:
            make(own, machine)
            assert own.activate_machine_interface("na-web", machine)
            link = own.find("na-web")
            assert link is not None
            return link.ifindex

    with named_netns("host-a") as first, named_netns("host-b") as second:
        indices = run_in_netns(first, make_and_activate), run_in_netns(second, make_and_activate)
        (route,) = inside("-6 route show default")

        assert indices[0] == indices[1], "the test needs them to be equal"
        assert route["dev"] == "eth1"
        assert run_in_netns(first, lambda: _activate("na-web", machine))
        (route,) = inside("-6 route show default")
        assert route["dev"] == "eth0"
        assert not run_in_netns(first, lambda: _activate("na-web", machine))


def _activate(name: str, machine: Path) -> bool:
    with Links() as links:
        return links.activate_machine_interface(name, machine)
