"""Address arithmetic: stable addresses, ids and locators.

The identifier/locator split of ILA (draft-herbert-intarea-ila), with a checksum-neutral locator.

    stable address = P(64) : id(64)
    id             = network(32) : region(12) : number(20)
    locator        = L(16) : region(16) : host(16) : c(16)

`c` makes the one's-complement sum (RFC 1071) of the locator's four words equal to that of P, so
that exchanging P for a locator leaves every transport checksum as it is (RFC 1624).
All integers are in host order; `to_bytes(8, "big")` gives what is on the wire and in BPF maps.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network
from typing import NewType

from netagent.model.errors import InvalidError

StableId = NewType("StableId", int)
"""The lower 64 bits of a stable address."""

Locator = NewType("Locator", int)
"""The upper 64 bits that stand for a host, on the wire between two hosts only."""

HOST_NETWORK = 0
"""The network number of the hosts' own stable addresses."""

NETWORK_MAX = (1 << 32) - 2
"""The programs take the last number for all that is outside the fleet."""

REGION_MAX = (1 << 12) - 1
NUMBER_MAX = (1 << 20) - 1
HOST_NUMBER_MAX = (1 << 16) - 1

LOCATOR_TOP_DEFAULT = 0xFC1A
"""L: the upper 16 bits of every locator; fc00::/8 is the half of RFC 4193 nobody assigns from."""

_LOW64 = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Fleet:
    """What every address of a fleet is made from.

    fleet_id: opaque name that an agent checks so that it never mixes two fleets.
    prefix: P, a /64.
    locator_top: L, 0 to 65535, different from the upper 16 bits of P.
    """

    fleet_id: str
    prefix: IPv6Network
    locator_top: int = LOCATOR_TOP_DEFAULT

    def __post_init__(self) -> None:
        if self.prefix.prefixlen != 64:
            raise InvalidError("prefix", f"{self.prefix} is not a /64")
        if not 0 < self.locator_top <= 0xFFFF:
            raise InvalidError("locator_top", f"{self.locator_top} is not within 1 to 65535")
        if self.prefix_int >> 48 == self.locator_top:
            raise InvalidError(
                "locator_top",
                f"{self.locator_top:x} is how the prefix {self.prefix} begins; choose another",
            )

    @property
    def prefix_int(self) -> int:
        """P as the upper 64 bits of its addresses."""
        return int(self.prefix.network_address) >> 64


def random_prefix() -> IPv6Network:
    """Return a /64 of a random RFC 4193 unique local prefix (fd, 40 random bits, subnet 0)."""
    return IPv6Network(((0xFD << 120) | (secrets.randbits(40) << 80), 64))


def make_id(network: int, region: int, number: int) -> StableId:
    """Return the id of machine (or, in network 0, host) `number` created in `region`.

    Raises InvalidError naming the part that does not fit its bits.
    """
    for name, value, most in (
        ("network", network, NETWORK_MAX),
        ("region", region, REGION_MAX),
        ("number", number, NUMBER_MAX),
    ):
        if not 0 <= value <= most:
            raise InvalidError(name, f"{value} is not within 0 to {most}")
    return StableId(network << 32 | region << 20 | number)


def network_of(stable_id: StableId) -> int:
    """Return the network number (32 bits) within an id."""
    return stable_id >> 32


def region_of(stable_id: StableId) -> int:
    """Return the region (12 bits) in which the address was created; it never changes."""
    return stable_id >> 20 & REGION_MAX


def number_of(stable_id: StableId) -> int:
    """Return the number (20 bits) within network and region."""
    return stable_id & NUMBER_MAX


def stable_address(fleet: Fleet, stable_id: StableId) -> IPv6Address:
    """Return P:id."""
    return IPv6Address(fleet.prefix_int << 64 | stable_id)


def parse_stable_address(fleet: Fleet, address: IPv6Address) -> StableId:
    """Return the id within a stable address; InvalidError if it is not of this fleet."""
    if address not in fleet.prefix:
        raise InvalidError("address", f"{address} is not within the fleet's prefix {fleet.prefix}")
    return StableId(int(address) & _LOW64)


def make_locator(fleet: Fleet, region: int, host: int) -> Locator:
    """Return the checksum-neutral locator of a host.

    region: 0 to 4095. host: the host's number, 0 to 65535.
    Raises InvalidError when one does not fit.
    """
    if not 0 <= region <= REGION_MAX:
        raise InvalidError("region", f"{region} is not within 0 to {REGION_MAX}")
    if not 0 <= host <= HOST_NUMBER_MAX:
        raise InvalidError("host", f"{host} is not within 0 to {HOST_NUMBER_MAX}")
    words = fleet.locator_top, region, host
    check = (ones_complement_sum(fleet.prefix_int) - sum(words)) % 0xFFFF
    return Locator(words[0] << 48 | words[1] << 32 | words[2] << 16 | check)


def locator_network(locator: Locator) -> IPv6Network:
    """Return the /64 that WireGuard's AllowedIPs hold for the host of this locator."""
    return IPv6Network((locator << 64, 64))


def ones_complement_sum(upper: int) -> int:
    """Return the sum of the four 16-bit words of a 64-bit value modulo 0xffff (RFC 1071)."""
    return sum(upper >> shift & 0xFFFF for shift in (48, 32, 16, 0)) % 0xFFFF


def machine_mac(stable_id: StableId) -> bytes:
    """Return the MAC a machine gets unless its owner chose another: 6 bytes, wire order.

    Locally administered (02), then `6e` so that it never equals the gateway's, then 32 bits mixed
    from network and number: two machines of one host may share it without harm, since every
    machine has a link of its own.
    """
    mixed = (stable_id ^ stable_id >> 32) & 0xFFFFFFFF
    return b"\x02\x6e" + mixed.to_bytes(4, "big")


GATEWAY_ADDRESS = IPv6Address("fe80::1")
"""The gateway of every machine, on every host."""

GATEWAY_MAC = bytes.fromhex("02ea61000001")
"""The gateway's MAC, the same on every host, so that a guest's neighbour cache survives a move."""
