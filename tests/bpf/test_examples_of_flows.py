"""Lines 4 to 6 of access: what is known, for how long, and when it is asked about again."""

from __future__ import annotations

from dataclasses import replace

import pytest
from conversation import Conversation, tcp, tcp_back, udp, udp_back
from example_packets import ASH_ID, DATABASE_HERE, MOVED_AWAY, NEIGHBOUR, ip, sent_by
from fleet_of_three import ASH, BIRCH, BLUE_WEB, OUTSIDE, RED_DATABASE, RED_WEB, located
from host_under_test import HostUnderTest
from oracle.world import Side, Tally
from policy_books import (
    BOOKS,
    BUILT_IN,
    CLOSED,
    IDENTITIES,
    RED_LAST,
    STRICT_BLUE,
    STRICT_RED,
    Policies,
    enforced,
)
from scapy.layers.inet import UDP
from scapy.layers.inet6 import ICMPv6EchoReply, ICMPv6EchoRequest, ICMPv6Unknown
from scapy.layers.sctp import SCTP

from netagent.dataplane.abi import Verdict
from netagent.dataplane.abi_flows import FlowFlag, FlowRow
from netagent.dataplane.abi_policy import GENERATIONS, PolicyNetworkRow

pytestmark = pytest.mark.root

V = Verdict
LOCAL = V.PASS_TO_LOCAL_MACHINE
DENIED = V.DROP_DENIED_EGRESS
SENDER, RECEIVER = Side

WITHOUT_UDP = enforced(STRICT_RED.replace("udp/4000, icmp6/echo, sctp", "sctp"), STRICT_BLUE)
DENYING = enforced(
    STRICT_RED + "  - {name: stop, from: any, to: {labels: {app: database}}, deny: [udp/4000]}\n",
    STRICT_BLUE,
)
CLOSED_BLUE = enforced(STRICT_RED, CLOSED % "blue")


@pytest.fixture
def strict(hosts: dict[str, HostUnderTest]) -> Conversation:
    return Conversation(hosts[ASH], BOOKS["strict"])


def test_an_answer_passes_without_a_rule_and_counts_for_the_one_of_its_flow(
    strict: Conversation,
) -> None:
    assert strict.send(DATABASE_HERE, RED_WEB, udp_back(4000)) == DENIED
    assert strict.send(RED_WEB, DATABASE_HERE, udp(4000)) == LOCAL

    assert strict.send(DATABASE_HERE, RED_WEB, udp_back(4000)) == LOCAL
    assert strict.counted() == {("red/web-to-database", SENDER): {Tally.ALLOWED}}


def test_an_answer_from_another_port_is_none(strict: Conversation) -> None:
    strict.send(RED_WEB, DATABASE_HERE, udp(4000))

    assert strict.send(DATABASE_HERE, RED_WEB, udp_back(4001)) == DENIED
    assert strict.send(DATABASE_HERE, NEIGHBOUR, udp_back(4000)) == DENIED
    assert strict.send(DATABASE_HERE, RED_WEB, tcp_back(4000)) == DENIED


def test_audit_counts_every_packet_of_a_flow(strict: Conversation) -> None:
    expected = {
        ("red/web-to-database", SENDER): {Tally.ALLOWED},
        ("red/watch-80", SENDER): {Tally.AUDITED},
    }
    strict.send(RED_WEB, DATABASE_HERE, tcp(80))
    assert strict.counted() == expected

    strict.send(DATABASE_HERE, RED_WEB, tcp_back(80, "SA"))
    assert strict.counted() == expected


