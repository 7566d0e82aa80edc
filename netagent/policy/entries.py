"""The compiled form of one network's policy: docs/policy.md, "Compiled form".

Plain values with nothing behind them: what goes into BPF maps, over the wire, and to `explain`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv6Network
from typing import NamedTuple, NewType

from netagent.model.fleet import IDENTITY_HOST, Identity
from netagent.policy.language import Verdict

ClassId = NewType("ClassId", int)
"""64 bits of a hash of the class's content."""

STRANGER = Identity(0)
"""A peer beyond the network's border that no selector names."""

HOST = IDENTITY_HOST

OUTSIDE_BIT = 1 << 31
"""Set in the identities of outside addresses."""

DEFAULT_RULE = 0
"""The number that stands for the default in place of a rule."""

OTHER_PROTOCOLS = 0
"""The protocol number of an entry for every protocol that its class does not list."""


class Direction(Enum):
    """Which way a packet goes, seen from the network whose policy is asked."""

    INSIDE = 0
    EGRESS = 1
    INGRESS = 2


class Interval(NamedTuple):
    """One range of ports with its verdict. A named tuple: there may be a million of them.

    first, last: both included. rule: who decided, 0 for the default.
    audit_rule: who in audit mode would have said the opposite; 0 for the default of a policy in
    audit mode; None when nobody.
    """

    first: int
    last: int
    verdict: Verdict
    rule: int
    audit_rule: int | None


@dataclass(frozen=True, slots=True)
class PolicyClass:
    """What a pair may do.

    protocols: number to intervals that cover 0 to 65535; OTHER_PROTOCOLS is always there.
    """

    class_id: ClassId
    protocols: Mapping[int, tuple[Interval, ...]]


Rows = Mapping[Identity, Mapping[Identity, ClassId]]
"""Source to destination to class."""


@dataclass(frozen=True, slots=True)
class CompiledPolicy:
    """One network's policy as the kernel reads it.

    pairs: by direction; holds only what lookup would not find without it.
    classes: exactly those that pairs and defaults refer to. rules: number to name.
    """

    network: str
    number: int
    version: int
    pairs: Mapping[Direction, Rows]
    defaults: Mapping[Direction, ClassId]
    classes: Mapping[ClassId, PolicyClass]
    prefixes: Mapping[IPv6Network, Identity]
    rules: Mapping[int, str]

    def each_pair(self) -> Iterator[tuple[Direction, Identity, Identity, ClassId]]:
        """Yield every pair with its class, in no order."""
        for direction, rows in self.pairs.items():
            for source, row in rows.items():
                for destination, class_id in row.items():
                    yield direction, source, destination, class_id
