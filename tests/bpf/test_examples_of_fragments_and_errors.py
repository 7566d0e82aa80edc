"""Lines 2 and 3 of access: what follows a first fragment, and errors about a known flow."""

from __future__ import annotations

import pytest
from conversation import Conversation, tcp, udp, udp_back
from example_packets import ASH_ID, BIRCH_ID, DATABASE_HERE, NEIGHBOUR, NOBODY, NOT_ATTACHED
from fleet_of_three import (
    ASH,
    BLUE_WEB,
    OUTSIDE,
    RED_DATABASE,
    RED_WEB,
    address,
    on_wire,
)
from host_under_test import HostUnderTest
from oracle.world import Side, Tally
from policy_books import BOOKS, CLOSED, STRICT_BLUE, enforced
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    ICMPv6PacketTooBig,
    ICMPv6ParamProblem,
    ICMPv6TimeExceeded,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
)
from scapy.packet import Packet, Raw

from netagent.dataplane.abi import Verdict
from netagent.model.addresses import StableId

pytestmark = pytest.mark.root

V = Verdict
LOCAL = V.PASS_TO_LOCAL_MACHINE
SENDER = Side.SENDER
ROUTER = "2a00:ffff::1"
RED_CLOSED = enforced(CLOSED % "red", STRICT_BLUE)


@pytest.fixture
def strict(hosts: dict[str, HostUnderTest]) -> Conversation:
    return Conversation(hosts[ASH], BOOKS["strict"])


def first(above: Packet, identification: int = 5) -> Packet:
    return IPv6ExtHdrFragment(m=1, id=identification) / above


def later(identification: int = 5, offset: int = 10) -> Packet:
    return IPv6ExtHdrFragment(offset=offset, id=identification) / Raw(b"the rest")


def quote(source: StableId | str, destination: StableId | str, above: Packet) -> Packet:
    """Return the packet that an error quotes."""
    ends = [one if isinstance(one, str) else str(address(one)) for one in (source, destination)]
    return Raw(bytes(IPv6(src=ends[0], dst=ends[1]) / above))


def test_later_fragments_follow_the_first(strict: Conversation) -> None:
    assert strict.send(RED_WEB, DATABASE_HERE, first(udp(4000))) == LOCAL

    for offset in (10, 1, 0x1FFF):
        assert strict.send(RED_WEB, DATABASE_HERE, later(offset=offset)) == LOCAL
        assert strict.counted() == {("red/web-to-database", SENDER): {Tally.ALLOWED}}


def test_later_fragments_follow_one_of_an_answer_without_a_rule(strict: Conversation) -> None:
    strict.send(RED_WEB, RED_DATABASE, udp(4000))

    assert strict.receive(RED_DATABASE, RED_WEB, first(udp_back(4000))) == V.PASS_FROM_MESH
    assert strict.receive(RED_DATABASE, RED_WEB, later()) == V.PASS_FROM_MESH


def test_later_fragments_follow_one_from_outside(strict: Conversation) -> None:
    assert strict.visit(RED_WEB, first(udp(4000)), "2a00::5") == LOCAL
    assert strict.visit(RED_WEB, later(), "2a00::5") == LOCAL
    assert strict.visit(RED_WEB, later(), "2a00:0:1::5") == V.DROP_FRAGMENT


def test_later_fragments_follow_one_of_a_message_that_is_not_remembered(
    strict: Conversation,
) -> None:
    assert strict.send(ASH_ID, RED_WEB, first(ICMPv6EchoReply(id=1))) == LOCAL
    assert strict.send(ASH_ID, RED_WEB, later()) == LOCAL


def test_a_later_fragment_of_nothing_is_dropped(strict: Conversation) -> None:
    assert strict.send(RED_WEB, DATABASE_HERE, later()) == V.DROP_FRAGMENT

    strict.send(RED_WEB, DATABASE_HERE, first(udp(4000)))

    assert strict.send(RED_WEB, DATABASE_HERE, later(identification=6)) == V.DROP_FRAGMENT
    assert strict.send(RED_WEB, NEIGHBOUR, later()) == V.DROP_FRAGMENT
    assert strict.send(DATABASE_HERE, RED_WEB, later()) == V.DROP_FRAGMENT


def test_a_later_fragment_of_one_that_was_denied_is_dropped(strict: Conversation) -> None:
    assert strict.send(RED_WEB, DATABASE_HERE, first(udp(4001))) == V.DROP_DENIED_EGRESS
    assert strict.send(RED_WEB, DATABASE_HERE, later()) == V.DROP_FRAGMENT


def test_a_later_fragment_is_dropped_once_policies_have_changed(strict: Conversation) -> None:
    strict.send(RED_WEB, DATABASE_HERE, first(udp(4000)))

    strict.enforce(BOOKS["strict red only"])

    assert strict.send(RED_WEB, DATABASE_HERE, later()) == V.DROP_FRAGMENT


