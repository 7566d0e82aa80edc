"""Who is in the matrix: subjects that rules are about, and the parties they talk to.

A cell says of its party only where it is: in which network, and on the subjects' host or another.
What a selector matches is written out by name in kinds.py, and not worked out from labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from ipaddress import IPv6Network

from integration.lab.lab import Lab
from integration.lab.namespace import Namespace
from integration.lab.outside import connect_outside
from integration.matrix.effects import Direction, subject_of
from integration.matrix.kinds import Kind
from integration.scenarios.traffic import place_of

NEAR, FAR = "host-a", "host-b"
"""Subjects are on NEAR, and outside is behind it."""

PREFIX_BITS = 64


class Where(Enum):
    """Where a party is, as seen from a subject."""

    SAME_NETWORK_SAME_HOST = "same network, same host"
    SAME_NETWORK_OTHER_HOST = "same network, other host"
    OTHER_NETWORK_SAME_HOST = "other network, same host"
    OTHER_NETWORK_OTHER_HOST = "other network, other host"
    THIS_HOST = "the subject's host"
    OTHER_HOST = "another host"
    OUTSIDE = "outside"

    @property
    def is_inside(self) -> bool:
        """Whether it is a machine of the subject's network."""
        return self in (Where.SAME_NETWORK_SAME_HOST, Where.SAME_NETWORK_OTHER_HOST)


@dataclass(frozen=True, slots=True)
class Party:
    """Somebody a subject talks to. name: as in kinds.py."""

    name: str
    address: str
    where: Where


@dataclass(slots=True)
class Cast:
    """Everybody. kinds: those under test. subjects: address by name."""

    kinds: tuple[Kind, ...]
    parties: tuple[Party, ...]
    subjects: dict[str, str]
    places: dict[str, Namespace] = field(default_factory=dict)


_WEB = {"app": "web", "env": "prod", "tier": "gold"}
_DB = {"app": "db", "env": "dev"}

_MACHINES: Mapping[str, tuple[str, Mapping[str, str], Where]] = {
    "shop/web-near": (NEAR, _WEB, Where.SAME_NETWORK_SAME_HOST),
    "shop/web-far": (FAR, _WEB, Where.SAME_NETWORK_OTHER_HOST),
    "shop/db-near": (NEAR, _DB, Where.SAME_NETWORK_SAME_HOST),
    "shop/db-far": (FAR, _DB, Where.SAME_NETWORK_OTHER_HOST),
    "shop/bare-near": (NEAR, {}, Where.SAME_NETWORK_SAME_HOST),
    "shop/bare-far": (FAR, {}, Where.SAME_NETWORK_OTHER_HOST),
    "ops/web-near": (NEAR, _WEB, Where.OTHER_NETWORK_SAME_HOST),
    "ops/web-far": (FAR, _WEB, Where.OTHER_NETWORK_OTHER_HOST),
    "ops/db-near": (NEAR, _DB, Where.OTHER_NETWORK_SAME_HOST),
    "ops/db-far": (FAR, _DB, Where.OTHER_NETWORK_OTHER_HOST),
}
OUTSIDE = {
    "mirror": "2001:db8:100::10",
    "excepted": "2001:db8:100:1::10",
    "elsewhere": "2001:db8:200::10",
}
"""Addresses outside: within the prefix of kinds.py, within its exception, within neither."""


def make_cast(lab: Lab, kinds: tuple[Kind, ...]) -> Cast:
    """Create networks, machines and the outside in a lab of two hosts."""
    cast = make_cast_of_machines(lab, kinds)
    parties = list(cast.parties)
    for name, where in ((NEAR, Where.THIS_HOST), (FAR, Where.OTHER_HOST)):
        parties.append(Party(name, place_of(lab.hosts[name]).address, where))
    outside = lab.namespace("outside")
    prefix = IPv6Network((parties[0].address, PREFIX_BITS), strict=False)
    connect_outside(outside, lab.hosts[NEAR], OUTSIDE.values(), str(prefix))
    parties += [Party(name, address, Where.OUTSIDE) for name, address in OUTSIDE.items()]
    cast.parties = tuple(parties)
    cast.places |= {place_of(one).address: one.namespace for one in lab.hosts.values()}
    cast.places |= dict.fromkeys(OUTSIDE.values(), outside)
    return cast


def make_cast_of_machines(lab: Lab, kinds: tuple[Kind, ...]) -> Cast:
    """Create networks and machines; neither hosts nor the outside talk."""
    for network in ("shop", "ops"):
        lab.network(network)
    parties = tuple(
        Party(path, lab.machine(path, host, labels).address, where)
        for path, (host, labels, where) in _MACHINES.items()
    )
    names = [subject_of(kind, direction) for kind in kinds for direction in Direction]
    subjects = {
        name: lab.machine(f"shop/{name}", NEAR, {"subject": name}).address for name in names
    }
    places = {one.address: one.namespace for one in lab.machines.values()}
    return Cast(kinds, parties, subjects, places)
