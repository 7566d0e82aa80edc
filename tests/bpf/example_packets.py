"""Packets of the named examples, built by scapy, and one world in which they travel."""

from __future__ import annotations

from dataclasses import replace

from fleet_of_three import (
    ASH,
    BIRCH,
    BLUE_WEB,
    CEDAR,
    FAR_NS,
    HOST,
    HOST_IDS,
    IDENTITIES,
    MESH,
    MTU_BYTES,
    ONE,
    RED_DATABASE,
    RED_WEB,
    THREE,
    TWO,
    Clocks,
    address,
    empty_world,
    interface,
    located,
    moving,
    on_wire,
)
from oracle.flows import TCP_TIMEOUT_NS
from oracle.policies import EntriesJudge
from oracle.world import Arrival, World
from policy_books import BUILT_IN, Policies
from scapy.layers.inet import UDP
from scapy.layers.inet6 import ICMPv6ND_NS, IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from netagent.dataplane.abi_flows import (
    FlowFlag,
    FlowRow,
    FlowStateRow,
    FragmentRow,
    FragmentStateRow,
)
from netagent.model.addresses import GATEWAY_MAC, StableId, machine_mac, make_id

ASH_ID, BIRCH_ID, CEDAR_ID = (HOST_IDS[host] for host in (ASH, BIRCH, CEDAR))
NEIGHBOUR = make_id(1, 1, 10)
MOVED_AWAY = make_id(1, 1, 11)
ARRIVING = make_id(1, 1, 12)
STALE_MOVE = make_id(1, 1, 13)
NOT_ATTACHED = make_id(1, 1, 14)
AT_CEDAR = make_id(1, 1, 15)
DATABASE_HERE = make_id(1, 1, 16)
NOBODY = make_id(1, 1, 99)

GENERATION = 40
ASKED = FlowFlag.ASKED_EGRESS | FlowFlag.ASKED_INGRESS
FORGOTTEN_AGE_NS = TCP_TIMEOUT_NS + 10**9

# What the host has asked RED_WEB, and what it has asked too long ago.
WELCOME = FlowRow(ASH_ID, RED_WEB, 0, 4000, 443, 17)
WELCOME_ECHO = FlowRow(ASH_ID, RED_WEB, 0, 77, 0, 58)
FORGOTTEN = FlowRow(ASH_ID, RED_WEB, 0, 4001, 443, 17)

# The first fragment of a packet from RED_WEB has gone out.
BEGUN = FragmentRow(RED_WEB, RED_DATABASE, 0, 7)


def example_world(clocks: Clocks, policies: Policies = BUILT_IN) -> World:
    """Return what ash knows, under policies in force since generation 40.

    Here: RED_WEB at interface one, NEIGHBOUR and DATABASE_HERE at two, BLUE_WEB at three,
    NOT_ATTACHED nowhere. All of red have the identity of RED_WEB but for the databases.
    At birch: RED_DATABASE. MOVED_AWAY went from here to birch, ARRIVING comes from birch.
    """
    here = (ASH_ID, RED_WEB, NEIGHBOUR, BLUE_WEB, NOT_ATTACHED)
    there = (BIRCH_ID, RED_DATABASE, MOVED_AWAY, ARRIVING, STALE_MOVE)
    afar = (AT_CEDAR, CEDAR_ID)
    places = dict.fromkeys(here, ASH) | dict.fromkeys(there, BIRCH) | dict.fromkeys(afar, CEDAR)
    asked = FlowStateRow(clocks.coarse_ns - 30 * 10**9, GENERATION, ASKED)
    return replace(
        empty_world(ASH, clocks),
        locations={stable_id: located(stable_id, place) for stable_id, place in places.items()}
        | {DATABASE_HERE: replace(located(DATABASE_HERE, ASH), identity=IDENTITIES[RED_DATABASE])},
        transitions={
            MOVED_AWAY: moving(ASH, BIRCH, FAR_NS),
            ARRIVING: moving(BIRCH, ASH, FAR_NS),
            STALE_MOVE: moving(ASH, BIRCH, clocks.boot_ns - 1),
        },
        endpoints={
            ASH_ID: interface(ASH_ID, HOST, is_peer=False),
            RED_WEB: interface(RED_WEB, ONE, is_peer=False),
            NEIGHBOUR: interface(NEIGHBOUR, TWO),
            DATABASE_HERE: interface(DATABASE_HERE, TWO),
            BLUE_WEB: interface(BLUE_WEB, THREE),
            MOVED_AWAY: interface(MOVED_AWAY, TWO),
            ARRIVING: interface(ARRIVING, THREE),
        },
        judge=EntriesJudge(policies),
        generation=GENERATION,
        flows={
            WELCOME: asked,
            WELCOME_ECHO: asked,
            FORGOTTEN: replace(asked, seen_ns=clocks.coarse_ns - FORGOTTEN_AGE_NS),
        },
        fragments={BEGUN: FragmentStateRow(clocks.coarse_ns, GENERATION)},
    )


def ip(source: StableId, destination: StableId | str, **fields: int) -> IPv6:
    """Return an IPv6 header between stable addresses."""
    target = destination if isinstance(destination, str) else str(address(destination))
    return IPv6(src=str(address(source)), dst=target, **fields)


def datagram(size: int = 8, source_port: int = 443, destination_port: int = 4000) -> Packet:
    return UDP(sport=source_port, dport=destination_port) / Raw(b"\x5a" * size)


def sent_by(
    sender: StableId,
    packet: Packet | bytes,
    ifindex: int = ONE,
    mac: bytes | None = None,
    **more: int,
) -> Arrival:
    """Return a frame of `sender`, at interface one unless said otherwise."""
    source_mac = (mac or machine_mac(sender)).hex(":")
    frame = Ether(src=source_mac, dst=GATEWAY_MAC.hex(":"), type=0x86DD)
    return Arrival(bytes(frame) + bytes(packet), ifindex, **more)


def from_wire(
    sender: str, source: StableId, destination: StableId, above: Packet, *, hop_limit: int = 64
) -> Arrival:
    """Return a packet that WireGuard took from host `sender`, for ash."""
    addresses = str(on_wire(sender, source)), str(on_wire(ASH, destination))
    return Arrival(bytes(IPv6(src=addresses[0], dst=addresses[1], hlim=hop_limit) / above), MESH)


def too_big() -> Packet:
    """Return a datagram that makes a packet one byte longer than the MTU."""
    return datagram(MTU_BYTES - 40 - 8 + 1)


def gateway_solicitation(
    source: str, destination: str = "ff02::1:ff00:1", target: str = "fe80::1", hop_limit: int = 255
) -> Packet:
    return IPv6(src=source, dst=destination, hlim=hop_limit) / ICMPv6ND_NS(tgt=target)
