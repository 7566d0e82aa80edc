"""Hosts, networks, machines and moves: the records that control owns and agents learn."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from ipaddress import IPv4Address, IPv6Address
from typing import NewType

from netagent.model.addresses import Locator, StableId
from netagent.model.errors import InvalidError

Identity = NewType("Identity", int)
"""One number per network and label set, allocated by control; the kernel sees only this."""

IDENTITY_HOST = Identity(1)
"""The identity of every host's own stable address."""

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_LABEL_KEY = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?")


def check_name(name_field: str, name: str) -> str:
    """Return `name` if it is a DNS label (RFC 1123, lower case); else raise InvalidError."""
    if not _NAME.fullmatch(name):
        raise InvalidError(
            name_field,
            f"{name!r} is not a name: use 1 to 63 of a-z, 0-9 and -, not beginning or ending in -",
        )
    return name


def check_labels(labels: Mapping[str, str]) -> dict[str, str]:
    """Return the labels sorted by key; InvalidError names the first that is not well formed."""
    for key, value in sorted(labels.items()):
        if not _LABEL_KEY.fullmatch(key):
            raise InvalidError(f"labels[{key}]", "a key is 1 to 63 of A-Z, a-z, 0-9, ., _, - and /")
        if not _LABEL_VALUE.fullmatch(value):
            raise InvalidError(
                f"labels[{key}]", f"{value!r}: a value is 0 to 63 of A-Z, a-z, 0-9, ., _ and -"
            )
    return dict(sorted(labels.items()))


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a host's WireGuard listens on the underlay. port: 1 to 65535, UDP."""

    address: IPv4Address | IPv6Address
    port: int

    def __post_init__(self) -> None:
        if not 0 < self.port <= 0xFFFF:
            raise InvalidError("endpoint.port", f"{self.port} is not within 1 to 65535")

    def __str__(self) -> str:
        if self.address.version == 6:
            return f"[{self.address}]:{self.port}"
        return f"{self.address}:{self.port}"


@dataclass(frozen=True, slots=True)
class Host:
    """A server that runs machines.

    number: 0 to 65535, unique in its region and never given out again soon.
    public_key: 32 bytes, raw Curve25519.
    stable_id: in network 0. locator: derived from region and number.
    """

    name: str
    region: int
    number: int
    public_key: bytes
    endpoint: Endpoint
    stable_id: StableId
    locator: Locator


@dataclass(frozen=True, slots=True)
class Network:
    """A private network; machines of two networks do not reach each other."""

    name: str
    number: int


@dataclass(frozen=True, slots=True)
class Machine:
    """A customer's machine and where it is.

    host: name of the host on which it is located, or None before it has been placed.
    epoch: raised by one with every committed move; an older epoch never overrides a newer one.
    """

    network: str
    name: str
    stable_id: StableId
    identity: Identity
    labels: Mapping[str, str] = field(default_factory=dict)
    host: str | None = None
    epoch: int = 0

    @property
    def path(self) -> str:
        """NETWORK/NAME, the unambiguous name of a machine."""
        return f"{self.network}/{self.name}"


EPOCH_MAX = (1 << 32) - 1
"""The last epoch of a machine: with that of a floating address it makes one number."""

ASSIGNMENT_MAX = (1 << 31) - 1
"""The last assignment of a floating address: both together are a signed 64-bit number in SQLite."""


@dataclass(frozen=True, slots=True)
class FloatingAddress:
    """A second address of a network, which goes from machine to machine.

    holder: name of the machine, of the same network, that has it now; None: nobody.
    epoch: raised by one each time it is assigned or released, 1 to ASSIGNMENT_MAX once it was.
    """

    network: str
    name: str
    stable_id: StableId
    holder: str | None = None
    epoch: int = 0

    @property
    def path(self) -> str:
        """NETWORK/NAME; no machine of the network has the same name."""
        return f"{self.network}/{self.name}"

    @property
    def holder_path(self) -> str | None:
        """NETWORK/NAME of the machine that has it."""
        return f"{self.network}/{self.holder}" if self.holder is not None else None


def floating_epoch(assignment: int, holder_epoch: int) -> int:
    """Return the epoch of a floating address's rows, 64 bits.

    It rises when the address is assigned anew (assignment: its own epoch), and when its holder
    moves (holder_epoch: that of the holder's row).
    """
    return assignment << 32 | holder_epoch


class MovePhase(Enum):
    """The phases of a move, in order; SETTLED and ABORTED are final."""

    PREPARING = "preparing"
    READY = "ready"
    COMMITTED = "committed"
    SETTLED = "settled"
    ABORTED = "aborted"


ENDED_PHASES = frozenset({MovePhase.SETTLED, MovePhase.ABORTED})
"""The final phases."""


class MoveTrigger(Enum):
    """What commits a move that is prepared."""

    AT_ONCE = "at-once"
    CALL = "call"
    LIFE = "life"


@dataclass(frozen=True, slots=True)
class Move:
    """One machine on its way from one host to another.

    epoch: the machine's epoch once this move has committed; no other move ever has it.
    source: empty while the machine has no host.
    is_forced: the source is dead: it is not waited for, and nothing that it sends is accepted once
        the move has committed.
    """

    move_id: str
    machine: str
    stable_id: StableId
    source: str
    destination: str
    epoch: int
    phase: MovePhase
    trigger: MoveTrigger = MoveTrigger.AT_ONCE
    is_forced: bool = False


@dataclass(frozen=True, slots=True)
class Location:
    """One row of the location table: where an id is, and as what policy sees it."""

    locator: Locator
    identity: Identity
    epoch: int


@dataclass(frozen=True, slots=True)
class Transition:
    """One row of the transition table: an id on the move, permitted at two places.

    Written once at prepare and removed at settle; at commit only the location changes.
    trigger: what commits the move, for the destination, which may have to watch for life. The
        kernel does not hold it, so rows are compared without it.
    """

    source: Locator
    destination: Locator
    epoch: int
    trigger: MoveTrigger = field(default=MoveTrigger.AT_ONCE, compare=False)
