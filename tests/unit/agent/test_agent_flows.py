"""What the data path reports: by which names, remembered for how long, and followed by whom."""

from __future__ import annotations

import asyncio

import pytest
from agent_policies import allowing, whole
from agent_rig import DB, FLEET, H1, H2, WEB, at, snapshot
from simulated_events import event

from netagent.agent.flow_log import (
    REMEMBERED_MOST,
    WAITING_MOST,
    FlowLog,
    FlowReport,
    NamedFlow,
)
from netagent.agent.flow_names import FlowNames
from netagent.agent.flow_service import parse_wanted, report_to_message
from netagent.api.agent.v1 import agent_service_pb2 as pb
from netagent.dataplane.abi import Verdict
from netagent.dataplane.abi_flows import EventKind, EventLosses, Program
from netagent.model.addresses import make_id
from netagent.model.errors import InvalidError
from netagent.reconcile.batch import Batch
from netagent.reconcile.delta import plan_delta
from netagent.reconcile.view import View

P = FLEET.prefix_int
NONE = EventLosses(0, 0, 0)


def names() -> FlowNames:
    view = View()
    rows = {WEB: at(H1, 1), DB: at(H2, 1, "db")}
    for batch in (snapshot(rows), Batch(2, policies=(whole(allowing("tcp/5432")),))):
        view.apply(plan_delta(view, batch))
    return FlowNames(FLEET, view, boot_ns=1_700_000_000_000_000_000)


def flows(count: int, *, first: int = 0) -> list[NamedFlow]:
    """Return flows that differ by source port."""
    ports = range(first, first + count)
    return [names_once.name_flow(event((P, WEB), (P, DB), source_port=port)) for port in ports]


names_once = names()


def ports(found: list[NamedFlow]) -> list[int]:
    return [flow.event.source_port for flow in found]


def every(flow: NamedFlow) -> bool:
    return True


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        pytest.param((P, WEB), ("fd00:1:2::1:10:1", "red/web"), id="a machine"),
        pytest.param((H2.locator, DB), ("fd00:1:2::1:10:2", "red/db"), id="on the mesh"),
        pytest.param((P, H2.stable_id), ("fd00:1:2::10:2", "host:h2"), id="a host"),
        pytest.param((H2.locator, H2.stable_id), ("fd00:1:2::10:2", "host:h2"), id="host on mesh"),
        pytest.param((P, make_id(9, 1, 1)), ("fd00:1:2::9:10:1", ""), id="one not known here"),
        pytest.param((P, make_id(0, 1, 99)), ("fd00:1:2::10:63", ""), id="a host not known"),
        pytest.param((0x20010DB8 << 32, 7), ("2001:db8::7", ""), id="outside"),
    ],
)
def test_an_address_is_shown_as_the_ends_know_it(
    address: tuple[int, int], shown: tuple[str, str]
) -> None:
    flow = names().name_flow(event(address, (P, WEB)))

    assert (flow.source_address, flow.source_name) == shown


def test_a_flow_says_everything_that_the_event_did() -> None:
    row = event(
        (P, WEB),
        (P, DB),
        kind=EventKind.AUDIT,
        verdict=Verdict.PASS_TO_MESH,
        rule=1,
        audit_rule=2,
        direction=1,
        version=7,
    )

    message = report_to_message(FlowReport(names().name_flow(row), suppressed=3, lost=4))

    flow = message.flow
    assert (message.suppressed, message.lost) == (3, 4)
    assert flow.time.ToNanoseconds() == 1_700_000_001_000_000_000
    assert flow.kind == pb.FLOW_KIND_AUDIT
    assert (flow.verdict, flow.program) == ("pass_to_mesh", "from_machine")
    assert (flow.network, flow.version, flow.direction) == ("red", 7, "egress")
    assert (flow.rule, flow.audit_rule) == ("web-to-db", "to-mirrors")
    assert (flow.protocol, flow.source_port, flow.destination_port) == (6, 40_000, 22)
    assert (flow.source.name, flow.destination.name, flow.bytes) == ("red/web", "red/db", 94)


def test_no_policy_decided_about_what_was_dropped_before() -> None:
    row = event((P, WEB), (P, DB), verdict=Verdict.DROP_SPOOFED_MAC, network=0, version=0)

    flow = report_to_message(FlowReport(names().name_flow(row))).flow

    assert (flow.network, flow.rule, flow.direction) == ("", "", "")