@pytest.mark.parametrize("revised", [WITHOUT_UDP, DENYING], ids=["allow taken away", "deny added"])
@pytest.mark.parametrize("is_answer", [False, True])
def test_a_revised_rule_cuts_a_known_flow_on_its_next_packet(
    strict: Conversation, revised: dict[int, object], is_answer: bool
) -> None:
    strict.send(RED_WEB, DATABASE_HERE, udp(4000))
    strict.send(DATABASE_HERE, RED_WEB, udp_back(4000))

    strict.enforce(revised)  # type: ignore[arg-type]

    if is_answer:
        assert strict.send(DATABASE_HERE, RED_WEB, udp_back(4000)) == DENIED
    else:
        assert strict.send(RED_WEB, DATABASE_HERE, udp(4000)) == DENIED
    assert not strict.flows


def test_a_flow_that_was_cut_stays_so_when_the_rule_comes_back_until_it_begins_anew(
    strict: Conversation,
) -> None:
    strict.send(RED_WEB, DATABASE_HERE, udp(4000))
    strict.enforce(WITHOUT_UDP)
    strict.send(RED_WEB, DATABASE_HERE, udp(4000))
    strict.enforce(BOOKS["strict"])

    assert strict.send(DATABASE_HERE, RED_WEB, udp_back(4000)) == DENIED
    assert strict.send(RED_WEB, DATABASE_HERE, udp(4000)) == LOCAL


def test_a_revision_that_does_not_concern_a_flow_leaves_it(strict: Conversation) -> None:
    strict.send(RED_WEB, DATABASE_HERE, tcp(79))
    (before,) = strict.flows.values()

    strict.enforce(WITHOUT_UDP)

    assert strict.send(DATABASE_HERE, RED_WEB, tcp_back(79)) == LOCAL
    (after,) = strict.flows.values()
    assert after.generation == before.generation + 1


def test_the_other_networks_consent_can_be_taken_back(strict: Conversation) -> None:
    assert strict.send(RED_WEB, BLUE_WEB, udp(79)) == LOCAL
    assert strict.send(BLUE_WEB, RED_WEB, udp_back(79)) == LOCAL

    strict.enforce(CLOSED_BLUE)

    assert strict.send(BLUE_WEB, RED_WEB, udp_back(79)) == V.DROP_DENIED_INGRESS


def test_a_policy_that_is_gone_cuts_flows(strict: Conversation) -> None:
    strict.send(RED_WEB, DATABASE_HERE, udp(4000))

    strict.enforce(BOOKS["red missing"])

    assert strict.send(RED_WEB, DATABASE_HERE, udp(4000)) == V.DROP_NO_POLICY
    assert not strict.flows


def test_a_change_of_labels_cuts_flows(strict: Conversation) -> None:
    strict.send(RED_WEB, DATABASE_HERE, udp(4000))

    strict.relabel(RED_WEB, IDENTITIES[RED_LAST])

    assert strict.send(DATABASE_HERE, RED_WEB, udp_back(4000)) == DENIED


def test_an_end_that_comes_here_is_asked(strict: Conversation) -> None:
    """Its old host may have asked, or not: this one does not know."""
    here = strict.world.locations
    strict.change(locations={**here, BLUE_WEB: located(BLUE_WEB, BIRCH)})
    assert strict.send(RED_WEB, BLUE_WEB, udp(78)) == V.PASS_TO_MESH
    (asked,) = strict.flows.values()
    assert asked.flags & FlowFlag.ASKED_EGRESS
    assert not asked.flags & FlowFlag.ASKED_INGRESS

    strict.change(locations=here)

    assert strict.send(RED_WEB, BLUE_WEB, udp(78)) == V.DROP_DENIED_INGRESS


def test_an_end_that_left_is_not_asked_again(strict: Conversation) -> None:
    strict.send(RED_WEB, BLUE_WEB, udp(79))
    gone = {**strict.world.locations, RED_WEB: located(RED_WEB, BIRCH)}

    strict.change(locations=gone)

    assert strict.receive(RED_WEB, BLUE_WEB, udp(79)) == V.PASS_FROM_MESH
    assert strict.send(BLUE_WEB, RED_WEB, udp_back(79)) == V.PASS_TO_MESH


