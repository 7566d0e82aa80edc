"""Named hosts, machines and interfaces for everybody: three hosts, two private networks."""

from __future__ import annotations

from ipaddress import IPv6Address, IPv6Network

from oracle.world import World

from netagent.dataplane.abi import Constants, EndpointRow, TransitionRow
from netagent.model.addresses import (
    Fleet,
    Locator,
    StableId,
    machine_mac,
    make_id,
    make_locator,
    stable_address,
)
from netagent.model.fleet import Identity, Location

FLEET = Fleet("fleet-of-three", IPv6Network("fd4e:6574:6167:1::/64"))
MTU_BYTES = 1408

INTERFACES = {"mesh": 100, "host": 101, "one": 102, "two": 103, "three": 104}
MESH, HOST, ONE, TWO, THREE = INTERFACES.values()

ASH, BIRCH, CEDAR = "ash", "birch", "cedar"
HOSTS = {ASH: 1, BIRCH: 2, CEDAR: 0xFFFF}
LOCATORS = {name: make_locator(FLEET, 1, number) for name, number in HOSTS.items()}
HOST_IDS = {name: make_id(0, 1, number) for name, number in HOSTS.items()}

RED, BLUE, LAST_NETWORK = 1, 2, 0xFFFFFFFF
RED_WEB = make_id(RED, 1, 1)
RED_DATABASE = make_id(RED, 1, 2)
RED_LAST = make_id(RED, 0xFFF, 0xFFFFF)
BLUE_WEB = make_id(BLUE, 1, 1)
LAST = make_id(LAST_NETWORK, 0xFFF, 0xFFFFF)
NOBODY = make_id(RED, 1, 77)
MACHINES = (RED_WEB, RED_DATABASE, RED_LAST, BLUE_WEB, LAST)

SECOND_NS = 1_000_000_000
FAR_NS = 10**15


def constants_of(host: str) -> Constants:
    """Return what the programs of a host are loaded with."""
    return Constants(FLEET, LOCATORS[host], HOST_IDS[host], MTU_BYTES, MESH)


def empty_world(host: str, now_ns: int) -> World:
    """Return a host that knows of nobody."""
    return World(FLEET, LOCATORS[host], HOST_IDS[host], MTU_BYTES, MESH, now_ns)


def located(host: str) -> Location:
    """Return the location of something that is on `host`."""
    return Location(LOCATORS[host], Identity(7), 1)


def at_locator(locator: Locator) -> Location:
    return Location(locator, Identity(7), 1)


def moving(source: str, destination: str, deadline_ns: int = FAR_NS) -> TransitionRow:
    """Return a move in progress; the default deadline is far away."""
    return TransitionRow(LOCATORS[source], LOCATORS[destination], deadline_ns, 2)


def interface(stable_id: StableId, ifindex: int, is_peer: bool = True) -> EndpointRow:
    """Return the endpoint of an id at an interface, with the MAC it gets by default."""
    return EndpointRow(ifindex, machine_mac(stable_id), is_peer)


def address(stable_id: StableId) -> IPv6Address:
    """Return the stable address of an id."""
    return stable_address(FLEET, stable_id)


def on_wire(host: str, stable_id: StableId) -> IPv6Address:
    """Return the address that stands between two hosts for an id that is on `host`."""
    return IPv6Address(LOCATORS[host] << 64 | stable_id)
