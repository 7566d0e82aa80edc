"""What is told through the ring buffer, and how much of it; `agreement` compares the content."""

from __future__ import annotations

import pytest
from conversation import Conversation, tcp, udp, udp_back
from example_packets import ASH_ID, DATABASE_HERE, gateway_solicitation, ip, sent_by
from fleet_of_three import ASH, BLUE, BLUE_WEB, FLEET, ONE, RED, RED_DATABASE, RED_WEB
from host_under_test import FULL_BUCKET, HostUnderTest
from policy_books import BOOKS
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6ExtHdrFragment
from scapy.packet import Raw

from netagent.dataplane.abi import Verdict
from netagent.dataplane.abi_flows import EventKind, EventRow, Program
from netagent.policy.entries import Direction

pytestmark = pytest.mark.root

DROP, AUDIT, FLOW = EventKind


@pytest.fixture
def strict(hosts: dict[str, HostUnderTest]) -> Conversation:
    return Conversation(hosts[ASH], BOOKS["strict"])


def events(conversation: Conversation) -> list[EventRow]:
    """Return what the last packet had told."""
    assert conversation.result is not None
    return conversation.result.events


def rule(event: EventRow, book: str = "strict") -> str:
    """Return the name of the rule that an event names."""
    return BOOKS[book][event.network].rules.get(event.rule, "default")


def test_a_drop_names_rule_and_version_and_the_packet(strict: Conversation) -> None:
    strict.send(RED_WEB, BLUE_WEB, udp(80))

    (event,) = events(strict)
    assert (event.kind, event.verdict) == (DROP, Verdict.DROP_DENIED_INGRESS)
    assert (event.network, event.version, rule(event)) == (BLUE, 5, "not-80")
    assert event.direction == Direction.INGRESS.value
    assert event.program == Program.FROM_MACHINE
    assert (event.source, event.destination) == (RED_WEB, BLUE_WEB)
    assert event.source_upper == event.destination_upper == FLEET.prefix_int
    assert (event.protocol, event.source_port, event.destination_port) == (17, 50000, 80)
    assert event.bytes == 14 + 40 + 8 + len(b"question")


def test_the_default_is_rule_0_of_its_network(strict: Conversation) -> None:
    strict.send(RED_WEB, DATABASE_HERE, tcp(22))

    (event,) = events(strict)
    assert (event.network, event.version, event.rule) == (RED, 5, 0)


def test_a_drop_that_no_policy_decided_names_none(strict: Conversation) -> None:
    strict.send(RED_WEB, RED_DATABASE, IPv6ExtHdrFragment(offset=9, id=3) / Raw(b"rest"))

    (event,) = events(strict)
    assert (event.kind, event.verdict) == (DROP, Verdict.DROP_FRAGMENT)
    assert (event.network, event.version, event.rule, event.direction) == (0, 0, 0, 0)


def test_a_new_flow_is_told_once(strict: Conversation) -> None:
    strict.send(RED_WEB, DATABASE_HERE, udp(4000))
    (event,) = events(strict)
    assert (event.kind, event.verdict) == (FLOW, Verdict.PASS_TO_LOCAL_MACHINE)
    assert (event.network, rule(event)) == (RED, "web-to-database")
    assert not event.is_audited

    for source, destination, packet in (
        (DATABASE_HERE, RED_WEB, udp_back(4000)),
        (RED_WEB, DATABASE_HERE, udp(4000)),
    ):
        strict.send(source, destination, packet)
        assert not events(strict)


def test_an_audited_answer_is_told_beside_its_flow_and_again_when_asked_again(
    strict: Conversation,
) -> None:
    strict.send(RED_WEB, DATABASE_HERE, tcp(80))
    audit, flow = events(strict)
    assert (audit.kind, flow.kind) == (AUDIT, FLOW)
    assert audit.is_audited
    assert BOOKS["strict"][RED].rules[audit.audit_rule] == "watch-80"

    strict.send(RED_WEB, DATABASE_HERE, tcp(80, "A"))
    assert not events(strict)

    strict.enforce(BOOKS["strict red only"])
    strict.send(RED_WEB, DATABASE_HERE, tcp(80, "A"))
    assert [event.kind for event in events(strict)] == [AUDIT]


def test_what_a_policy_in_audit_mode_would_have_dropped_is_told_with_its_rule(
    hosts: dict[str, HostUnderTest],
) -> None:
    audit_mode = Conversation(hosts[ASH], BOOKS["audit"])

    audit_mode.send(RED_WEB, DATABASE_HERE, tcp(81))

    audit, _ = events(audit_mode)
    assert (rule(audit, "audit"), audit.verdict) == ("default", Verdict.PASS_TO_LOCAL_MACHINE)
    assert BOOKS["audit"][RED].rules[audit.audit_rule] == "no-81"


def test_a_dropped_packet_is_told_once_though_the_sender_was_audited(
    strict: Conversation,
) -> None:
    strict.send(RED_WEB, BLUE_WEB, tcp(80))

    assert [event.kind for event in events(strict)] == [DROP]


def test_an_echo_has_its_type_and_its_identifier(strict: Conversation) -> None:
    strict.send(RED_WEB, DATABASE_HERE, ICMPv6EchoRequest(id=77))

    (event,) = events(strict)
    assert (event.icmp_type, event.icmp_code) == (128, 0)
    assert (event.source_port, event.destination_port) == (77, 0)


def test_the_background_noise_of_a_guest_is_not_told(strict: Conversation) -> None:
    strict.run("from_machine", sent_by(RED_WEB, gateway_solicitation("::")))
    assert not events(strict)

    strict.run("from_machine", sent_by(RED_WEB, gateway_solicitation("fe80::5")))
    assert not events(strict)


@pytest.mark.parametrize(
    ("tokens", "told"),
    [(FULL_BUCKET // 2 + 1, True), (FULL_BUCKET // 2, False)],
    ids=["more than half full", "half full"],
)
def test_new_flows_are_told_while_the_bucket_is_more_than_half_full(
    hosts: dict[str, HostUnderTest], tokens: int, told: bool
) -> None:
    host = hosts[ASH]
    host.fill(Conversation(host, BOOKS["built-in"]).world)

    result = host.run(
        "from_machine", sent_by(RED_WEB, ip(RED_WEB, RED_DATABASE) / udp(1)), 1, tokens
    )

    assert [event.kind for event in result.events] == ([FLOW] if told else [])
    assert host.event_losses() == (int(told), int(not told), 0)


def test_drops_are_told_to_the_last_token_and_then_counted(
    hosts: dict[str, HostUnderTest],
) -> None:
    host = hosts[ASH]
    host.fill(Conversation(host, BOOKS["closed"]).world)
    arrival = sent_by(RED_WEB, ip(RED_WEB, RED_DATABASE) / udp(1), ONE)

    result = host.run("from_machine", arrival, repeat=3000)

    sent, suppressed, lost = host.event_losses()
    assert result.counted[Verdict.DROP_DENIED_EGRESS].packets == sent + suppressed == 3000
    assert len(result.events) == sent
    # Some tokens may have been earned meanwhile, 500 a second.
    assert FULL_BUCKET <= sent < 3000
    assert lost == 0


def test_tokens_are_earned_with_time(hosts: dict[str, HostUnderTest]) -> None:
    host = hosts[ASH]
    host.fill(Conversation(host, BOOKS["closed"]).world)
    arrival = sent_by(ASH_ID, ip(ASH_ID, RED_WEB) / udp(1), 101)

    told = host.run("from_host", arrival, tokens=0, earning_s=1.0).events

    assert [event.kind for event in told] == [DROP]
