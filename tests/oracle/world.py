"""What a verdict depends on, and what comes out of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum

from netagent.dataplane.abi import EndpointRow, FlowRow, TransitionRow, Verdict
from netagent.model.addresses import Fleet, Locator, StableId
from netagent.model.fleet import Location


class Action(IntEnum):
    """What a tc program returns (linux/pkt_cls.h)."""

    OK = 0
    DROP = 2
    REDIRECT = 7


@dataclass(frozen=True, slots=True)
class World:
    """One host and all that its kernel knows.

    now_ns: CLOCK_BOOTTIME. flows: when each was last seen, on the same clock.
    """

    fleet: Fleet
    locator: Locator
    host_id: StableId
    mtu_bytes: int
    mesh_ifindex: int
    now_ns: int
    locations: Mapping[StableId, Location] = field(default_factory=dict)
    transitions: Mapping[StableId, TransitionRow] = field(default_factory=dict)
    endpoints: Mapping[StableId, EndpointRow] = field(default_factory=dict)
    flows: Mapping[FlowRow, int] = field(default_factory=dict)

    def place_of(self, stable_id: StableId) -> Locator | None:
        """Return where an id is located, or None."""
        location = self.locations.get(stable_id)
        return location.locator if location else None

    def transition_of(self, stable_id: StableId) -> TransitionRow | None:
        """Return the transition of an id unless its deadline is past."""
        transition = self.transitions.get(stable_id)
        return transition if transition and self.now_ns <= transition.deadline_ns else None


@dataclass(frozen=True, slots=True)
class Arrival:
    """A packet as a program meets it.

    data: from the Ethernet header on, for from_mesh from the IPv6 header on.
    gso_size: payload bytes of a segment, 0 when the packet is one.
    """

    data: bytes
    ifindex: int
    mark: int = 0
    gso_size: int = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What becomes of a packet.

    verdict: None when it passes uncounted.
    packet: what leaves, from the IPv6 header on; None when nothing does.
    ethernet: the header before it, 14 bytes; None when it goes to the mesh, which has none.
    ifindex: where it leaves; None when nothing does or it goes on as it would have without us.
    is_marked: it leaves through the egress of an interface, whose to_machine must let it pass.
    remembered: the flow that counts as seen now.
    """

    verdict: Verdict | None
    action: Action
    packet: bytes | None = None
    ethernet: bytes | None = None
    ifindex: int | None = None
    is_marked: bool = False
    remembered: FlowRow | None = None


class Dropped(Exception):
    """Raised by the first line of the precedence that drops."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict.label)
        self.verdict = verdict
