"""Named hosts, machines and interfaces for everybody: three hosts, three private networks."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network

from oracle.world import World

from netagent.dataplane.abi import Constants, EndpointRow, TransitionRow
from netagent.model.addresses import (
    NETWORK_MAX,
    Fleet,
    Locator,
    StableId,
    machine_mac,
    make_id,
    make_locator,
    stable_address,
)
from netagent.model.fleet import IDENTITY_HOST, Identity, Location

FLEET = Fleet("fleet-of-three", IPv6Network("fd4e:6574:6167:1::/64"))
MTU_BYTES = 1408

INTERFACES = {"mesh": 100, "host": 101, "one": 102, "two": 103, "three": 104}
MESH, HOST, ONE, TWO, THREE = INTERFACES.values()

ASH, BIRCH, CEDAR = "ash", "birch", "cedar"
HOSTS = {ASH: 1, BIRCH: 2, CEDAR: 0xFFFF}
LOCATORS = {name: make_locator(FLEET, 1, number) for name, number in HOSTS.items()}
HOST_IDS = {name: make_id(0, 1, number) for name, number in HOSTS.items()}

RED, BLUE, LAST_NETWORK = 1, 2, NETWORK_MAX
RED_WEB = make_id(RED, 1, 1)
RED_DATABASE = make_id(RED, 1, 2)
RED_LAST = make_id(RED, 0xFFF, 0xFFFFF)
BLUE_WEB = make_id(BLUE, 1, 1)
LAST = make_id(LAST_NETWORK, 0xFFF, 0xFFFFF)
NOBODY = make_id(RED, 1, 77)
MACHINES = (RED_WEB, RED_DATABASE, RED_LAST, BLUE_WEB, LAST)

IDENTITIES = {
    RED_WEB: Identity(2),
    RED_DATABASE: Identity(3),
    RED_LAST: Identity(4),
    BLUE_WEB: Identity(5),
    LAST: Identity(6),
}

# What the host's routes say (`conftest.py`): all goes out at interface two, but these.
HOSTS_OWN_ADDRESS = IPv6Address("2001:db8:5::1")
UNREACHABLE = IPv6Network("2001:db8:dead::/48")
OUTSIDE = IPv6Address("2001:db8:1::1")

MOVE = 2
"""The epoch of a move; where a machine is has epoch 1 before."""

SECOND_NS = 1_000_000_000
FAR_NS = 10**15


@dataclass(frozen=True, slots=True)
class Clocks:
    """What time it is. boot_ns: CLOCK_BOOTTIME. coarse_ns: CLOCK_MONOTONIC, of the last tick."""

    boot_ns: int
    coarse_ns: int


def constants_of(host: str) -> Constants:
    """Return what the programs of a host are loaded with."""
    return Constants(FLEET, LOCATORS[host], HOST_IDS[host], MTU_BYTES, MESH)


def forwards(outside: IPv6Address) -> bool:
    """Whether the hosts' routes forward to an address outside."""
    is_own = outside in (HOSTS_OWN_ADDRESS, IPv6Address("::1"))
    return not is_own and outside not in UNREACHABLE


def empty_world(host: str, clocks: Clocks) -> World:
    """Return a host that knows of nobody and has no policies."""
    return World(
        FLEET,
        LOCATORS[host],
        HOST_IDS[host],
        MTU_BYTES,
        MESH,
        clocks.boot_ns,
        clocks.coarse_ns,
        forwards=forwards,
    )


def identity_of(stable_id: StableId) -> Identity:
    """Return the identity of a machine or host; of one without a name that of RED_WEB."""
    if stable_id in HOST_IDS.values():
        return IDENTITY_HOST
    return IDENTITIES.get(stable_id, IDENTITIES[RED_WEB])


def located(stable_id: StableId, host: str) -> Location:
    """Return the location of an id that is on `host`."""
    return at_locator(stable_id, LOCATORS[host])


def at_locator(stable_id: StableId, locator: Locator) -> Location:
    return Location(locator, identity_of(stable_id), 1)


def moving(source: str, destination: str, deadline_ns: int = FAR_NS) -> TransitionRow:
    """Return a move in progress; the default deadline is far away."""
    return TransitionRow(LOCATORS[source], LOCATORS[destination], deadline_ns, MOVE)


def interface(stable_id: StableId, ifindex: int, is_peer: bool = True) -> EndpointRow:
    """Return the endpoint of an id at an interface, with the MAC it gets by default."""
    return EndpointRow(ifindex, machine_mac(stable_id), is_peer)


def address(stable_id: StableId) -> IPv6Address:
    """Return the stable address of an id."""
    return stable_address(FLEET, stable_id)


def on_wire(host: str, stable_id: StableId) -> IPv6Address:
    """Return the address that stands between two hosts for an id that is on `host`."""
    return IPv6Address(LOCATORS[host] << 64 | stable_id)
