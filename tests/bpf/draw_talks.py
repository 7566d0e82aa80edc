"""Who speaks to whom, and what: drawn so that locations, moves, flows and policies are hit."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv6Address
from random import Random

from draw_flows import ADDRESSES_OUTSIDE
from draw_headers import draw_error, draw_tcp_flags, draw_transport
from draw_worlds import IDS
from fleet_of_three import FLEET
from oracle.packet import ICMPV6, SCTP, TCP, UDP
from oracle.policies import End
from oracle.world import World
from scapy.layers import inet, sctp
from scapy.layers.inet6 import (
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    IPv6,
    IPv6ExtHdrFragment,
)
from scapy.packet import Packet, Raw

from netagent.dataplane.abi_flows import FlowFlag, FlowRow, FlowStateRow
from netagent.model.addresses import Locator, StableId

_LAYERS = {UDP: inet.UDP, SCTP: sctp.SCTP}


@dataclass(frozen=True, slots=True)
class Talk:
    """One packet's ends and what is above IPv6.

    Raw stands for a transport of another protocol: next_header, or anyone's if that is None.
    """

    source: End
    destination: End
    above: Packet
    next_header: int | None = None


def outside(address: IPv6Address) -> End:
    """Return the end that an address outside is."""
    return End(int(address) & (1 << 64) - 1, outside=int(address) >> 64)


def draw_outside(random: Random) -> End:
    return outside(random.choice(ADDRESSES_OUTSIDE))


def address_of(end: End, upper: int = FLEET.prefix_int) -> IPv6Address:
    """Return the address of an end; upper: the upper half for an id."""
    return IPv6Address((upper if end.outside is None else end.outside) << 64 | end.lower)


def draw_talk(random: Random, world: World, sources: list[End], can_leave: bool) -> Talk:
    """Draw a packet of one of `sources`, now and then of nobody.

    Mostly of a known flow, about one, or the rest of a packet in fragments, if there is any.
    can_leave: the destination may be outside.
    """
    kinds = [_of_a_flow, _of_a_flow, _about_a_flow, _rest_of_a_packet]
    if random.randint(0, 9) < 5:
        talk = random.choice(kinds)(random, world, sources)
        if talk is not None:
            return talk
    source = random.choice(sources)
    if random.randint(0, 11) == 0:
        source = End(random.choice((*IDS, StableId(random.getrandbits(64)))))
    destination = End(_draw_destination(random, world))
    if can_leave and random.randint(0, 3) == 0:
        destination = draw_outside(random)
    return Talk(source, destination, draw_transport(random))


def senders_of(world: World, talk: Talk) -> list[Locator]:
    """Return the hosts that may have reason to send this."""
    source, destination = StableId(talk.source.lower), StableId(talk.destination.lower)
    place = world.place_of(source)
    moves = [world.transitions.get(source), world.transitions.get(destination)]
    ends = [end for move in moves if move for end in (move.source, move.destination)]
    return [place, *ends] if place else ends


def _ends(flow: FlowRow) -> tuple[End, End]:
    return End(flow.low), End(flow.high, outside=flow.outside if flow.is_outside else None)


def _draw_flow(
    random: Random, world: World, sources: list[End]
) -> tuple[FlowRow, FlowStateRow, bool] | None:
    """Draw a flow of which one of `sources` is an end, and whether that is the `high` one."""
    found = [
        (flow, state, is_high)
        for flow, state in world.flows.items()
        for is_high in (False, True)
        if _ends(flow)[is_high] in sources
    ]
    return random.choice(found) if found else None


def _of_a_flow(random: Random, world: World, sources: list[End]) -> Talk | None:
    drawn = _draw_flow(random, world, sources)
    if drawn is None:
        return None
    flow, state, is_high = drawn
    low, high = _ends(flow)
    above = _draw_packet_of(random, flow, state, is_high)
    next_header = flow.protocol if isinstance(above, Raw) else None
    if random.randint(0, 9) == 0 and next_header is None:
        offset = random.choice((0, 0, 0, 1))
        above = IPv6ExtHdrFragment(offset=offset, m=random.randint(0, 1), id=7) / above
    return Talk(high, low, above, next_header) if is_high else Talk(low, high, above, next_header)


def _draw_packet_of(random: Random, flow: FlowRow, state: FlowStateRow, is_high: bool) -> Packet:
    ports = (flow.high_port, flow.low_port) if is_high else (flow.low_port, flow.high_port)
    if flow.protocol == ICMPV6:
        asks = bool(state.flags & FlowFlag.FROM_HIGH) == is_high
        if random.randint(0, 7) == 0:
            asks = not asks
        return ICMPv6EchoRequest(id=ports[0]) if asks else ICMPv6EchoReply(id=ports[1])
    if flow.protocol == TCP:
        return inet.TCP(sport=ports[0], dport=ports[1], flags=draw_tcp_flags(random))
    if flow.protocol in _LAYERS:
        return _LAYERS[flow.protocol](sport=ports[0], dport=ports[1])
    return Raw(bytes(8))


def _about_a_flow(random: Random, world: World, sources: list[End]) -> Talk | None:
    """Draw an ICMPv6 error: from the end that was spoken to, from a host, or from a liar."""
    if not world.flows:
        return None
    drawn = _draw_flow(random, world, sources)
    if drawn is None or random.randint(0, 2) == 0:
        flow, state = random.choice(list(world.flows.items()))
        drawn = flow, state, bool(random.randint(0, 1))
    flow, state, is_high = drawn
    low, high = _ends(flow)
    reporter, speaker = (high, low) if is_high else (low, high)
    source = reporter if reporter in sources else random.choice(sources)
    quoted = IPv6(src=str(address_of(speaker)), dst=str(address_of(reporter)))
    packet = _draw_packet_of(random, flow, state, not is_high)
    if isinstance(packet, Raw):
        quoted.nh = flow.protocol
    destination = speaker
    if random.randint(0, 11) == 0:
        destination = End(random.choice(IDS))
    return Talk(source, destination, draw_error(random, bytes(quoted / packet)))


def _rest_of_a_packet(random: Random, world: World, sources: list[End]) -> Talk | None:
    found = [
        (row, is_source_outside)
        for row in world.fragments
        for is_source_outside in {False, row.is_outside}
    ]
    random.shuffle(found)
    for row, is_source_outside in found:
        upper = row.outside if row.is_outside else None
        source = End(row.source, outside=upper if is_source_outside else None)
        destination = End(row.destination, outside=None if is_source_outside else upper)
        if source in sources:
            offset = random.choice((1, 1, 100, 0x1FFF))
            header = IPv6ExtHdrFragment(offset=offset, id=row.identification, nh=UDP)
            return Talk(source, destination, header / Raw(bytes(random.randint(1, 40))))
    return None


def _draw_destination(random: Random, world: World) -> StableId:
    moved = [
        stable_id
        for stable_id, transition in world.transitions.items()
        if transition.source == world.locator != world.place_of(stable_id)
    ]
    return random.choice((*world.locations, *world.transitions, *IDS, world.host_id, *moved * 6))
