"""Random packets, drawn from a world's own ids so that its entries are hit.

Honest ones, spoofed ones, and ones bent out of shape; built by scapy, with right checksums unless
bent. All randomness comes from the caller's Random.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random

from draw_headers import draw_extension_headers
from draw_talks import Talk, address_of, draw_outside, draw_talk, senders_of
from draw_worlds import IDS, PLACES
from fleet_of_three import INTERFACES, MACHINES, MESH, MTU_BYTES
from oracle.policies import End
from oracle.programs import ETHERNET_BYTES
from oracle.world import Arrival, World
from scapy.layers.inet6 import ICMPv6ND_NS, ICMPv6NDOptSrcLLAddr, IPv6, IPv6ExtHdrDestOpt
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from netagent.dataplane.abi import MARK_DECIDED
from netagent.model.addresses import GATEWAY_MAC, machine_mac

FOREIGN = (
    "::",
    "::1",
    "fe80::1",
    "fe80::2:3",
    "febf::1",
    "fec0::1",
    "ff02::1",
    "ff02::2",
    "ff02::1:ff00:1",
    "ff0e::9",
    "2001:db8::1",
    "fd4e:6574:6167:2::1",
    "fc1a::1",
)
# Test runs refuse shorter ones; test_real_interfaces.py sends those through an interface.
IPV6_FRAME_BYTES_MIN = 54
HOW_BENT = (*["whole"] * 18, "cut", "padded", "changed", "header", "shortened", "tagged")
WITHOUT_PORTS = (4, 6, 17, 41, 50, 51, 58, 59, 132, 200)


def draw_from_machine(random: Random, world: World) -> Arrival:
    """Draw a frame at the ingress of a machine's interface."""
    machines = [stable_id for stable_id in world.endpoints if stable_id != world.host_id]
    return _draw_frame(random, world, [End(one) for one in machines or MACHINES])


def draw_from_host(random: Random, world: World) -> Arrival:
    """Draw a frame at the ingress of the host's own interface."""
    return _draw_frame(random, world, [End(world.host_id), *_visitors(random, world)])


def _visitors(random: Random, world: World) -> list[End]:
    """Return some addresses outside, those among them that machines know."""
    known = [End(flow.high, outside=flow.outside) for flow in world.flows if flow.is_outside]
    return [draw_outside(random), *known]


def _draw_frame(random: Random, world: World, senders: list[End]) -> Arrival:
    talk = draw_talk(random, world, senders, can_leave=True)
    endpoint = world.endpoints.get(talk.source.id or world.host_id)
    if endpoint and random.randint(0, 9):
        ifindex, mac = endpoint.ifindex, endpoint.mac
    else:
        ifindex = random.choice(tuple(INTERFACES.values()))
        mac = random.choice((machine_mac(random.choice(IDS)), GATEWAY_MAC, b"\2\0\0\0\0\7"))
    source = _draw_address(random, world.fleet.prefix_int, talk.source)
    destination = _draw_address(random, world.fleet.prefix_int, talk.destination)
    if random.randint(0, 15):
        packet = _draw_ip(random, source, destination, talk)
    else:
        packet = _draw_solicitation(random, source)
    frame = bytes(Ether(src=mac.hex(":"), dst=GATEWAY_MAC.hex(":"), type=0x86DD))
    data = _bend(random, frame, bytes(packet))
    arrival = Arrival(data, ifindex, random.choice((0, 0, MARK_DECIDED)))
    return _draw_segments(random, arrival)


def draw_from_mesh(random: Random, world: World) -> Arrival:
    """Draw a packet that WireGuard took: from the host where its source is, or from elsewhere."""
    talk = draw_talk(random, world, [End(one) for one in IDS], can_leave=False)
    anywhere = (*PLACES, world.fleet.prefix_int)
    source_upper = random.choice((*senders_of(world, talk) * 10, *anywhere))
    own = random.randint(0, 23)
    destination_upper = world.locator if own else random.choice(anywhere)
    source = _draw_address(random, source_upper, talk.source)
    destination = _draw_address(random, destination_upper, talk.destination)
    data = _bend(random, b"", bytes(_draw_ip(random, source, destination, talk)))
    return Arrival(data, MESH, random.choice((0, MARK_DECIDED)))