def test_a_later_fragment_has_half_a_minute(strict: Conversation) -> None:
    strict.send(RED_WEB, DATABASE_HERE, first(udp(4000)))

    strict.wait(20)
    assert strict.send(RED_WEB, DATABASE_HERE, later()) == LOCAL
    strict.wait(11)
    assert strict.send(RED_WEB, DATABASE_HERE, later()) == V.DROP_FRAGMENT


def test_the_machine_that_was_spoken_to_may_say_that_it_could_not(strict: Conversation) -> None:
    error = ICMPv6DestUnreach(code=4) / quote(RED_WEB, DATABASE_HERE, udp(4000))
    assert strict.send(DATABASE_HERE, RED_WEB, error) == V.DROP_DENIED_EGRESS

    strict.send(RED_WEB, DATABASE_HERE, udp(4000))

    assert strict.send(DATABASE_HERE, RED_WEB, error) == LOCAL
    assert strict.counted() == {("red/web-to-database", SENDER): {Tally.ALLOWED}}


@pytest.mark.parametrize(
    "error",
    [ICMPv6PacketTooBig(mtu=1280), ICMPv6TimeExceeded(), ICMPv6ParamProblem()],
    ids=["too big", "time exceeded", "parameter problem"],
)
def test_every_kind_of_error_passes_from_afar(strict: Conversation, error: Packet) -> None:
    strict.send(RED_WEB, RED_DATABASE, tcp(79))

    about = error / quote(RED_WEB, RED_DATABASE, tcp(79))

    assert strict.receive(RED_DATABASE, RED_WEB, about) == V.PASS_FROM_MESH


def test_an_error_may_be_about_an_answer(strict: Conversation) -> None:
    strict.send(RED_WEB, DATABASE_HERE, udp(4000))

    error = ICMPv6DestUnreach() / quote(DATABASE_HERE, RED_WEB, udp_back(4000))

    assert strict.send(RED_WEB, DATABASE_HERE, error) == LOCAL


def test_an_error_may_be_about_an_echo(strict: Conversation) -> None:
    strict.send(RED_WEB, DATABASE_HERE, ICMPv6EchoRequest(id=3))

    about = quote(RED_WEB, DATABASE_HERE, ICMPv6EchoRequest(id=3))
    about_another = quote(RED_WEB, DATABASE_HERE, ICMPv6EchoRequest(id=4))

    assert strict.send(DATABASE_HERE, RED_WEB, ICMPv6TimeExceeded() / about) == LOCAL
    verdict = strict.send(DATABASE_HERE, RED_WEB, ICMPv6TimeExceeded() / about_another)
    assert verdict == V.DROP_DENIED_EGRESS


@pytest.mark.parametrize("reporter", [ASH_ID, BIRCH_ID])
def test_a_host_may_report_on_the_way(strict: Conversation, reporter: StableId) -> None:
    strict.enforce(BOOKS["closed"])
    error = ICMPv6PacketTooBig(mtu=1280) / quote(RED_WEB, RED_DATABASE, udp(4000))
    send = strict.send if reporter == ASH_ID else strict.receive
    passes = LOCAL if reporter == ASH_ID else V.PASS_FROM_MESH
    assert send(reporter, RED_WEB, error) == V.DROP_DENIED_INGRESS
    strict.enforce(BOOKS["strict"])
    strict.send(RED_WEB, RED_DATABASE, udp(4000))

    assert send(reporter, RED_WEB, error) == passes
    assert strict.counted() == {("red/web-to-database", SENDER): {Tally.ALLOWED}}


def test_a_router_outside_may_report_on_the_way(strict: Conversation) -> None:
    error = ICMPv6TimeExceeded() / quote(RED_WEB, str(OUTSIDE), udp(53))
    assert strict.visit(RED_WEB, error, ROUTER) == V.DROP_DENIED_INGRESS

    strict.send(RED_WEB, str(OUTSIDE), udp(53))

    assert strict.visit(RED_WEB, error, ROUTER) == LOCAL
    assert strict.counted() == {("red/internet", SENDER): {Tally.ALLOWED}}


def test_a_machine_may_report_to_outside(strict: Conversation) -> None:
    visitor = "2a00::5"
    error = ICMPv6DestUnreach() / quote(visitor, RED_WEB, udp(4000))
    assert strict.send(RED_WEB, visitor, error) == V.DROP_DENIED_EGRESS

    strict.visit(RED_WEB, udp(4000), visitor)

    assert strict.send(RED_WEB, visitor, error) == V.PASS_TO_OUTSIDE
    assert strict.send(RED_WEB, "2a00:0:1::5", error) == V.DROP_DENIED_EGRESS


def test_an_error_passes_no_other_machines_flow(strict: Conversation) -> None:
    """Neither one about a flow of others, nor to one that did not speak."""
    strict.send(RED_WEB, DATABASE_HERE, udp(4000))
    about = ICMPv6DestUnreach() / quote(RED_WEB, DATABASE_HERE, udp(4000))

    assert strict.send(BLUE_WEB, RED_WEB, about) == V.DROP_DENIED_EGRESS
    assert strict.send(DATABASE_HERE, NEIGHBOUR, about) == V.DROP_DENIED_EGRESS
    assert strict.send(DATABASE_HERE, BLUE_WEB, about) == V.DROP_DENIED_EGRESS


