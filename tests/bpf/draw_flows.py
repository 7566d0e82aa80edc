"""Random known flows and first fragments, in every state and at every age that matters."""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from ipaddress import IPv6Address
from operator import or_
from random import Random

from fleet_of_three import HOST_IDS, MACHINES, SECOND_NS
from oracle.flows import (
    CLOSED_TIMEOUT_NS,
    ECHO_REQUEST,
    FRAGMENT_TIMEOUT_NS,
    NO_FLAGS,
    OTHER_TIMEOUT_NS,
    TCP_TIMEOUT_NS,
    UNANSWERED_TIMEOUT_NS,
    Talk,
    talk_of,
)
from oracle.packet import ICMPV6, SCTP, TCP, UDP
from oracle.policies import End
from oracle.world import World

from netagent.dataplane.abi_flows import (
    FlowFlag,
    FlowRow,
    FlowStateRow,
    FragmentRow,
    FragmentStateRow,
)

# At the edges of what the policies of `policy_books` say, and beyond.
PORTS = (0, 79, 80, 81, 82, 443, 4000, 4001, 0xFFFF)
IDENTIFICATIONS = (0, 7, 0xFFFFFFFF)
ADDRESSES_OUTSIDE = tuple(
    IPv6Address(text)
    for text in (
        "2001:db8::",
        "2001:db8:1::1",
        "2001:db8:5::1",
        "2001:db8:bad::",
        "2001:db8:bad:ffff:ffff:ffff:ffff:ffff",
        "2001:db8:bae::",
        "2001:db8:dead::1",
        "2001:db7:ffff:ffff:ffff:ffff:ffff:ffff",
        "2001:db9::",
        "2a00::1",
        "fd4e:6574:6167:2::1",
    )
)

# Ages keep their distance below the time-outs, so that a slow run changes no verdict. On a machine
# that has just booted, the older ones lie before the boot.
AGES_NS = (
    0,
    SECOND_NS,
    CLOSED_TIMEOUT_NS - 20 * SECOND_NS,
    CLOSED_TIMEOUT_NS + SECOND_NS,
    UNANSWERED_TIMEOUT_NS - 20 * SECOND_NS,
    UNANSWERED_TIMEOUT_NS + SECOND_NS,
    OTHER_TIMEOUT_NS - 20 * SECOND_NS,
    OTHER_TIMEOUT_NS + SECOND_NS,
    TCP_TIMEOUT_NS - 60 * SECOND_NS,
    TCP_TIMEOUT_NS + SECOND_NS,
)


def draw_flows(random: Random, base: World) -> Mapping[FlowRow, FlowStateRow]:
    """Draw flows between ids, and between machines and addresses outside."""
    return dict(_draw_flow(random, base) for _ in range(random.randint(0, 16)))


def _draw_flow(random: Random, base: World) -> tuple[FlowRow, FlowStateRow]:
    source, destination = _draw_ends(random, base)
    protocol = random.choice((TCP, TCP, TCP, UDP, UDP, SCTP, ICMPV6, ICMPV6, 50))
    talk = talk_of(source, destination, protocol, _draw_transport(random, protocol))
    assert talk is not None
    return talk.flow, _draw_state(random, base, talk)


def _draw_ends(random: Random, base: World) -> tuple[End, End]:
    ids = (*MACHINES, base.host_id, *HOST_IDS.values())
    near, far = End(random.choice(MACHINES)), End(random.choice(ids))
    if random.randint(0, 3) == 0:
        address = int(random.choice(ADDRESSES_OUTSIDE))
        far = End(address & (1 << 64) - 1, outside=address >> 64)
    return (near, far) if random.randint(0, 1) else (far, near)


def _draw_transport(random: Random, protocol: int) -> bytes:
    """Draw what begins a flow of a protocol, 8 bytes."""
    first, second = (random.choice(PORTS).to_bytes(2, "big") for _ in range(2))
    if protocol == ICMPV6:
        return bytes((ECHO_REQUEST, 0, 0, 0)) + first + bytes(2)
    return first + second + bytes(4)


def _draw_state(random: Random, base: World, talk: Talk) -> FlowStateRow:
    others = (FlowFlag.FIN_LOW, FlowFlag.FIN_HIGH, FlowFlag.RESET)
    flags = [
        random.choice((FlowFlag.ANSWERED, FlowFlag.ANSWERED, NO_FLAGS)),
        random.choice((FlowFlag.ASKED_EGRESS, FlowFlag.ASKED_EGRESS, NO_FLAGS)),
        random.choice((FlowFlag.ASKED_INGRESS, FlowFlag.ASKED_INGRESS, NO_FLAGS)),
        *(flag for flag in others if random.randint(0, 3) == 0),
    ]
    if talk.is_from_high:
        flags.append(FlowFlag.FROM_HIGH)
    rules = (0, *base.rule_indices.values())
    return FlowStateRow(
        base.seen_ns - random.choice(AGES_NS),
        random.choice((base.generation, base.generation, base.generation ^ 1)),
        reduce(or_, flags, NO_FLAGS),
        *(random.choice(rules) for _ in range(4)),
    )


def draw_fragments(random: Random, base: World) -> Mapping[FragmentRow, FragmentStateRow]:
    """Draw first fragments that were allowed."""
    ages_ns = (0, FRAGMENT_TIMEOUT_NS - 20 * SECOND_NS, FRAGMENT_TIMEOUT_NS + SECOND_NS)
    rules = (0, *base.rule_indices.values())
    found = {}
    for _ in range(random.randint(0, 6)):
        source, destination = _draw_ends(random, base)
        outside = source.outside if source.outside is not None else destination.outside
        row = FragmentRow(
            source.lower,
            destination.lower,
            outside or 0,
            random.choice(IDENTIFICATIONS),
            outside is not None,
        )
        found[row] = FragmentStateRow(
            base.seen_ns - random.choice(ages_ns),
            random.choice((base.generation, base.generation, base.generation ^ 1)),
            random.choice(rules),
            random.choice(rules),
        )
    return found
