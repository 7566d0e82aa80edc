"""Random worlds: what one host of the fleet of three may know.

All randomness comes from the caller's Random, which may be one that Hypothesis steers and shrinks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from random import Random

from draw_flows import draw_flows, draw_fragments
from fleet_of_three import (
    FAR_NS,
    FLEET,
    HOST,
    HOST_IDS,
    INTERFACES,
    LOCATORS,
    MACHINES,
    MESH,
    MOVE,
    SECOND_NS,
    Clocks,
    at_locator,
    empty_world,
    interface,
)
from oracle.policies import EntriesJudge
from oracle.world import World
from policy_books import Policies

from netagent.dataplane.abi import EndpointRow, TransitionRow
from netagent.dataplane.abi_policy import RuleRow
from netagent.model.addresses import StableId, make_locator
from netagent.model.fleet import Identity, Location

LEFT_THE_FLEET = make_locator(FLEET, 2, 9)
PLACES = (*LOCATORS.values(), LEFT_THE_FLEET)
IDS = (*MACHINES, *HOST_IDS.values())
MACHINE_INTERFACES = tuple(sorted(set(INTERFACES.values()) - {MESH, HOST}))
GENERATION = 7
NEW_IDENTITY = Identity(999)


def draw_world(
    random: Random,
    host: str,
    clocks: Clocks,
    policies: Policies,
    rule_indices: Mapping[RuleRow, int],
) -> World:
    """Draw what `host` knows: mostly its machines attached and in place, some on the move.

    rule_indices: where the rules of `policies` are counted.
    """
    base = replace(
        empty_world(host, clocks),
        judge=EntriesJudge(policies),
        generation=random.choice((GENERATION, GENERATION, 0, 0xFFFFFFFF)),
        rule_indices=rule_indices,
    )
    endpoints = _draw_endpoints(random, base)
    located = {
        stable_id: _draw_location(random, stable_id, random.choice(PLACES))
        for stable_id in _some(random, IDS, 8)
    }
    in_place = {
        stable_id: _draw_location(random, stable_id, base.locator)
        for stable_id in _some(random, tuple(endpoints), 8)
    }
    return replace(
        base,
        locations=located | in_place,
        transitions={stable_id: _draw_move(random, base) for stable_id in _some(random, IDS, 2)},
        endpoints=endpoints,
        flows=draw_flows(random, base),
        fragments=draw_fragments(random, base),
    )


def _some(random: Random, ids: tuple[StableId, ...], tenths: int) -> list[StableId]:
    return [stable_id for stable_id in ids if random.randint(1, 10) <= tenths]


def _draw_location(random: Random, stable_id: StableId, place: int) -> Location:
    """Draw a location: mostly with the identity it has in policies, else one just given out.

    Its epoch is that before, after, or long after a move that is drawn.
    """
    found = replace(at_locator(stable_id, place), epoch=random.choice((1, 1, MOVE, MOVE, MOVE + 1)))
    return found if random.randint(0, 15) else replace(found, identity=NEW_IDENTITY)


def _draw_move(random: Random, base: World) -> TransitionRow:
    deadline_ns = random.choice((FAR_NS, FAR_NS, base.now_ns - SECOND_NS, 0))
    elsewhere = random.choice([place for place in PLACES if place != base.locator])
    places = random.choice(((base.locator, elsewhere), (elsewhere, base.locator), PLACES[1:3]))
    return TransitionRow(places[0], places[1], deadline_ns, MOVE)


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
