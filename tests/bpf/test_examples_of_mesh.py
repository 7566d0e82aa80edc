"""from_mesh: an example for every line of the precedence."""

from __future__ import annotations

from dataclasses import replace

import pytest
from agreement import run_and_compare
from example_packets import (
    ARRIVING,
    ASH_ID,
    AT_CEDAR,
    BIRCH_ID,
    MOVED_AWAY,
    NOBODY,
    NOT_ATTACHED,
    STALE_MOVE,
    datagram,
    example_world,
    from_wire,
    ip,
)
from fleet_of_three import (
    ASH,
    BIRCH,
    BLUE_WEB,
    CEDAR,
    LOCATORS,
    MESH,
    MOVE,
    RED_DATABASE,
    RED_WEB,
    SECOND_NS,
    interface,
    located,
    moving,
    on_wire,
)
from host_under_test import HostUnderTest, read_clocks
from oracle.world import Arrival
from scapy.layers.inet import IP
from scapy.layers.inet6 import (
    ICMPv6ND_RA,
    IPv6,
    IPv6ExtHdrFragment,
    IPv6ExtHdrRouting,
)
from scapy.packet import Raw

from netagent.dataplane.abi import Misdirected, Verdict

pytestmark = pytest.mark.root

V = Verdict


def between(source: object, destination: object) -> Arrival:
    return Arrival(bytes(IPv6(src=str(source), dst=str(destination)) / datagram()), MESH)


EXAMPLES: dict[str, tuple[Arrival, Verdict]] = {
    "1 IPv4": (Arrival(bytes(IP() / datagram(40)), MESH), V.DROP_MALFORMED),
    "1 half a header": (Arrival(bytes(IPv6())[:39], MESH), V.DROP_MALFORMED),
    "1 a routing header": (
        from_wire(BIRCH, RED_DATABASE, RED_WEB, IPv6ExtHdrRouting(addresses=["::1"]) / datagram()),
        V.DROP_EXTENSION_HEADER,
    ),
    "2 stable addresses": (
        Arrival(bytes(ip(RED_DATABASE, RED_WEB) / datagram()), MESH),
        V.DROP_NOT_ENCODED,
    ),
    "2 for another host": (
        between(on_wire(BIRCH, RED_DATABASE), on_wire(CEDAR, RED_WEB)),
        V.DROP_NOT_ENCODED,
    ),
    "2 from the outside": (between("2001:db8::1", on_wire(ASH, RED_WEB)), V.DROP_NOT_ENCODED),
    "3 from where the source is": (
        from_wire(BIRCH, RED_DATABASE, RED_WEB, datagram()),
        V.PASS_FROM_MESH,
    ),
    "3 from a host that does not run the source": (
        from_wire(CEDAR, RED_DATABASE, RED_WEB, datagram()),
        V.DROP_SOURCE_NOT_AT_SENDER,
    ),
    "3 from nobody": (
        from_wire(BIRCH, NOBODY, RED_WEB, datagram()),
        V.DROP_SOURCE_NOT_AT_SENDER,
    ),
    "3 from where a moving source was": (
        from_wire(ASH, MOVED_AWAY, RED_WEB, datagram()),
        V.PASS_FROM_MESH,
    ),
    "3 from where a source was whose move is long over": (
        from_wire(ASH, STALE_MOVE, RED_WEB, datagram()),
        V.DROP_SOURCE_NOT_AT_SENDER,
    ),
    "3 forwarded by the host that the destination leaves": (
        from_wire(BIRCH, AT_CEDAR, ARRIVING, datagram()),
        V.PASS_FROM_MESH,
    ),
    "3 forwarded by a host that the destination does not leave": (
        from_wire(CEDAR, RED_DATABASE, ARRIVING, datagram()),
        V.DROP_SOURCE_NOT_AT_SENDER,
    ),
    "4 a router advertisement": (
        from_wire(BIRCH, RED_DATABASE, RED_WEB, ICMPv6ND_RA()),
        V.DROP_NEIGHBOUR_DISCOVERY,
    ),
    "5 for a machine that moved on": (
        from_wire(CEDAR, AT_CEDAR, MOVED_AWAY, datagram()),
        V.PASS_FORWARDED,
    ),
    "5 for a machine that moved on, at the last hop": (
        from_wire(CEDAR, AT_CEDAR, MOVED_AWAY, datagram(), hop_limit=1),
        V.DROP_HOP_LIMIT,
    ),
    "5 for a machine that moved on, at the last but one": (
        from_wire(CEDAR, AT_CEDAR, MOVED_AWAY, datagram(), hop_limit=2),
        V.PASS_FORWARDED,
    ),
    "5 for a machine that was never here": (
        from_wire(BIRCH, RED_DATABASE, AT_CEDAR, datagram()),
        V.DROP_DESTINATION_NOT_HERE,
    ),
    "5 for a machine whose move is long over": (
        from_wire(CEDAR, AT_CEDAR, STALE_MOVE, datagram()),
        V.DROP_DESTINATION_NOT_HERE,
    ),
    "6 another network": (
        from_wire(BIRCH, RED_DATABASE, BLUE_WEB, datagram()),
        V.DROP_DENIED_INGRESS,
    ),
    "6 a machine to this host": (
        from_wire(BIRCH, RED_DATABASE, ASH_ID, datagram()),
        V.DROP_DENIED_INGRESS,
    ),
    "6 a first fragment to this host": (
        from_wire(BIRCH, RED_DATABASE, ASH_ID, IPv6ExtHdrFragment(m=1) / datagram()),
        V.DROP_DENIED_INGRESS,
    ),
    "6 a later fragment of nothing": (
        from_wire(BIRCH, RED_DATABASE, RED_WEB, IPv6ExtHdrFragment(offset=1) / Raw(bytes(8))),
        V.DROP_FRAGMENT,
    ),
    "6 another host to a machine": (
        from_wire(BIRCH, BIRCH_ID, RED_WEB, datagram()),
        V.PASS_FROM_MESH,
    ),
    "7 not attached": (
        from_wire(BIRCH, RED_DATABASE, NOT_ATTACHED, datagram()),
        V.DROP_NO_ENDPOINT,
    ),
    "7 another host to this one": (from_wire(BIRCH, BIRCH_ID, ASH_ID, datagram()), V.PASS_TO_HOST),
    "7 a machine that is staged here": (
        from_wire(BIRCH, RED_DATABASE, ARRIVING, datagram()),
        V.PASS_FROM_MESH,
    ),
}


