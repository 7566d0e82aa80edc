"""Events: what the programs did is read once, in order, and what could not be said is counted."""

from __future__ import annotations

import select
import struct
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv6Address
from pathlib import Path

import pytest
from kernel.namespaces import make_interface

from netagent.dataplane import libbpf
from netagent.dataplane.abi import Constants, EndpointRow, Verdict
from netagent.dataplane.abi_flows import EventKind, EventLosses, Program
from netagent.dataplane.abi_policy import RuleRow
from netagent.dataplane.datapath import Datapath
from netagent.model.addresses import Fleet, Locator, StableId, random_prefix
from netagent.model.fleet import Identity, Location
from netagent.policy.compiler import compile_policy
from netagent.policy.entries import CompiledPolicy
from netagent.policy.fleet import Member, make_snapshot
from netagent.policy.language import AnySelector, Policy, Rule, Traffic
from netagent.policy.language import Verdict as Says

pytestmark = pytest.mark.root

FLEET = Fleet("fleet", random_prefix())
HERE = Locator(0xFC1A000100010001)
SHOP = 7
WEB, DB = StableId(SHOP << 32 | 1), StableId(SHOP << 32 | 2)
WEB_MAC, DB_MAC, GATEWAY = b"\2n\0\0\0\1", b"\2n\0\0\0\2", b"\2n\0\0\0\xff"
WEB_PORT, DB_PORT = 200, 202
DNS = Rule("dns", (AnySelector(),), (AnySelector(),), Says.ALLOW, (Traffic(17, 53, 53),))


@pytest.fixture
def datapath(pin_dir: Path) -> Iterator[Datapath]:
    make_interface("web", WEB_PORT)
    make_interface("db", DB_PORT)
    with Datapath.open(pin_dir) as opened:
        opened.load(Constants(FLEET, HERE, StableId(1), 1280, 100))
        for number, (one, mac, port) in enumerate(
            ((WEB, WEB_MAC, WEB_PORT), (DB, DB_MAC, DB_PORT)), 2
        ):
            opened.location.update({one: Location(HERE, Identity(number), 1)})
            opened.endpoint.update({one: EndpointRow(port, mac, False)})
        opened.policies.apply(compiled(DNS, version=5))
        yield opened


def compiled(rule: Rule, version: int) -> CompiledPolicy:
    members = [Member("shop", "web", Identity(2), {}), Member("shop", "db", Identity(3), {})]
    snapshot = make_snapshot(FLEET.prefix, {"shop": SHOP}, members)
    numbers = {"dns": 1, "ntp": 2, "web": 3}
    policy = Policy("shop", (rule,), Says.DENY)
    return compile_policy(policy, snapshot, version, numbers=numbers).entries


def address(one: StableId) -> IPv6Address:
    return IPv6Address(FLEET.prefix_int << 64 | one)


def send(datapath: Datapath, port: int, *, source: StableId = WEB, source_port: int = 4000) -> None:
    """Let web send a datagram to db, as from_machine sees it."""
    udp = struct.pack("!HHHH", source_port, port, 8, 0)
    ipv6 = struct.pack("!IHBB", 6 << 28, len(udp), 17, 64)
    ipv6 += address(source).packed + address(DB).packed
    frame = GATEWAY + WEB_MAC + b"\x86\xdd" + ipv6 + udp
    ctx = bytearray(192)
    struct.pack_into("=I", ctx, 40, WEB_PORT)
    libbpf.run_program(datapath.program("from_machine"), frame, ctx=bytes(ctx))


def is_readable(datapath: Datapath) -> bool:
    return bool(select.select([datapath.events], [], [], 0)[0])


