"""Random worlds: what one host of the fleet of three may know.

All randomness comes from the caller's Random, which may be one that Hypothesis steers and shrinks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from random import Random

from fleet_of_three import (
    FAR_NS,
    FLEET,
    HOST,
    HOST_IDS,
    INTERFACES,
    LOCATORS,
    MACHINES,
    MESH,
    SECOND_NS,
    at_locator,
    empty_world,
    interface,
)
from oracle.access import OTHER_TIMEOUT_NS, TCP_TIMEOUT_NS
from oracle.packet import ICMPV6, SCTP, TCP, UDP
from oracle.world import World

from netagent.dataplane.abi import EndpointRow, FlowRow, TransitionRow
from netagent.model.addresses import StableId, make_locator

PORTS = (0, 80, 0xFFFF)
LEFT_THE_FLEET = make_locator(FLEET, 2, 9)
PLACES = (*LOCATORS.values(), LEFT_THE_FLEET)
IDS = (*MACHINES, *HOST_IDS.values())
MACHINE_INTERFACES = tuple(sorted(set(INTERFACES.values()) - {MESH, HOST}))

# Ages keep their distance from the time-outs, so that a slow run changes no verdict.
AGES_NS = (
    0,
    SECOND_NS,
    OTHER_TIMEOUT_NS - 60 * SECOND_NS,
    OTHER_TIMEOUT_NS + SECOND_NS,
    TCP_TIMEOUT_NS - 60 * SECOND_NS,
    TCP_TIMEOUT_NS + SECOND_NS,
)


def draw_world(random: Random, host: str, now_ns: int) -> World:
    """Draw what `host` knows: mostly its machines attached and in place, some on the move."""
    base = empty_world(host, now_ns)
    endpoints = _draw_endpoints(random, base)
    located = {stable_id: at_locator(random.choice(PLACES)) for stable_id in _some(random, IDS, 8)}
    in_place = {
        stable_id: at_locator(base.locator) for stable_id in _some(random, tuple(endpoints), 8)
    }
    return replace(
        base,
        locations=located | in_place,
        transitions={stable_id: _draw_move(random, base) for stable_id in _some(random, IDS, 2)},
        endpoints=endpoints,
        flows=_draw_flows(random, base),
    )


def _some(random: Random, ids: tuple[StableId, ...], tenths: int) -> list[StableId]:
    return [stable_id for stable_id in ids if random.randint(1, 10) <= tenths]


def _draw_move(random: Random, base: World) -> TransitionRow:
    deadline_ns = random.choice((FAR_NS, FAR_NS, base.now_ns - SECOND_NS, 0))
    elsewhere = random.choice([place for place in PLACES if place != base.locator])
    places = random.choice(((base.locator, elsewhere), (elsewhere, base.locator), PLACES[1:3]))
    return TransitionRow(places[0], places[1], deadline_ns, 2)


def _draw_endpoints(random: Random, base: World) -> Mapping[StableId, EndpointRow]:
    is_peer = random.choice((True, False))
    rows = {
        machine: interface(machine, random.choice(MACHINE_INTERFACES), is_peer)
        for machine in _some(random, MACHINES, 7)
    }
    own = {
        stable_id: interface(stable_id, HOST, is_peer)
        for stable_id in _some(random, (base.host_id,), 8)
    }
    return rows | own


def _draw_flows(random: Random, base: World) -> Mapping[FlowRow, int]:
    flows = {}
    for _ in range(random.randint(0, 16)):
        protocol = random.choice((TCP, UDP, SCTP, ICMPV6))
        ports = random.choice(PORTS), random.choice(PORTS)
        if protocol == ICMPV6:
            ports = ports[0], ports[0]
        ends = random.choice((base.host_id, *HOST_IDS.values())), random.choice(MACHINES)
        flow = FlowRow(*ends, *ports, protocol)
        flows[flow] = max(1, base.now_ns - random.choice(AGES_NS))
    return flows
