"""Line 7 of access: the first packet of a flow, who is asked about it, and what that counts for."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from conversation import Conversation, tcp, udp
from example_packets import ASH_ID, BIRCH_ID, DATABASE_HERE, MOVED_AWAY, NEIGHBOUR
from fleet_of_three import ASH, BIRCH, BLUE_WEB, HOSTS_OWN_ADDRESS, RED_DATABASE, RED_WEB
from host_routes import set_forwarding
from host_under_test import HostUnderTest
from oracle.world import Side, Tally
from policy_books import BOOKS, IDENTITIES, RED_LAST
from scapy.layers.inet import UDP
from scapy.layers.inet6 import ICMPv6DestUnreach, ICMPv6EchoReply, ICMPv6EchoRequest, ICMPv6ND_NS
from scapy.layers.sctp import SCTP
from scapy.packet import Raw

from netagent.dataplane.abi import Verdict

pytestmark = pytest.mark.root

V = Verdict
SENDER, RECEIVER = Side
ALLOWED, DENIED, AUDITED = ({tally} for tally in Tally)
VISITOR, NEAR_VISITOR, STRANGER = "2001:db8:2::1", "2001:db8:1::1", "2c00::1"


Step = Callable[[Conversation], Verdict | None]
Counted = dict[tuple[str, Side], set[Tally]]
EXAMPLES: dict[str, tuple[str, Step, Verdict, Counted]] = {
    "a rule allows, at both ends of one host once": (
        "strict",
        lambda c: c.send(RED_WEB, DATABASE_HERE, tcp(79)),
        V.PASS_TO_LOCAL_MACHINE,
        {("red/web-to-database", SENDER): ALLOWED},
    ),
    "a rule allows, at the sender's host": (
        "strict",
        lambda c: c.send(RED_WEB, RED_DATABASE, udp(4000)),
        V.PASS_TO_MESH,
        {("red/web-to-database", SENDER): ALLOWED},
    ),
    "a rule allows, at the receiver's host": (
        "strict",
        lambda c: c.receive(MOVED_AWAY, DATABASE_HERE, tcp(79)),
        V.PASS_FROM_MESH,
        {("red/web-to-database", RECEIVER): ALLOWED},
    ),
    "no rule allows, at the receiver's host": (
        "strict",
        lambda c: c.receive(RED_DATABASE, DATABASE_HERE, tcp(79)),
        V.DROP_DENIED_INGRESS,
        {("red/default", RECEIVER): DENIED},
    ),
    "below the range of ports": (
        "strict",
        lambda c: c.send(RED_WEB, DATABASE_HERE, tcp(78)),
        V.DROP_DENIED_EGRESS,
        {("red/default", SENDER): DENIED},
    ),
    "deny beats allow": (
        "strict",
        lambda c: c.send(RED_WEB, DATABASE_HERE, tcp(81)),
        V.DROP_DENIED_EGRESS,
        {("red/no-81", SENDER): DENIED},
    ),
    "a rule in audit mode is counted and stops nothing": (
        "strict",
        lambda c: c.send(RED_WEB, DATABASE_HERE, tcp(80)),
        V.PASS_TO_LOCAL_MACHINE,
        {("red/web-to-database", SENDER): ALLOWED, ("red/watch-80", SENDER): AUDITED},
    ),
    "a rule in audit mode is counted and opens nothing": (
        "strict",
        lambda c: (
            c.relabel(NEIGHBOUR, IDENTITIES[RED_LAST]),
            c.send(NEIGHBOUR, DATABASE_HERE, udp(53)),
        )[1],
        V.DROP_DENIED_EGRESS,
        {("red/default", SENDER): DENIED, ("red/would-open", SENDER): AUDITED},
    ),
    "a policy in audit mode lets pass what it would deny": (
        "audit",
        lambda c: c.send(RED_WEB, DATABASE_HERE, tcp(81)),
        V.PASS_TO_LOCAL_MACHINE,
        {("red/default", SENDER): ALLOWED, ("red/no-81", SENDER): AUDITED},
    ),
    "echo requests by their own name": (
        "strict",
        lambda c: c.send(RED_WEB, DATABASE_HERE, ICMPv6EchoRequest(id=1)),
        V.PASS_TO_LOCAL_MACHINE,
        {("red/web-to-database", SENDER): ALLOWED},
    ),
    "an echo reply that answers nothing": (
        "strict",
        lambda c: c.send(RED_WEB, DATABASE_HERE, ICMPv6EchoReply(id=1)),
        V.DROP_DENIED_EGRESS,
        {("red/default", SENDER): DENIED},
    ),
    "all ports of a protocol": (
        "strict",
        lambda c: c.send(RED_WEB, DATABASE_HERE, SCTP(sport=9, dport=65535)),
        V.PASS_TO_LOCAL_MACHINE,
        {("red/web-to-database", SENDER): ALLOWED},
    ),
    "a protocol without ports, by the default": (
        "strict",
        lambda c: c.send(RED_WEB, DATABASE_HERE, bytes(8), nh=50, plen=8),
        V.DROP_DENIED_EGRESS,
        {("red/default", SENDER): DENIED},
    ),
    "open inside": (
        "built-in",
        lambda c: c.send(RED_WEB, NEIGHBOUR, tcp(1)),
        V.PASS_TO_LOCAL_MACHINE,
        {("red/default", SENDER): ALLOWED},
    ),
    "closed across, whatever the default says": (
        "built-in",
        lambda c: c.send(RED_WEB, BLUE_WEB, tcp(1)),
        V.DROP_DENIED_EGRESS,
        {("red/default", SENDER): DENIED},
    ),
    "across with both consents": (
        "strict",
        lambda c: c.send(RED_WEB, BLUE_WEB, udp(79)),
        V.PASS_TO_LOCAL_MACHINE,
        {("red/to-blue", SENDER): ALLOWED, ("blue/red-may", RECEIVER): ALLOWED},
    ),
    "across with the sender's consent alone": (
        "strict",
        lambda c: c.send(RED_WEB, BLUE_WEB, udp(78)),
        V.DROP_DENIED_INGRESS,
        {("red/to-blue", SENDER): ALLOWED, ("blue/default", RECEIVER): DENIED},
    ),
    "across with the receiver's consent alone": (
        "strict",
        lambda c: c.send(BLUE_WEB, RED_WEB, ICMPv6EchoRequest(id=1)),
        V.DROP_DENIED_EGRESS,
        {("blue/default", SENDER): DENIED, ("blue/everywhere", SENDER): AUDITED},
    ),
    "across, the receiver's deny": (
        "strict",
        lambda c: c.send(RED_WEB, BLUE_WEB, udp(80)),
        V.DROP_DENIED_INGRESS,
        {("red/to-blue", SENDER): ALLOWED, ("blue/not-80", RECEIVER): DENIED},
    ),
    "across to another host, where the receiver is asked": (
        "strict",
        lambda c: c.receive(RED_DATABASE, BLUE_WEB, udp(79)),
        V.PASS_FROM_MESH,
        {("blue/red-may", RECEIVER): ALLOWED},
    ),
    "a machine to its host, which its own network opens": (
        "strict",
        lambda c: c.send(RED_WEB, ASH_ID, tcp(443)),
        V.PASS_TO_HOST,
        {("red/to-hosts", SENDER): ALLOWED},
    ),
    "a machine to its host, at another port": (
        "strict",
        lambda c: c.send(RED_WEB, ASH_ID, tcp(442)),
        V.DROP_DENIED_EGRESS,
        {("red/default", SENDER): DENIED},
    ),
    "a machine to another host": (
        "strict",
        lambda c: c.send(RED_WEB, BIRCH_ID, udp(80)),
        V.PASS_TO_MESH,
        {("red/to-hosts", SENDER): ALLOWED},
    ),
    "a machine elsewhere to this host, which does not trust the other to have asked": (
        "strict",
        lambda c: c.receive(RED_DATABASE, ASH_ID, tcp(443)),
        V.DROP_DENIED_INGRESS,
        {("red/default", RECEIVER): DENIED},
    ),
    "the host to its machine": (
        "strict",
        lambda c: c.send(ASH_ID, RED_WEB, tcp(80)),
        V.PASS_TO_LOCAL_MACHINE,
        {("red/hosts", RECEIVER): ALLOWED, ("red/watch-80", RECEIVER): AUDITED},
    ),
    "the host to its machine, above the range": (
        "strict",
        lambda c: c.send(ASH_ID, RED_WEB, tcp(81)),
        V.DROP_DENIED_INGRESS,
        {("red/default", RECEIVER): DENIED},
    ),
    "another host to a machine": (
        "strict",
        lambda c: c.receive(BIRCH_ID, RED_WEB, udp(7)),
        V.PASS_FROM_MESH,
        {("red/hosts", RECEIVER): ALLOWED},
    ),
    "the host to a machine elsewhere, where that one's network is asked": (
        "closed",
        lambda c: c.send(ASH_ID, RED_DATABASE, tcp(81)),
        V.PASS_TO_MESH,
        {},
    ),
    "a machine to outside": (
        "strict",
        lambda c: c.send(RED_WEB, VISITOR, udp(53)),
        V.PASS_TO_OUTSIDE,
        {("red/internet", SENDER): ALLOWED},
    ),
    "a machine to outside, by an error of its own": (
        "strict",
        lambda c: c.send(RED_WEB, VISITOR, ICMPv6DestUnreach() / Raw(bytes(60))),
        V.PASS_TO_OUTSIDE,
        {("red/internet", SENDER): ALLOWED},
    ),
    "a machine to outside, to an exception": (
        "strict",
        lambda c: c.send(RED_WEB, "2001:db8:bad::5", udp(53)),
        V.DROP_DENIED_EGRESS,
        {("red/default", SENDER): DENIED},
    ),
    "a machine to outside, beside the exception": (
        "strict",
        lambda c: c.send(RED_WEB, "2001:db8:bae::", udp(53)),
        V.PASS_TO_OUTSIDE,
        {("red/internet", SENDER): ALLOWED},
    ),
    "a machine to outside, outside of the prefix": (
        "strict",
        lambda c: c.send(RED_WEB, STRANGER, udp(53)),
        V.DROP_DENIED_EGRESS,
        {("red/default", SENDER): DENIED},
    ),
    "a machine to a stranger, whom only `any` matches": (
        "open",
        lambda c: c.send(RED_WEB, STRANGER, udp(53)),
        V.PASS_TO_OUTSIDE,
        {("red/all", SENDER): ALLOWED},
    ),
    "a machine to an address of the host's that is not its stable one": (
        "open",
        lambda c: c.send(RED_WEB, str(HOSTS_OWN_ADDRESS), tcp(22)),
        V.DROP_OUTSIDE,
        {("red/all", SENDER): ALLOWED},
    ),
    "a machine to where no route leads": (
        "open",
        lambda c: c.send(RED_WEB, "2001:db8:dead::1", tcp(22)),
        V.DROP_OUTSIDE,
        {("red/all", SENDER): ALLOWED},
    ),
    "a machine to outside, too big for the next link, which the host's stack says": (
        "open",
        lambda c: c.send(RED_WEB, STRANGER, UDP(dport=53) / Raw(bytes(1600))),
        V.PASS_TO_OUTSIDE,
        {("red/all", SENDER): ALLOWED},
    ),
    "outside to a machine": (
        "strict",
        lambda c: c.visit(RED_WEB, tcp(443), VISITOR),
        V.PASS_TO_LOCAL_MACHINE,
        {("red/visitors", RECEIVER): ALLOWED},
    ),
    "outside to a machine, from an exception": (
        "strict",
        lambda c: c.visit(RED_WEB, tcp(443), NEAR_VISITOR),
        V.DROP_DENIED_INGRESS,
        {("red/default", RECEIVER): DENIED},
    ),
    "outside to a machine, from a stranger": (
        "strict",
        lambda c: c.visit(RED_WEB, tcp(443), STRANGER),
        V.DROP_DENIED_INGRESS,
        {("red/default", RECEIVER): DENIED},
    ),
    "outside to a machine of a network that lets nobody in": (
        "strict",
        lambda c: c.visit(BLUE_WEB, tcp(443), VISITOR),
        V.DROP_DENIED_INGRESS,
        {("blue/default", RECEIVER): DENIED},
    ),
    "no policy for the sender": (
        "red missing",
        lambda c: c.send(RED_WEB, NEIGHBOUR, tcp(79)),
        V.DROP_NO_POLICY,
        {},
    ),
    "no policy for the receiver": (
        "two missing",
        lambda c: c.send(RED_WEB, BLUE_WEB, udp(79)),
        V.DROP_NO_POLICY,
        {("red/to-blue", SENDER): ALLOWED},
    ),
    "no policy, from outside": (
        "red missing",
        lambda c: c.visit(RED_WEB, tcp(443)),
        V.DROP_NO_POLICY,
        {},
    ),
}


@pytest.mark.parametrize(
    ("book", "step", "verdict", "counted"),
    [pytest.param(*case, id=name) for name, case in EXAMPLES.items()],
)
def test_example(
    hosts: dict[str, HostUnderTest], book: str, step: Step, verdict: Verdict, counted: Counted
) -> None:
    conversation = Conversation(hosts[ASH], BOOKS[book])

    assert step(conversation) == verdict
    assert conversation.counted() == counted


def test_a_host_that_does_not_forward_drops_what_leaves(hosts: dict[str, HostUnderTest]) -> None:
    conversation = Conversation(hosts[ASH], BOOKS["open"])
    conversation.change(forwards=lambda _: False)
    set_forwarding(False)
    try:
        assert conversation.send(RED_WEB, STRANGER, udp(53)) == V.DROP_OUTSIDE
    finally:
        set_forwarding(True)


def test_an_identity_that_no_compilation_has_seen_is_judged_by_the_default(
    hosts: dict[str, HostUnderTest],
) -> None:
    conversation = Conversation(hosts[ASH], BOOKS["strict"])
    assert conversation.send(RED_WEB, DATABASE_HERE, tcp(79)) == V.PASS_TO_LOCAL_MACHINE

    conversation.relabel(RED_WEB, 999)  # type: ignore[arg-type]

    assert conversation.send(RED_WEB, DATABASE_HERE, tcp(79)) == V.DROP_DENIED_EGRESS
    assert conversation.counted() == {("red/default", SENDER): DENIED}


def test_talk_of_one_link_to_outside_is_asked_about_like_any_other_packet(
    hosts: dict[str, HostUnderTest],
) -> None:
    """The next router takes it for nothing: its hop limit went down on the way."""
    conversation = Conversation(hosts[ASH], BOOKS["closed"])

    verdict = conversation.send(RED_WEB, VISITOR, ICMPv6ND_NS(tgt=VISITOR))

    assert verdict == V.DROP_DENIED_EGRESS


def test_what_two_hosts_say_to_each_other_is_no_policys_business(
    hosts: dict[str, HostUnderTest],
) -> None:
    conversation = Conversation(hosts[ASH], BOOKS["closed"])

    assert conversation.send(ASH_ID, BIRCH_ID, tcp(22)) == V.PASS_TO_MESH
    assert conversation.receive(BIRCH_ID, ASH_ID, tcp(50000, "SA"), BIRCH) == V.PASS_TO_HOST
    assert not conversation.flows