def draw_to_machine(random: Random, world: World) -> Arrival:
    """Draw a frame at the egress of a machine's interface, decided already or not."""
    mark = random.choice((MARK_DECIDED, 0, 1, MARK_DECIDED | 1, 0xFFFFFFFF))
    return replace(draw_from_machine(random, world), mark=mark)


DRAW_ARRIVAL: dict[str, Callable[[Random, World], Arrival]] = {
    "from_machine": draw_from_machine,
    "from_host": draw_from_host,
    "from_mesh": draw_from_mesh,
    "to_machine": draw_to_machine,
}


def _draw_address(random: Random, upper: int, end: End) -> str:
    if random.randint(0, 24) == 0:
        return random.choice(FOREIGN)
    return str(address_of(end, upper))


def _draw_ip(random: Random, source: str, destination: str, talk: Talk) -> Packet:
    packet = IPv6(
        src=source,
        dst=destination,
        hlim=random.choice((64, 64, 255, 2, 1, 0)),
        tc=random.choice((0, 0xFF)),
        fl=random.choice((0, 0xFFFFF)),
    )
    for header in draw_extension_headers(random):
        packet /= header
    last = packet.lastlayer()
    if isinstance(talk.above, Raw):
        last.nh = talk.next_header or random.choice(WITHOUT_PORTS)
    return packet / talk.above


def _draw_solicitation(random: Random, source: str) -> Packet:
    packet = IPv6(
        src=random.choice((source, source, *FOREIGN)),
        dst=random.choice(("ff02::1:ff00:1", "fe80::1", "fe80::1", "ff02::1:ff00:2")),
        hlim=random.choice((255, 255, 255, 64)),
    )
    if random.randint(0, 7) == 0:
        packet /= IPv6ExtHdrDestOpt()
    target = random.choice(("fe80::1", "fe80::1", "fe80::2", source))
    packet /= ICMPv6ND_NS(tgt=target, code=random.choice((0, 0, 0, 1)))
    return packet / ICMPv6NDOptSrcLLAddr() if random.randint(0, 1) else packet


def _bend(random: Random, frame: bytes, packet: bytes) -> bytes:
    """Return mostly the packet itself, else one that is cut, padded, or has a byte changed.

    shortened: the payload ends early, perhaps within a header, and the rest becomes padding.
    """
    whole = bytearray(frame + packet)
    match random.choice(HOW_BENT):
        case "cut":
            least = IPV6_FRAME_BYTES_MIN if frame else ETHERNET_BYTES
            del whole[random.randint(least, len(whole)) :]
        case "padded":
            whole += bytes(random.randint(1, 64))
        case "changed":
            whole[random.randint(0, min(len(whole), 120) - 1)] = random.randint(0, 255)
        case "header":
            whole[len(frame) + random.randint(0, 7)] = random.randint(0, 255)
        case "shortened":
            shorter = random.randint(0, int.from_bytes(packet[4:6], "big") % 64)
            whole[len(frame) + 4 : len(frame) + 6] = shorter.to_bytes(2, "big")
        case "tagged" if frame:
            whole[12:12] = random.choice((b"\x81\x00\x00\x05", b"\x88\xa8\x00\x05"))
    return bytes(whole)


def _draw_segments(random: Random, arrival: Arrival) -> Arrival:
    """Return the frame, sometimes as one that is several segments, where it is plain TCP or UDP."""
    data = arrival.data
    is_whole = int.from_bytes(data[18:20], "big") == len(data) - IPV6_FRAME_BYTES_MIN > 20
    is_plain = is_whole and data[12:14] == b"\x86\xdd" and data[20] in (6, 17)
    if not is_plain or random.randint(0, 1):
        return arrival
    room = MTU_BYTES - 40
    sizes = (100, room - 21, room - 20, room - 19, room - 9, room - 8, room - 7)
    return replace(arrival, gso_size=random.choice(sizes))