@pytest.mark.parametrize(
    ("arrival", "verdict"), [pytest.param(*case, id=name) for name, case in EXAMPLES.items()]
)
def test_example(hosts: dict[str, HostUnderTest], arrival: Arrival, verdict: Verdict) -> None:
    world = hosts[ASH].fill(example_world(read_clocks()))
    expected, _ = run_and_compare(hosts[ASH], world, "from_mesh", arrival)
    assert expected.verdict == verdict


def test_a_move_takes_one_write_on_the_hosts_it_concerns(hosts: dict[str, HostUnderTest]) -> None:
    """The source delivers before the location flips and forwards after.

    It stops at the deadline, and when the machine has moved again, whatever is left of the first.
    """
    clocks = read_clocks()
    prepared = replace(
        example_world(clocks),
        transitions={RED_WEB: moving(ASH, CEDAR, clocks.boot_ns + 3600 * SECOND_NS)},
    )
    committed = replace(
        prepared, locations={**prepared.locations, RED_WEB: located(RED_WEB, CEDAR)}
    )
    expired = replace(committed, transitions={RED_WEB: moving(ASH, CEDAR, clocks.boot_ns - 1)})
    later = replace(located(RED_WEB, CEDAR), epoch=MOVE + 1)
    moved_again = replace(committed, locations={**prepared.locations, RED_WEB: later})
    arrival = from_wire(BIRCH, RED_DATABASE, RED_WEB, datagram())
    verdicts = []
    for world in (prepared, committed, expired, moved_again):
        world = hosts[ASH].fill(world)
        verdicts.append(run_and_compare(hosts[ASH], world, "from_mesh", arrival)[0].verdict)
    stopped = V.DROP_DESTINATION_NOT_HERE
    assert verdicts == [V.PASS_FROM_MESH, V.PASS_FORWARDED, stopped, stopped]


def test_a_place_of_an_earlier_move_may_not_speak(hosts: dict[str, HostUnderTest]) -> None:
    """The transition of a move before the last one is none, also when nobody took it away."""
    arrival = from_wire(BIRCH, RED_WEB, RED_DATABASE, datagram())
    example = example_world(read_clocks())
    verdicts = []
    for epoch in (MOVE, MOVE + 1):
        world = replace(
            example,
            locations={
                **example.locations,
                RED_WEB: replace(located(RED_WEB, CEDAR), epoch=epoch),
                RED_DATABASE: located(RED_DATABASE, ASH),
            },
            transitions={RED_WEB: moving(BIRCH, CEDAR)},
            endpoints={**example.endpoints, RED_DATABASE: interface(RED_DATABASE, 30)},
        )
        world = hosts[ASH].fill(world)
        verdicts.append(run_and_compare(hosts[ASH], world, "from_mesh", arrival)[0].verdict)
    assert verdicts == [V.PASS_FROM_MESH, V.DROP_SOURCE_NOT_AT_SENDER]


def test_a_forwarded_packet_bears_the_forwarders_locator(hosts: dict[str, HostUnderTest]) -> None:
    hosts[ASH].fill(example_world(read_clocks()))
    arrival = from_wire(CEDAR, AT_CEDAR, MOVED_AWAY, datagram())
    forwarded = IPv6(hosts[ASH].run("from_mesh", arrival).data)
    assert (int.from_bytes(bytes(forwarded)[8:16], "big"), forwarded.hlim) == (LOCATORS[ASH], 63)
    assert forwarded.dst == str(on_wire(BIRCH, MOVED_AWAY))


def test_who_sends_to_an_old_place_is_counted(hosts: dict[str, HostUnderTest]) -> None:
    """By the sending host: forwarded while the machine moves, dropped when it has gone."""
    host = hosts[ASH]
    arrival = from_wire(BIRCH, RED_DATABASE, RED_WEB, datagram())
    example = example_world(read_clocks())
    gone = replace(example, locations={**example.locations, RED_WEB: located(RED_WEB, CEDAR)})
    leaving = replace(gone, transitions={RED_WEB: moving(ASH, CEDAR)})
    before = host.datapath.misdirected().get(LOCATORS[BIRCH], Misdirected(0, 0))

    for world in (example, leaving, leaving, gone):
        host.fill(world)
        host.run("from_mesh", arrival)

    after = host.datapath.misdirected()[LOCATORS[BIRCH]]
    assert after == Misdirected(before.forwarded + 2, before.dropped + 1)
