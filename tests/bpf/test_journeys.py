"""End to end: what one host's program sends, another's restores, byte for byte."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from draw_headers import draw_transport
from fleet_of_three import (
    ASH,
    BIRCH,
    CEDAR,
    HOST,
    HOST_IDS,
    LAST,
    MESH,
    MTU_BYTES,
    ONE,
    RED_DATABASE,
    RED_LAST,
    RED_WEB,
    address,
    empty_world,
    interface,
    located,
    moving,
)
from host_under_test import HostUnderTest, read_clocks
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from oracle.answers import ethernet
from oracle.packet import ICMPV6, SCTP, TCP, UDP
from oracle.policies import EntriesJudge
from oracle.world import Action, Arrival, World
from policy_books import BUILT_IN
from scapy.layers.inet6 import IPv6, in6_chksum
from scapy.layers.l2 import Ether

from netagent.dataplane.abi import Verdict
from netagent.model.addresses import GATEWAY_MAC, StableId, machine_mac

pytestmark = pytest.mark.root

ETHERNET_BYTES = 14
TCP_FLAGS = 40 + 13
WITH_CHECKSUM = {TCP, UDP, ICMPV6}
PORTS = {TCP, UDP, SCTP}
SETTINGS = settings(
    deadline=None, database=None, max_examples=150, suppress_health_check=list(HealthCheck)
)


def world_of(host: str, where: dict[StableId, str]) -> World:
    """Return what `host` knows when everything is in its place."""
    ports = {stable_id: HOST if stable_id in HOST_IDS.values() else ONE for stable_id in where}
    return replace(
        empty_world(host, read_clocks()),
        locations={stable_id: located(stable_id, place) for stable_id, place in where.items()},
        endpoints={
            stable_id: interface(stable_id, ports[stable_id])
            for stable_id, place in where.items()
            if place == host
        },
        judge=EntriesJudge(BUILT_IN),
    )


def frame(source: StableId, packet: bytes) -> Arrival:
    """Return a packet as it comes out of the interface of a machine or of the host's own stack."""
    header = bytes(Ether(src=machine_mac(source).hex(":"), dst=GATEWAY_MAC.hex(":"), type=0x86DD))
    return Arrival(header + packet, HOST if source in HOST_IDS.values() else ONE)


def draw_packet(
    random: Random, source: StableId, destination: StableId, protocols: set[int]
) -> bytes:
    """Draw a packet of one of these protocols that is small enough to be carried."""
    while True:
        header = IPv6(src=str(address(source)), dst=str(address(destination)), hlim=64)
        packet = bytes(header / draw_transport(random))
        is_refused = packet[6] == ICMPV6 and (
            packet[40] not in (1, 2, 3, 4, 128, 129) or len(packet) < 48
        )
        if packet[6] in protocols and not is_refused and len(packet) <= MTU_BYTES:
            return packet


def assert_checksum_verifies(packet: bytes) -> None:
    """Assert that the transport's checksum is right for the addresses as they now stand."""
    parsed = IPv6(packet)
    if parsed.nh not in WITH_CHECKSUM:
        return
    payload = packet[40 : 40 + parsed.plen]
    if parsed.nh == UDP and payload[6:8] == b"\0\0":
        return
    assert in6_chksum(parsed.nh, parsed, payload) in (0, 0xFFFF)


@SETTINGS
@given(random=st.randoms(use_true_random=False))
def test_a_packet_arrives_as_it_was_sent(hosts: dict[str, HostUnderTest], random: Random) -> None:
    source, destination = random.sample((RED_WEB, RED_DATABASE, RED_LAST), 2)
    where = {source: ASH, destination: BIRCH}
    for host in (ASH, BIRCH):
        hosts[host].fill(world_of(host, where))
    sent = draw_packet(random, source, destination, PORTS | {ICMPV6})
    encoded = hosts[ASH].run("from_machine", frame(source, sent))
    assert encoded.action == Action.REDIRECT
    assert set(encoded.counted) == {Verdict.PASS_TO_MESH}
    on_wire = encoded.data[ETHERNET_BYTES:]
    assert len(on_wire) == len(sent)
    assert_checksum_verifies(on_wire)

    restored = hosts[BIRCH].run("from_mesh", Arrival(on_wire, MESH))
    assert set(restored.counted) == {Verdict.PASS_FROM_MESH}
    assert restored.data == ethernet(machine_mac(destination)) + sent
    assert_checksum_verifies(restored.data[ETHERNET_BYTES:])


@SETTINGS
@given(random=st.randoms(use_true_random=False))
def test_a_packet_that_the_old_host_forwards_loses_one_hop_and_nothing_else(
    hosts: dict[str, HostUnderTest], random: Random
) -> None:
    """The sender's host has not heard of the move; source and new host have."""
    source, destination = RED_WEB, RED_DATABASE
    before = {source: ASH, destination: BIRCH}
    after = before | {destination: CEDAR}
    move = {destination: moving(BIRCH, CEDAR)}
    hosts[ASH].fill(world_of(ASH, before))
    hosts[BIRCH].fill(replace(world_of(BIRCH, after), transitions=move))
    hosts[CEDAR].fill(replace(world_of(CEDAR, after), transitions=move))
    sent = draw_packet(random, source, destination, PORTS | {ICMPV6})

    encoded = hosts[ASH].run("from_machine", frame(source, sent))
    forwarded = hosts[BIRCH].run("from_mesh", Arrival(encoded.data[ETHERNET_BYTES:], MESH))
    assert set(forwarded.counted) == {Verdict.PASS_FORWARDED}
    assert_checksum_verifies(forwarded.data)
    restored = hosts[CEDAR].run("from_mesh", Arrival(forwarded.data, MESH))

    assert set(restored.counted) == {Verdict.PASS_FROM_MESH}
    expected = sent[:7] + bytes([sent[7] - 1]) + sent[8:]
    assert restored.data == ethernet(machine_mac(destination)) + expected


@SETTINGS
@given(random=st.randoms(use_true_random=False))
def test_a_host_talks_to_a_machine_and_hears_its_answer_and_nobody_elses(
    hosts: dict[str, HostUnderTest], random: Random
) -> None:
    host_id, machine = HOST_IDS[ASH], random.choice((RED_WEB, LAST))
    where = {host_id: ASH, machine: BIRCH}
    for host in (ASH, BIRCH):
        hosts[host].fill(world_of(host, where))
    question = draw_packet(random, host_id, machine, PORTS)
    answer = draw_packet(random, machine, host_id, PORTS)
    swapped_ports = question[42:44] + question[40:42]
    answer = answer[:6] + question[6:7] + answer[7:40] + swapped_ports + answer[44:]
    if len(answer) > TCP_FLAGS:  # A SYN would begin anew.
        answer = answer[:TCP_FLAGS] + b"\x10" + answer[TCP_FLAGS + 1 :]

    closed = hosts[BIRCH].run("from_machine", frame(machine, answer))
    assert set(closed.counted) == {Verdict.DROP_DENIED_EGRESS}

    there = hosts[ASH].run("from_host", frame(host_id, question))
    delivered = hosts[BIRCH].run("from_mesh", Arrival(there.data[ETHERNET_BYTES:], MESH))
    assert delivered.data[ETHERNET_BYTES:] == question

    back = hosts[BIRCH].run("from_machine", frame(machine, answer))
    heard = hosts[ASH].run("from_mesh", Arrival(back.data[ETHERNET_BYTES:], MESH))
    assert set(heard.counted) == {Verdict.PASS_TO_HOST}
    assert heard.data[ETHERNET_BYTES:] == answer
