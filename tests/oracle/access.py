"""Access: who may talk to whom, until policies take this place."""

from __future__ import annotations

from netagent.dataplane.abi import FlowRow, Verdict
from netagent.model.addresses import HOST_NETWORK, network_of
from oracle.packet import ICMPV6, TCP, WITH_PORTS, Packet
from oracle.world import Dropped, World

ECHO_REQUEST, ECHO_REPLY = 128, 129

_SECOND_NS = 1_000_000_000
TCP_TIMEOUT_NS = 7200 * _SECOND_NS
OTHER_TIMEOUT_NS = 120 * _SECOND_NS


def check_access(world: World, packet: Packet) -> FlowRow | None:
    """Return the flow that is to be remembered or renewed, if any; raises Dropped."""
    source, destination = network_of(packet.source.id), network_of(packet.destination.id)
    if source == destination:  # 1.
        return None
    if source == HOST_NETWORK:  # 2.
        return _host_begins(packet)
    if destination == HOST_NETWORK:  # 3.
        return _machine_answers(world, packet)
    raise Dropped(Verdict.DROP_ISOLATED)  # 4.


def _host_begins(packet: Packet) -> FlowRow | None:
    if packet.is_fragment:
        raise Dropped(Verdict.DROP_FRAGMENT)
    if packet.is_icmp_error:
        return None
    ports = _ports(packet, ECHO_REQUEST)
    if ports is None:
        raise Dropped(Verdict.DROP_HOST_CLOSED)
    return FlowRow(packet.source.id, packet.destination.id, *ports, packet.protocol)


def _machine_answers(world: World, packet: Packet) -> FlowRow:
    if packet.is_fragment:
        raise Dropped(Verdict.DROP_FRAGMENT)
    ports = _ports(packet, ECHO_REPLY)
    if ports is None:
        raise Dropped(Verdict.DROP_HOST_CLOSED)
    answered = FlowRow(packet.destination.id, packet.source.id, ports[1], ports[0], packet.protocol)
    seen_ns = world.flows.get(answered)
    timeout_ns = TCP_TIMEOUT_NS if packet.protocol == TCP else OTHER_TIMEOUT_NS
    if seen_ns is None or world.now_ns - seen_ns > timeout_ns:
        raise Dropped(Verdict.DROP_HOST_CLOSED)
    return answered


def _ports(packet: Packet, echo: int) -> tuple[int, int] | None:
    """Return source and destination port; for an ICMPv6 message of type `echo` its identifier."""
    if packet.protocol in WITH_PORTS:
        first, second = packet.transport[0:2], packet.transport[2:4]
        return int.from_bytes(first, "big"), int.from_bytes(second, "big")
    if packet.protocol == ICMPV6 and packet.icmp_type == echo:
        identifier = int.from_bytes(packet.transport[4:6], "big")
        return identifier, identifier
    return None