def test_a_rule_that_is_gone_is_called_by_its_number() -> None:
    flow = names().name_flow(event((P, WEB), (P, DB), rule=9))

    assert flow.rule == "rule 9"


def test_a_network_that_is_gone_is_called_by_its_number() -> None:
    flow = names().name_flow(event((P, WEB), (P, DB), network=9))

    assert flow.network == "9"


def test_the_latest_flows_are_remembered() -> None:
    log = FlowLog()
    log.add(flows(REMEMBERED_MOST), NONE)

    log.add(flows(2, first=50_000), NONE)

    found = ports(log.remembered(every))
    assert (len(found), found[0], found[-2:]) == (REMEMBERED_MOST, 2, [50_000, 50_001])


async def test_a_follower_gets_what_comes_and_nothing_from_before() -> None:
    log = FlowLog()
    log.add(flows(1), NONE)
    with log.follow(every) as follower:
        log.add(flows(2, first=7), NONE)

        got = [await follower.next(), await follower.next()]

    assert ports([report.flow for report in got]) == [7, 8]


async def test_a_slow_follower_loses_flows_is_told_and_holds_nobody_up() -> None:
    log = FlowLog()
    with log.follow(every) as slow, log.follow(every) as quick:
        log.add(flows(WAITING_MOST), NONE)
        assert (await quick.next()).flow.event.source_port == 0
        log.add(flows(3, first=50_000), NONE)

        first = await slow.next()
        rest = [await slow.next() for _ in range(WAITING_MOST - 1)]
        log.add(flows(1, first=60_000), NONE)
        last = await slow.next()

    assert (first.flow.event.source_port, first.lost) == (0, 3)
    assert {report.lost for report in rest} == {0}
    assert (last.flow.event.source_port, last.lost) == (60_000, 0)


async def test_what_the_data_path_did_not_report_is_told_once_from_the_beginning_on() -> None:
    log = FlowLog()
    log.add([], EventLosses(sent=10, suppressed=5, lost=1))
    with log.follow(every) as follower:
        log.add([], EventLosses(sent=10, suppressed=7, lost=1))
        log.add(flows(2), EventLosses(sent=12, suppressed=8, lost=4))

        got = [await follower.next(), await follower.next()]

    assert [(report.suppressed, report.lost) for report in got] == [(3, 3), (0, 0)]


async def test_a_follower_that_waits_is_ended_when_the_agent_stops() -> None:
    log = FlowLog()
    with log.follow(every) as follower:
        log.add(flows(1), NONE)
        waiting = asyncio.ensure_future(follower.next())
        assert await waiting is not None
        waiting = asyncio.ensure_future(follower.next())
        await asyncio.sleep(0)

        log.close()

        assert await waiting is None


@pytest.mark.parametrize(
    ("request_fields", "expected"),
    [
        pytest.param({}, [1, 2, 3], id="everything"),
        pytest.param({"dropped": True}, [1, 3], id="drops"),
        pytest.param({"machine": "red/web"}, [1, 2], id="a machine"),
        pytest.param({"machine": "db"}, [1, 3], id="a name in any network"),
        pytest.param({"machine": "db", "dropped": True}, [1, 3], id="its drops"),
        pytest.param({"machine": "h2"}, [], id="a host's name is no machine's"),
        pytest.param({"machine": "blue/web"}, [], id="a machine of another network"),
    ],
)
def test_a_caller_sees_what_was_asked_for(request_fields: dict, expected: list[int]) -> None:
    log, called = FlowLog(), names()
    rows = (
        event((P, WEB), (P, DB), source_port=1),
        event((P, WEB), (P, H2.stable_id), kind=EventKind.FLOW, source_port=2),
        event((P, H2.stable_id), (P, DB), program=Program.FROM_MESH, source_port=3),
    )
    log.add([called.name_flow(row) for row in rows], NONE)

    found = log.remembered(parse_wanted(pb.WatchFlowsRequest(**request_fields)))

    assert ports(found) == expected


@pytest.mark.parametrize("machine", ["a/b/c", "Web", "red/", "/web"])
def test_a_machine_that_cannot_be_is_refused(machine: str) -> None:
    with pytest.raises(InvalidError, match="machine"):
        parse_wanted(pb.WatchFlowsRequest(machine=machine))
