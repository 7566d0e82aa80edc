"""The four programs, line by line as docs/architecture.md numbers them."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv6Address

from netagent.dataplane.abi import MARK_DECIDED, Verdict
from netagent.model.addresses import Locator, StableId
from oracle import answers
from oracle.access import check_access
from oracle.packet import TCP, Packet, parse_packet
from oracle.policies import End
from oracle.world import Action, Arrival, Dropped, Outcome, World

ETHERNET_BYTES = 14
UDP_HEADER_BYTES = 8
_NEIGHBOUR_DISCOVERY = frozenset({*range(130, 138), 143})


def decide(world: World, program: str, arrival: Arrival) -> Outcome:
    """Return what `program` does to a packet. Pure."""
    try:
        return _PROGRAMS[program](world, arrival)
    except Dropped as dropped:
        return Outcome(dropped.verdict, Action.DROP, effects=dropped.effects)


def _from_machine(world: World, arrival: Arrival) -> Outcome:
    return _send(world, arrival, is_host=False)


def _from_host(world: World, arrival: Arrival) -> Outcome:
    return _send(world, arrival, is_host=True)


def _send(world: World, arrival: Arrival, is_host: bool) -> Outcome:
    source_mac, ethertype = arrival.data[6:12], arrival.data[12:14]
    if ethertype != answers.ETHERTYPE_IPV6:  # 1.
        raise Dropped(Verdict.DROP_NOT_IPV6)
    packet = parse_packet(arrival.data[ETHERNET_BYTES:])  # 2, 3.
    if answers.asks_for_gateway(packet):  # 4.
        answer = answers.neighbour_advertisement(packet.source)
        return _answer(Verdict.PASS_NEIGHBOUR_ANSWERED, answer, source_mac, arrival.ifindex)
    _check_off_link(packet)
    is_to_outside = not packet.destination.is_within(world.fleet)
    if is_host and not packet.source.is_within(world.fleet):  # 6.
        return _enter(world, packet, source_mac, arrival)
    _check_sender(world, packet, source_mac, arrival.ifindex)
    source = End(packet.source.lower, is_here=True)
    if is_to_outside:  # 9.
        if is_host:
            raise Dropped(Verdict.DROP_OUTSIDE)
        return _leave(world, packet, source, arrival)
    _check_no_neighbour_discovery(packet)  # 10.
    place = world.place_of(packet.destination.id)
    if place is None:  # 11.
        raise Dropped(Verdict.DROP_UNKNOWN_DESTINATION)
    return _carry(world, packet, source, place, source_mac, arrival)


def _carry(
    world: World, packet: Packet, source: End, place: Locator, source_mac: bytes, arrival: Arrival
) -> Outcome:
    """Lines 12 to 15."""
    destination = End(packet.destination.lower, is_here=place == world.locator)
    effects = check_access(world, packet, source, destination)  # 12.
    if _longest_bytes(packet, arrival.gso_size) > world.mtu_bytes:  # 13.
        outcome = _too_big(world, packet, source_mac, arrival.ifindex)
    elif destination.is_here:  # 14.
        verdict = Verdict.PASS_TO_LOCAL_MACHINE
        outcome = _deliver(world, packet.destination.id, packet.raw, verdict)
    else:  # 15.
        outcome = _to_mesh(world, Verdict.PASS_TO_MESH, packet.readdress(world.locator, place))
    return replace(outcome, effects=effects)


def _check_off_link(packet: Packet) -> None:
    source, destination = packet.source, packet.destination
    for address in (source, destination):  # 5.
        if address.is_multicast or address.is_link_local:
            raise Dropped(Verdict.DROP_LINK_LOCAL)
    if source.is_unspecified:  # 5.
        raise Dropped(Verdict.DROP_LINK_LOCAL)


def _check_sender(world: World, packet: Packet, source_mac: bytes, ifindex: int) -> None:
    source = packet.source
    endpoint = world.endpoints.get(source.id)
    if not source.is_within(world.fleet) or endpoint is None or endpoint.ifindex != ifindex:  # 6.
        raise Dropped(Verdict.DROP_SPOOFED_ADDRESS)
    if endpoint.mac != source_mac:  # 7.
        raise Dropped(Verdict.DROP_SPOOFED_MAC)
    if world.place_of(source.id) != world.locator:  # 8.
        raise Dropped(Verdict.DROP_NOT_LOCATED_HERE)


def _enter(world: World, packet: Packet, source_mac: bytes, arrival: Arrival) -> Outcome:
    """From outside, by the host: line 6."""
    if not packet.destination.is_within(world.fleet):
        raise Dropped(Verdict.DROP_OUTSIDE)
    _check_no_neighbour_discovery(packet)
    if world.place_of(packet.destination.id) != world.locator:
        raise Dropped(Verdict.DROP_OUTSIDE)
    source = End(packet.source.lower, outside=packet.source.upper)
    return _carry(world, packet, source, world.locator, source_mac, arrival)


def _leave(world: World, packet: Packet, source: End, arrival: Arrival) -> Outcome:
    """To the outside, from a machine: line 9."""
    destination = End(packet.destination.lower, outside=packet.destination.upper)
    effects = check_access(world, packet, source, destination)
    if not world.forwards(IPv6Address(packet.destination.pack())):
        raise Dropped(Verdict.DROP_OUTSIDE, effects)
    ethernet = arrival.data[:ETHERNET_BYTES]
    return Outcome(
        Verdict.PASS_TO_OUTSIDE, Action.OK, packet.raw, ethernet=ethernet, effects=effects
    )


def _from_mesh(world: World, arrival: Arrival) -> Outcome:
    packet = parse_packet(arrival.data)  # 1.
    sender = Locator(packet.source.upper)
    is_locator = sender >> 48 == world.fleet.locator_top
    if packet.destination.upper != world.locator or not is_locator:  # 2.
        raise Dropped(Verdict.DROP_NOT_ENCODED)
    source_id, destination_id = packet.source.id, packet.destination.id
    if not _may_come_from(world, source_id, destination_id, sender):  # 3.
        raise Dropped(Verdict.DROP_SOURCE_NOT_AT_SENDER)
    _check_no_neighbour_discovery(packet)  # 4.
    place = world.place_of(destination_id)
    transition = world.transition_of(destination_id)
    if place is None:  # 5.
        raise Dropped(Verdict.DROP_DESTINATION_NOT_HERE)
    is_staged_here = transition is not None and transition.destination == world.locator
    if place != world.locator and not is_staged_here:  # 5.
        if transition is None or transition.source != world.locator:
            raise Dropped(Verdict.DROP_DESTINATION_NOT_HERE)
        return _forward(world, packet, place)
    source, destination = End(packet.source.lower), End(packet.destination.lower, is_here=True)
    effects = check_access(world, packet, source, destination)  # 6.
    restored = packet.readdress(world.fleet.prefix_int, world.fleet.prefix_int)  # 7.
    outcome = _deliver(world, destination_id, restored, Verdict.PASS_FROM_MESH)
    return replace(outcome, effects=effects)


def _may_come_from(
    world: World, source_id: StableId, destination_id: StableId, sender: Locator
) -> bool:
    place = world.place_of(source_id)
    if place is None:
        return False
    if place == sender:
        return True
    moving = world.transition_of(source_id)
    if moving is not None and sender in (moving.source, moving.destination):
        return True
    awaited = world.transition_of(destination_id)
    return awaited is not None and (awaited.source, awaited.destination) == (sender, world.locator)


def _forward(world: World, packet: Packet, place: Locator) -> Outcome:
    if packet.hop_limit <= 1:
        raise Dropped(Verdict.DROP_HOP_LIMIT)
    rewritten = bytearray(packet.readdress(world.locator, place))
    rewritten[7] -= 1
    return _to_mesh(world, Verdict.PASS_FORWARDED, bytes(rewritten))


def _to_machine(world: World, arrival: Arrival) -> Outcome:
    if arrival.mark == MARK_DECIDED:  # 1.
        packet = arrival.data[ETHERNET_BYTES:]
        return Outcome(None, Action.OK, packet, arrival.data[:ETHERNET_BYTES])
    raise Dropped(Verdict.DROP_OUTSIDE)  # 2.


def _check_no_neighbour_discovery(packet: Packet) -> None:
    if packet.icmp_type in _NEIGHBOUR_DISCOVERY:
        raise Dropped(Verdict.DROP_NEIGHBOUR_DISCOVERY)


def _longest_bytes(packet: Packet, gso_size: int) -> int:
    """Return the length of the packet, or of its longest segment, from the IPv6 header on."""
    if gso_size == 0:
        return len(packet.raw)
    is_tcp = packet.protocol == TCP
    transport_header_bytes = 4 * (packet.transport[12] >> 4) if is_tcp else UDP_HEADER_BYTES
    segment_bytes = packet.transport_offset + transport_header_bytes + gso_size
    return min(segment_bytes, len(packet.raw))


def _too_big(world: World, packet: Packet, asker_mac: bytes, ifindex: int) -> Outcome:
    answer = answers.packet_too_big(packet, world.mtu_bytes)
    if answer is None:
        return Outcome(Verdict.DROP_TOO_BIG, Action.DROP)
    return _answer(Verdict.DROP_TOO_BIG, answer, asker_mac, ifindex)


def _answer(verdict: Verdict, packet: bytes, asker_mac: bytes, ifindex: int) -> Outcome:
    ethernet = answers.ethernet(asker_mac)
    return Outcome(verdict, Action.REDIRECT, packet, ethernet, ifindex, is_marked=True)


def _deliver(world: World, destination_id: StableId, packet: bytes, verdict: Verdict) -> Outcome:
    endpoint = world.endpoints.get(destination_id)
    if endpoint is None:
        return Outcome(Verdict.DROP_NO_ENDPOINT, Action.DROP)
    is_host = destination_id == world.host_id
    if is_host:
        verdict = Verdict.PASS_TO_HOST
    return Outcome(
        verdict,
        Action.REDIRECT,
        packet,
        answers.ethernet(endpoint.mac),
        endpoint.ifindex,
        is_marked=not endpoint.is_peer and not is_host,
    )


def _to_mesh(world: World, verdict: Verdict, packet: bytes) -> Outcome:
    return Outcome(verdict, Action.REDIRECT, packet, ifindex=world.mesh_ifindex)


_PROGRAMS = {
    "from_machine": _from_machine,
    "from_host": _from_host,
    "from_mesh": _from_mesh,
    "to_machine": _to_machine,
}
