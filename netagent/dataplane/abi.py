"""What user space and the BPF programs agree on; mirrors bpf/lib/abi.h and bpf/lib/config.h.

Pure: packs and unpacks values, touches no kernel. Ids and locators are in network byte order in the
maps, all else in host order. A test compares this file with the header and with the objects' BTF.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from pathlib import Path

from netagent.model.addresses import Fleet, Locator, StableId
from netagent.model.fleet import Identity, Location

ABI_VERSION = 2

MARK_DECIDED = 0x6E610000
"""The skb mark of packets that our programs sent to a machine."""


def pin_root(bpffs: Path) -> Path:
    """Return where every release pins."""
    return bpffs / "netagent"


def pin_directory(bpffs: Path) -> Path:
    """Return where this release pins: the version of the maps' layout is part of the path."""
    return pin_root(bpffs) / f"v{ABI_VERSION}"


class Verdict(IntEnum):
    """Why a packet was passed (below 16) or dropped; docs/architecture.md explains each."""

    PASS_TO_LOCAL_MACHINE = 1
    PASS_TO_MESH = 2
    PASS_FROM_MESH = 3
    PASS_FORWARDED = 4
    PASS_TO_HOST = 5
    PASS_NEIGHBOUR_ANSWERED = 6
    PASS_TO_OUTSIDE = 7

    DROP_NOT_IPV6 = 16
    DROP_MALFORMED = 17
    DROP_SPOOFED_MAC = 18
    DROP_SPOOFED_ADDRESS = 19
    DROP_NOT_LOCATED_HERE = 20
    DROP_LINK_LOCAL = 21
    DROP_OUTSIDE = 22
    DROP_EXTENSION_HEADER = 23
    DROP_NEIGHBOUR_DISCOVERY = 24
    DROP_UNKNOWN_DESTINATION = 25
    DROP_FRAGMENT = 28
    DROP_TOO_BIG = 29
    DROP_NOT_ENCODED = 30
    DROP_SOURCE_NOT_AT_SENDER = 31
    DROP_DESTINATION_NOT_HERE = 32
    DROP_NO_ENDPOINT = 33
    DROP_HOP_LIMIT = 34
    DROP_KERNEL = 35
    DROP_DENIED_EGRESS = 36
    DROP_DENIED_INGRESS = 37
    DROP_NO_POLICY = 38

    @property
    def label(self) -> str:
        """The verdict's name in status, metrics and docs, as `drop_spoofed_mac`."""
        return self.name.lower()

    @property
    def is_drop(self) -> bool:
        """Whether the packet ended here."""
        return self >= Verdict.DROP_NOT_IPV6


class EndpointFlag(IntFlag):
    """Flags of `struct endpoint`."""

    PEER = 1


@dataclass(frozen=True, slots=True)
class TransitionRow:
    """`struct transition`. deadline_ns: CLOCK_BOOTTIME; past it the entry counts as absent."""

    source: Locator
    destination: Locator
    deadline_ns: int
    epoch: int


@dataclass(frozen=True, slots=True)
class EndpointRow:
    """`struct endpoint`.

    mac: 6 bytes, the machine's. is_peer: the interface is a veth with its other end in another
    namespace, so that packets may skip its queue.
    """

    ifindex: int
    mac: bytes
    is_peer: bool


@dataclass(frozen=True, slots=True)
class Counter:
    """`struct counter`, summed over processors."""

    packets: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Misdirected:
    """`struct misdirected`: packets of one host for ids that were not here any more."""

    forwarded: int
    dropped: int


@dataclass(frozen=True, slots=True)
class Constants:
    """`struct config`: what a host is, fixed while a program is loaded.

    locator, host_id: this host's. mtu_bytes: of the WireGuard interface, from the IPv6 header on.
    """

    fleet: Fleet
    locator: Locator
    host_id: StableId
    mtu_bytes: int
    mesh_ifindex: int

    def pack(self) -> bytes:
        """Return `struct config`, 32 bytes."""
        upper = struct.pack(">QQQ", self.fleet.prefix_int, self.locator, self.host_id)
        return upper + struct.pack("=II", self.mesh_ifindex, self.mtu_bytes)


def pack_id(stable_id: StableId) -> bytes:
    """Return the key of location, transition and endpoint: 8 bytes, network order."""
    return stable_id.to_bytes(8, "big")


def unpack_id(raw: bytes) -> StableId:
    """Return the id of a key."""
    return StableId(int.from_bytes(raw, "big"))


def pack_location(row: Location) -> bytes:
    """Return `struct location`, 24 bytes."""
    return row.locator.to_bytes(8, "big") + struct.pack("=IIQ", row.identity, 0, row.epoch)


def unpack_location(raw: bytes) -> Location:
    """Return the row of a `struct location`."""
    identity, _, epoch = struct.unpack_from("=IIQ", raw, 8)
    return Location(Locator(int.from_bytes(raw[:8], "big")), Identity(identity), epoch)


def pack_locator(locator: Locator) -> bytes:
    """Return a key of the map `misdirected`, 8 bytes."""
    return struct.pack(">Q", locator)


def unpack_locator(raw: bytes) -> Locator:
    """Return the locator of a key of the map `misdirected`."""
    return Locator(struct.unpack(">Q", raw)[0])


def pack_misdirected(row: Misdirected) -> bytes:
    """Return `struct misdirected`, 16 bytes."""
    return struct.pack("=QQ", row.forwarded, row.dropped)


def unpack_misdirected(raw: bytes) -> Misdirected:
    """Return the row of a `struct misdirected`."""
    return Misdirected(*struct.unpack("=QQ", raw))


def pack_transition(row: TransitionRow) -> bytes:
    """Return `struct transition`, 32 bytes."""
    places = struct.pack(">QQ", row.source, row.destination)
    return places + struct.pack("=QQ", row.deadline_ns, row.epoch)


def unpack_transition(raw: bytes) -> TransitionRow:
    """Return the row of a `struct transition`."""
    source, destination = struct.unpack_from(">QQ", raw)
    deadline_ns, epoch = struct.unpack_from("=QQ", raw, 16)
    return TransitionRow(Locator(source), Locator(destination), deadline_ns, epoch)


def pack_endpoint(row: EndpointRow) -> bytes:
    """Return `struct endpoint`, 16 bytes."""
    flags = EndpointFlag.PEER if row.is_peer else EndpointFlag(0)
    return struct.pack("=II6s2x", row.ifindex, flags, row.mac)


def unpack_endpoint(raw: bytes) -> EndpointRow:
    """Return the row of a `struct endpoint`."""
    ifindex, flags, mac = struct.unpack("=II6s2x", raw)
    return EndpointRow(ifindex, mac, bool(flags & EndpointFlag.PEER))