def test_a_new_flow_and_a_denied_packet_are_told_in_order(datapath: Datapath) -> None:
    assert not is_readable(datapath)

    send(datapath, 53)
    send(datapath, 54)

    assert is_readable(datapath)
    began, denied = datapath.events.take()
    assert (began.kind, began.verdict) == (EventKind.FLOW, Verdict.PASS_TO_LOCAL_MACHINE)
    assert (denied.kind, denied.verdict) == (EventKind.DROP, Verdict.DROP_DENIED_EGRESS)
    assert (began.network, began.version, began.rule) == (SHOP, 5, 1)
    assert (denied.network, denied.version, denied.rule) == (SHOP, 5, 0)
    assert (denied.source, denied.destination) == (WEB, DB)
    assert (denied.source_upper, denied.protocol) == (FLEET.prefix_int, 17)
    assert (denied.source_port, denied.destination_port) == (4000, 54)
    assert denied.program is Program.FROM_MACHINE
    assert denied.bytes == 14 + 40 + 8
    assert not is_readable(datapath)
    assert datapath.events.take() == []


def test_no_more_is_taken_than_asked_for_and_the_rest_waits(datapath: Datapath) -> None:
    for port in range(100, 110):
        send(datapath, port)

    first = datapath.events.take(3)
    assert is_readable(datapath)
    rest = datapath.events.take()

    assert [one.destination_port for one in (*first, *rest)] == list(range(100, 110))
    assert len(first) == 3


def test_events_wait_for_an_agent_that_comes_later(datapath: Datapath, pin_dir: Path) -> None:
    send(datapath, 54)

    with Datapath.open(pin_dir) as adopting:
        assert [one.destination_port for one in adopting.events.take()] == [54]
    assert datapath.events.take() == []


def test_what_is_not_told_is_counted(datapath: Datapath) -> None:
    """The bucket has 1,000 tokens and gets 500 a second."""
    for port in range(1000, 3000):
        send(datapath, port)

    losses = datapath.events.losses()
    told = datapath.events.take(5000)

    assert losses == EventLosses(sent=len(told), suppressed=2000 - len(told), lost=0)
    assert 1000 <= len(told) < 2000


def test_rules_count_what_they_decided(datapath: Datapath) -> None:
    send(datapath, 53)
    send(datapath, 53)
    send(datapath, 54)

    counted = {
        (rule.number, is_receiver): counter
        for (rule, is_receiver), counter in datapath.policies.rule_counters().items()
        if rule.network == SHOP
    }

    bytes_each = 14 + 40 + 8
    assert (counted[1, False].allowed.packets, counted[1, False].allowed.bytes) == (
        2,
        2 * bytes_each,
    )
    assert counted[0, False].denied.packets == 1
    assert counted[1, True].allowed.packets == 0, "one network is asked once, as the sender's"


def test_a_rules_counters_begin_at_nothing_when_another_rule_has_used_them(
    datapath: Datapath,
) -> None:
    maps = datapath.policies
    send(datapath, 53)
    index = maps.held().networks[SHOP].rules[1]
    ntp = replace(DNS, name="ntp", traffic=(Traffic(17, 123, 123),))
    maps.apply(compiled(ntp, version=6))
    maps.raise_generation()
    web = replace(DNS, name="web", traffic=(Traffic(6, 443, 443),))

    maps.apply(compiled(web, version=7))

    assert maps.held().networks[SHOP].rules[3] == index
    assert maps.rule_counters()[RuleRow(SHOP, 3), False].allowed.packets == 0


def test_a_revoked_rule_ends_its_flows_with_the_next_packet(datapath: Datapath) -> None:
    send(datapath, 53)
    ntp = replace(DNS, name="ntp", traffic=(Traffic(17, 123, 123),))
    datapath.policies.apply(compiled(ntp, version=6))
    datapath.policies.raise_generation()

    send(datapath, 53)

    began, ended = datapath.events.take()
    assert (began.kind, began.version) == (EventKind.FLOW, 5)
    assert (ended.verdict, ended.version) == (Verdict.DROP_DENIED_EGRESS, 6)
    assert datapath.conntrack.items() == {}