def test_a_flow_that_others_pushed_out_is_asked_about_again(strict: Conversation) -> None:
    strict.send(RED_WEB, DATABASE_HERE, tcp(79))
    strict.send(DATABASE_HERE, RED_WEB, tcp_back(79, "SA"))

    strict.forget_all()

    assert strict.send(DATABASE_HERE, RED_WEB, tcp_back(79)) == DENIED
    assert strict.send(RED_WEB, DATABASE_HERE, tcp(79, "A")) == LOCAL
    assert strict.send(DATABASE_HERE, RED_WEB, tcp_back(79)) == LOCAL


@pytest.mark.parametrize(
    ("seconds", "verdict"), [(40, LOCAL), (61, DENIED)], ids=["in time", "too late"]
)
def test_an_answer_has_a_minute(strict: Conversation, seconds: int, verdict: Verdict) -> None:
    strict.send(RED_WEB, DATABASE_HERE, udp(4000))

    strict.wait(seconds)

    assert strict.send(DATABASE_HERE, RED_WEB, udp_back(4000)) == verdict


@pytest.mark.parametrize(
    ("seconds", "verdict"), [(100, LOCAL), (121, DENIED)], ids=["in time", "too late"]
)
def test_a_silent_flow_of_datagrams_has_two(
    strict: Conversation, seconds: int, verdict: Verdict
) -> None:
    strict.send(RED_WEB, DATABASE_HERE, udp(4000))
    strict.send(DATABASE_HERE, RED_WEB, udp_back(4000))

    strict.wait(seconds)

    assert strict.send(DATABASE_HERE, RED_WEB, udp_back(4000)) == verdict


@pytest.mark.parametrize(
    ("seconds", "verdict"), [(7100, LOCAL), (7201, DENIED)], ids=["in time", "too late"]
)
def test_a_silent_connection_has_two_hours(
    strict: Conversation, seconds: int, verdict: Verdict
) -> None:
    strict.send(RED_WEB, DATABASE_HERE, tcp(79))
    strict.send(DATABASE_HERE, RED_WEB, tcp_back(79, "SA"))

    strict.wait(seconds)

    assert strict.send(DATABASE_HERE, RED_WEB, tcp_back(79)) == verdict


@pytest.mark.parametrize("last", ["R", "RA"])
def test_a_reset_connection_has_half_a_minute(strict: Conversation, last: str) -> None:
    strict.send(RED_WEB, DATABASE_HERE, tcp(79))
    strict.send(DATABASE_HERE, RED_WEB, tcp_back(79, last))

    strict.wait(10)
    assert strict.send(DATABASE_HERE, RED_WEB, tcp_back(79)) == LOCAL
    strict.wait(31)
    assert strict.send(DATABASE_HERE, RED_WEB, tcp_back(79)) == DENIED


def test_a_connection_has_half_a_minute_once_both_have_finished(strict: Conversation) -> None:
    strict.send(RED_WEB, DATABASE_HERE, tcp(79))
    strict.send(DATABASE_HERE, RED_WEB, tcp_back(79, "FA"))
    strict.wait(3600)
    assert strict.send(RED_WEB, DATABASE_HERE, tcp(79, "FA")) == LOCAL

    strict.wait(31)

    assert strict.send(DATABASE_HERE, RED_WEB, tcp_back(79)) == DENIED


def test_a_syn_begins_a_connection_anew(strict: Conversation) -> None:
    strict.send(RED_WEB, DATABASE_HERE, tcp(79))
    strict.send(DATABASE_HERE, RED_WEB, tcp_back(79, "RA"))

    assert strict.send(RED_WEB, DATABASE_HERE, tcp(79)) == LOCAL

    (state,) = strict.flows.values()
    assert not state.flags & (FlowFlag.RESET | FlowFlag.ANSWERED)