def test_addresses_between_hosts_are_nobodys_in_a_quote(strict: Conversation) -> None:
    strict.send(RED_WEB, RED_DATABASE, udp(4000))
    encoded = [str(on_wire(ASH, one)) for one in (RED_WEB, RED_DATABASE)]

    about = ICMPv6DestUnreach() / quote(encoded[0], encoded[1], udp(4000))

    assert strict.receive(RED_DATABASE, RED_WEB, about) == V.DROP_DENIED_INGRESS


@pytest.mark.parametrize(
    "quoted",
    [
        quote(RED_WEB, DATABASE_HERE, udp(4001)),
        Raw(bytes(quote(RED_WEB, DATABASE_HERE, udp(4000)))[:47]),
        Raw(b"\x40" + bytes(quote(RED_WEB, DATABASE_HERE, udp(4000)))[1:]),
        quote(RED_WEB, DATABASE_HERE, IPv6ExtHdrDestOpt() / udp(4000)),
        quote(RED_WEB, DATABASE_HERE, ICMPv6DestUnreach() / Raw(bytes(8))),
        quote(str(OUTSIDE), "2a00::9", udp(4000)),
        Raw(b""),
    ],
    ids=[
        "another port",
        "a byte short",
        "another version",
        "an extension header",
        "an error",
        "nobody of ours",
        "nothing",
    ],
)
def test_an_error_that_quotes_no_known_flow_is_judged_like_any_packet(
    strict: Conversation, quoted: Packet
) -> None:
    strict.send(RED_WEB, DATABASE_HERE, udp(4000))

    error = ICMPv6DestUnreach() / quoted

    assert strict.send(DATABASE_HERE, RED_WEB, error) == V.DROP_DENIED_EGRESS
    strict.enforce(BOOKS["built-in"])
    assert strict.send(DATABASE_HERE, RED_WEB, error) == LOCAL


def test_padding_belongs_to_no_quote(strict: Conversation) -> None:
    strict.send(RED_WEB, DATABASE_HERE, udp(4000))
    error = ICMPv6DestUnreach() / Raw(bytes(quote(RED_WEB, DATABASE_HERE, udp(4000)))[:48])

    assert strict.send(DATABASE_HERE, RED_WEB, error, plen=8 + 47) == V.DROP_DENIED_EGRESS
    assert strict.send(DATABASE_HERE, RED_WEB, error) == LOCAL


def test_an_error_about_a_packet_to_one_that_has_no_location_is_judged_by_itself(
    strict: Conversation,
) -> None:
    where = strict.world.locations
    strict.change(locations={**where, NOBODY: where[RED_DATABASE]})
    strict.send(RED_WEB, NOBODY, udp(4000))
    error = ICMPv6DestUnreach() / quote(RED_WEB, NOBODY, udp(4000))
    assert strict.send(ASH_ID, RED_WEB, error) == LOCAL
    strict.enforce(BOOKS["closed"])
    strict.change(locations=where)

    assert strict.send(ASH_ID, RED_WEB, error) == V.DROP_DENIED_INGRESS


def test_an_error_neither_renews_nor_removes_its_flow(strict: Conversation) -> None:
    strict.send(RED_WEB, DATABASE_HERE, udp(4000))
    error = ICMPv6DestUnreach() / quote(RED_WEB, DATABASE_HERE, udp(4000))

    strict.wait(40)
    assert strict.send(DATABASE_HERE, RED_WEB, error) == LOCAL
    strict.enforce(RED_CLOSED)
    assert strict.send(DATABASE_HERE, RED_WEB, error) == V.DROP_DENIED_EGRESS
    assert strict.flows

    strict.enforce(BOOKS["strict"])
    assert strict.send(DATABASE_HERE, RED_WEB, error) == LOCAL
    strict.wait(21)
    assert strict.send(DATABASE_HERE, RED_WEB, error) == V.DROP_DENIED_EGRESS


def test_what_follows_an_error_in_fragments_is_dropped(strict: Conversation) -> None:
    strict.send(RED_WEB, DATABASE_HERE, udp(4000))
    error = ICMPv6DestUnreach() / quote(RED_WEB, DATABASE_HERE, udp(4000))

    assert strict.send(DATABASE_HERE, RED_WEB, first(error)) == LOCAL
    assert strict.send(DATABASE_HERE, RED_WEB, later()) == V.DROP_FRAGMENT


def test_a_first_fragment_to_nobody_attached_is_remembered_all_the_same(
    strict: Conversation,
) -> None:
    assert strict.send(ASH_ID, NOT_ATTACHED, first(udp(7))) == V.DROP_NO_ENDPOINT
    assert strict.send(ASH_ID, NOT_ATTACHED, later()) == V.DROP_NO_ENDPOINT
