"""What a verdict depends on, and what comes out of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from ipaddress import IPv6Address

from netagent.dataplane.abi import EndpointRow, TransitionRow, Verdict
from netagent.dataplane.abi_flows import FlowRow, FlowStateRow, FragmentRow, FragmentStateRow
from netagent.dataplane.abi_policy import RuleRow
from netagent.model.addresses import Fleet, Locator, StableId
from netagent.model.fleet import Location
from oracle.policies import Answer, EntriesJudge, Judge


class Action(IntEnum):
    """What a tc program returns (linux/pkt_cls.h)."""

    OK = 0
    DROP = 2
    REDIRECT = 7


def _no_policies() -> Judge:
    return EntriesJudge({})


def _forwards_nothing(_: IPv6Address) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class World:
    """One host and all that its kernel knows.

    now_ns: CLOCK_BOOTTIME, for deadlines. seen_ns: CLOCK_MONOTONIC coarse, for flows and fragments.
    judge: what policies say. generation: theirs. rule_indices: the places of rules' counters.
    forwards: whether the host's routes forward to an outside address.
    """

    fleet: Fleet
    locator: Locator
    host_id: StableId
    mtu_bytes: int
    mesh_ifindex: int
    now_ns: int
    seen_ns: int
    locations: Mapping[StableId, Location] = field(default_factory=dict)
    transitions: Mapping[StableId, TransitionRow] = field(default_factory=dict)
    endpoints: Mapping[StableId, EndpointRow] = field(default_factory=dict)
    judge: Judge = field(default_factory=_no_policies)
    generation: int = 0
    rule_indices: Mapping[RuleRow, int] = field(default_factory=dict)
    flows: Mapping[FlowRow, FlowStateRow] = field(default_factory=dict)
    fragments: Mapping[FragmentRow, FragmentStateRow] = field(default_factory=dict)
    forwards: Callable[[IPv6Address], bool] = _forwards_nothing

    def place_of(self, stable_id: StableId) -> Locator | None:
        """Return where an id is located, or None."""
        location = self.locations.get(stable_id)
        return location.locator if location else None

    def transition_of(self, stable_id: StableId) -> TransitionRow | None:
        """Return the transition of an id unless its deadline or its move is past."""
        transition = self.transitions.get(stable_id)
        location = self.locations.get(stable_id)
        if transition is None or self.now_ns > transition.deadline_ns:
            return None
        return None if location and transition.epoch < location.epoch else transition


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


class Side(IntEnum):
    """At which end a policy is asked."""

    SENDER = 0
    RECEIVER = 1


class Tally(Enum):
    """What is counted of a rule."""

    ALLOWED = "allowed"
    DENIED = "denied"
    AUDITED = "audited"


@dataclass(frozen=True, slots=True)
class Effects:
    """What a packet leaves behind in the kernel.

    flows, fragments: entries that change; None for one that is forgotten. Those that were seen now
    have the world's `seen_ns`.
    counts: index of a rule, end and tally, for each that counts the packet.
    answers: of an evaluation, in the order in which they were given.
    """

    flows: Mapping[FlowRow, FlowStateRow | None] = field(default_factory=dict)
    fragments: Mapping[FragmentRow, FragmentStateRow] = field(default_factory=dict)
    counts: tuple[tuple[int, Side, Tally], ...] = ()
    answers: tuple[Answer, ...] = ()
    is_new_flow: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """What becomes of a packet.

    verdict: None when it passes uncounted.
    packet: what leaves, from the IPv6 header on; None when nothing does.
    ethernet: the header before it, 14 bytes; None when it goes to the mesh, which has none.
    ifindex: where it leaves; None when nothing does or it goes on as it would have without us.
    is_marked: it leaves through the egress of an interface, whose to_machine must let it pass.
    effects: what else it leaves behind.
    """

    verdict: Verdict | None
    action: Action
    packet: bytes | None = None
    ethernet: bytes | None = None
    ifindex: int | None = None
    is_marked: bool = False
    effects: Effects = field(default_factory=Effects)


class Dropped(Exception):
    """Raised by the first line of the precedence that drops."""

    def __init__(self, verdict: Verdict, effects: Effects | None = None) -> None:
        super().__init__(verdict.label)
        self.verdict = verdict
        self.effects = effects or Effects()