def test_a_syn_is_judged_by_itself_and_leaves_the_connection_alone(strict: Conversation) -> None:
    strict.send(RED_WEB, DATABASE_HERE, tcp(79))
    strict.send(DATABASE_HERE, RED_WEB, tcp_back(79, "SA"))

    assert strict.send(DATABASE_HERE, RED_WEB, tcp_back(79, "S")) == DENIED

    assert strict.send(DATABASE_HERE, RED_WEB, tcp_back(79)) == LOCAL


def test_both_directions_share_one_entry(strict: Conversation) -> None:
    strict.send(RED_WEB, DATABASE_HERE, SCTP(sport=7, dport=8))
    strict.send(DATABASE_HERE, RED_WEB, SCTP(sport=8, dport=7))

    assert list(strict.flows) == [FlowRow(RED_WEB, DATABASE_HERE, 0, 7, 8, 132)]


def test_an_echo_is_answered_once_it_was_asked_for(strict: Conversation) -> None:
    assert strict.send(DATABASE_HERE, RED_WEB, ICMPv6EchoReply(id=9)) == DENIED
    assert strict.send(RED_WEB, DATABASE_HERE, ICMPv6EchoRequest(id=9)) == LOCAL

    assert strict.send(DATABASE_HERE, RED_WEB, ICMPv6EchoReply(id=9)) == LOCAL
    assert strict.send(DATABASE_HERE, RED_WEB, ICMPv6EchoReply(id=8)) == DENIED


@pytest.mark.parametrize("identifier", [9, 0])
def test_who_is_asked_with_an_echo_may_not_ask_for_that(
    strict: Conversation, identifier: int
) -> None:
    strict.send(RED_WEB, DATABASE_HERE, ICMPv6EchoRequest(id=identifier))

    assert strict.send(DATABASE_HERE, RED_WEB, ICMPv6EchoRequest(id=identifier)) == DENIED
    assert strict.send(DATABASE_HERE, RED_WEB, ICMPv6EchoReply(id=identifier)) == LOCAL


def test_two_may_ask_each_other_with_one_identifier(hosts: dict[str, HostUnderTest]) -> None:
    pair = Conversation(hosts[ASH], BUILT_IN)
    for one, other in ((RED_WEB, NEIGHBOUR), (NEIGHBOUR, RED_WEB)):
        assert pair.send(one, other, ICMPv6EchoRequest(id=9)) == LOCAL
    for one, other in ((RED_WEB, NEIGHBOUR), (NEIGHBOUR, RED_WEB)):
        assert pair.send(one, other, ICMPv6EchoReply(id=9)) == LOCAL
    assert len(pair.flows) == 2


def test_other_icmpv6_is_of_no_flow(strict: Conversation) -> None:
    """Though an echo with identifier 0 has the ports that it has."""
    strict.send(RED_WEB, DATABASE_HERE, ICMPv6EchoRequest(id=0))

    for source, destination in ((RED_WEB, DATABASE_HERE), (DATABASE_HERE, RED_WEB)):
        other = ICMPv6Unknown(type=200, msgbody=bytes(8))
        assert strict.send(source, destination, other) == DENIED


def test_icmpv6_that_a_rule_allows_is_not_remembered(strict: Conversation) -> None:
    reply = ICMPv6EchoReply(id=1)

    assert strict.send(ASH_ID, RED_WEB, reply) == LOCAL

    assert not strict.flows
    assert strict.send(RED_WEB, ASH_ID, reply) == DENIED


def test_a_host_hears_what_it_asked_for(strict: Conversation) -> None:
    assert strict.send(RED_WEB, ASH_ID, udp_back(7)) == DENIED
    assert strict.send(ASH_ID, RED_WEB, udp(7)) == LOCAL

    assert strict.send(RED_WEB, ASH_ID, udp_back(7)) == V.PASS_TO_HOST


