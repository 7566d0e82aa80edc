"""Who speaks to whom, and what: drawn so that locations, moves and remembered flows are hit."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from draw_headers import draw_transport
from draw_worlds import IDS
from oracle.packet import ICMPV6, SCTP, TCP, UDP
from oracle.world import World
from scapy.layers import inet, sctp
from scapy.layers.inet6 import ICMPv6EchoReply
from scapy.packet import Packet

from netagent.dataplane.abi import FlowRow
from netagent.model.addresses import Locator, StableId

_LAYERS = {TCP: inet.TCP, UDP: inet.UDP, SCTP: sctp.SCTP}


@dataclass(frozen=True, slots=True)
class Talk:
    """One packet's ends and its transport; Raw stands for one of another protocol."""

    source: StableId
    destination: StableId
    transport: Packet


def draw_talk(random: Random, world: World, sources: list[StableId]) -> Talk:
    """Draw a packet of one of `sources`, now and then of nobody, or an answer to a flow."""
    answerable = [flow for flow in world.flows if flow.destination in sources]
    if answerable and random.randint(0, 4) == 0:
        flow = random.choice(answerable)
        return Talk(flow.destination, flow.source, _answer(flow))
    source = random.choice(sources)
    if random.randint(0, 11) == 0:
        source = random.choice((*IDS, StableId(random.getrandbits(64))))
    return Talk(source, _draw_destination(random, world), draw_transport(random))


def senders_of(world: World, talk: Talk) -> list[Locator]:
    """Return the hosts that may have reason to send this."""
    place = world.place_of(talk.source)
    moves = [world.transitions.get(talk.source), world.transitions.get(talk.destination)]
    ends = [end for move in moves if move for end in (move.source, move.destination)]
    return [place, *ends] if place else ends


def _answer(flow: FlowRow) -> Packet:
    if flow.protocol == ICMPV6:
        return ICMPv6EchoReply(id=flow.source_port)
    return _LAYERS[flow.protocol](sport=flow.destination_port, dport=flow.source_port)


def _draw_destination(random: Random, world: World) -> StableId:
    moved = [
        stable_id
        for stable_id, transition in world.transitions.items()
        if transition.source == world.locator != world.place_of(stable_id)
    ]
    return random.choice((*world.locations, *world.transitions, *IDS, world.host_id, *moved * 6))