def test_a_machine_hears_what_it_asked_a_host(strict: Conversation) -> None:
    assert strict.send(RED_WEB, ASH_ID, tcp(443)) == V.PASS_TO_HOST

    assert strict.send(ASH_ID, RED_WEB, tcp_back(443, "SA")) == LOCAL
    assert strict.counted() == {("red/to-hosts", SENDER): {Tally.ALLOWED}}


def test_a_machine_hears_what_it_asked_outside(strict: Conversation) -> None:
    assert strict.visit(RED_WEB, udp_back(53)) == V.DROP_DENIED_INGRESS
    assert strict.send(RED_WEB, str(OUTSIDE), udp(53)) == V.PASS_TO_OUTSIDE

    assert strict.visit(RED_WEB, udp_back(53)) == LOCAL
    assert strict.visit(RED_WEB, udp_back(53), "2001:db8:1::2") == V.DROP_DENIED_INGRESS


def test_outside_hears_what_it_asked_a_machine(strict: Conversation) -> None:
    visitor = "2a00::5"
    assert strict.send(RED_WEB, visitor, tcp_back(80)) == DENIED
    assert strict.visit(RED_WEB, tcp(80), visitor) == LOCAL

    assert strict.send(RED_WEB, visitor, tcp_back(80, "SA")) == V.PASS_TO_OUTSIDE
    assert strict.counted() == {
        ("red/visitors", RECEIVER): {Tally.ALLOWED},
        ("red/watch-80", RECEIVER): {Tally.AUDITED},
    }


def test_a_machine_that_is_known_by_its_flow_hears_from_the_mesh(strict: Conversation) -> None:
    assert strict.receive(RED_DATABASE, RED_WEB, udp_back(4000)) == V.DROP_DENIED_INGRESS
    assert strict.send(RED_WEB, RED_DATABASE, udp(4000)) == V.PASS_TO_MESH

    assert strict.receive(RED_DATABASE, RED_WEB, udp_back(4000)) == V.PASS_FROM_MESH


def test_a_dropped_packet_too_big_leaves_its_flow(strict: Conversation) -> None:
    strict.send(RED_WEB, RED_DATABASE, udp(4000) / (b"x" * 1400))
    assert list(strict.flows) == [FlowRow(RED_WEB, RED_DATABASE, 0, 50000, 4000, 17)]


def test_a_flow_that_came_in_for_a_machine_that_moved_away(strict: Conversation) -> None:
    """Forwarding asks nobody: the host where the machine is does."""
    assert strict.receive(RED_DATABASE, MOVED_AWAY, tcp(22)) == V.PASS_FORWARDED
    assert not strict.flows


@pytest.mark.parametrize("before", [40, 0xFFFFFFFF], ids=["40", "the last before they wrap"])
def test_a_revision_comes_into_force_with_its_generation_for_all_flows_at_once(
    hosts: dict[str, HostUnderTest], before: int
) -> None:
    """It is there already: the one write that counts is that of the generation."""
    host = hosts[ASH]
    after = (before + 1) % GENERATIONS
    old, new = (_rows_of(host, policies) for policies in (BOOKS["strict"], WITHOUT_UDP))
    host.fill(replace(Conversation(host, WITHOUT_UDP).world, generation=before))
    host.networks.update(
        {number: PolicyNetworkRow(after, old[number].new, row.new) for number, row in new.items()}
    )
    known, fresh = (
        sent_by(RED_WEB, ip(RED_WEB, DATABASE_HERE) / UDP(sport=port, dport=4000))
        for port in (1, 2)
    )
    try:
        assert set(host.run("from_machine", known).counted) == {LOCAL}
        assert set(host.run("from_machine", known).counted) == {LOCAL}

        host.set_generation(after)

        assert set(host.run("from_machine", known).counted) == {DENIED}
        assert set(host.run("from_machine", fresh).counted) == {DENIED}
    finally:
        host.networks.update(new)


def _rows_of(host: HostUnderTest, policies: Policies) -> dict[int, PolicyNetworkRow]:
    host.enforce(policies)
    return host.networks.items()
