"""Connections of one machine: found among all, and taken over without losing what is known here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from netagent.dataplane.abi_flows import FlowFlag, FlowRow, FlowStateRow, pack_flow
from netagent.dataplane.bpf_map import BATCH_ROWS
from netagent.dataplane.conntrack import Connections
from netagent.dataplane.datapath import Datapath
from netagent.model.addresses import StableId
from netagent.model.flows import CarriedFlow

pytestmark = pytest.mark.root

WEB = StableId(0x0000000100100001)
NOW_NS = 1_000_000_000_000
S = 1_000_000_000
ASKED = FlowFlag.ASKED_EGRESS | FlowFlag.ASKED_INGRESS
KNOWN = FlowFlag.FROM_HIGH | FlowFlag.ANSWERED


@pytest.fixture
def datapath(pin_dir: Path) -> Iterator[Datapath]:
    with Datapath.open(pin_dir) as opened:
        yield opened


@pytest.fixture
def connections(datapath: Datapath, pin_dir: Path) -> Iterator[Connections]:
    opened = Connections(pin_dir / "conntrack", lambda: NOW_NS)
    yield opened
    opened.close()


def between(low: int, high: int, port: int = 443) -> FlowRow:
    return FlowRow(low, high, 0, port, 50_000, 6)


def carried(flow: FlowRow, age_ns: int, flags: FlowFlag = KNOWN) -> CarriedFlow:
    return CarriedFlow(pack_flow(flow), age_ns, int(flags))


def test_a_machines_flows_are_found_whichever_end_it_is(
    datapath: Datapath, connections: Connections
) -> None:
    mine = [between(7, WEB), between(WEB, 2**63), between(WEB, WEB)]
    state = FlowStateRow(NOW_NS - 3 * S, 9, KNOWN | ASKED, 1, 2, 3, 4)
    datapath.conntrack.update(dict.fromkeys([*mine, between(7, 8)], state))

    found = connections.flows_of(WEB)

    assert sorted(found, key=lambda flow: flow.key) == sorted(
        (carried(flow, 3 * S) for flow in mine), key=lambda flow: flow.key
    )


def test_flows_of_several_ids_are_found_together(
    datapath: Datapath, connections: Connections
) -> None:
    mine = [between(7, WEB), between(9, WEB + 1)]
    state = FlowStateRow(NOW_NS, 1, KNOWN)
    datapath.conntrack.update(dict.fromkeys([*mine, between(7, 8)], state))

    found = connections.flows_of(WEB, StableId(WEB + 1))

    assert {flow.key for flow in found} == set(map(pack_flow, mine))


def test_an_id_that_only_happens_to_be_in_a_row_is_not_meant(
    datapath: Datapath, connections: Connections
) -> None:
    """Its bytes over the seam of two words, of two rows, or as the address of an outside peer."""
    raw = WEB.to_bytes(8, "big")
    seam = int.from_bytes(bytes(4) + raw[:4], "big"), int.from_bytes(raw[4:] + bytes(4), "big")
    others = [FlowRow(*seam, 0, 1, 2, 6), FlowRow(1, 2, WEB, 1, 2, 6, is_outside=True)]
    datapath.conntrack.update(dict.fromkeys(others, FlowStateRow(NOW_NS, 1, KNOWN)))
    assert connections.flows_of(WEB) == []


def test_flows_are_found_in_a_table_of_many_batches(
    datapath: Datapath, connections: Connections
) -> None:
    state = FlowStateRow(NOW_NS, 1, KNOWN)
    others = {between(1, number + 2): state for number in range(2 * BATCH_ROWS)}
    mine = {between(9, WEB, port): state for port in range(500)}
    datapath.conntrack.update(others | mine)
    assert {flow.key for flow in connections.flows_of(WEB)} == set(map(pack_flow, mine))


def test_a_flow_from_elsewhere_is_one_that_nobody_was_asked_about(
    datapath: Datapath, connections: Connections
) -> None:
    flow = between(7, WEB)
    assert connections.take_over([carried(flow, 5 * S)]) == 1
    assert datapath.conntrack.get(flow) == FlowStateRow(NOW_NS - 5 * S, 0, KNOWN)


def test_whoever_has_seen_a_flow_later_is_right(
    datapath: Datapath, connections: Connections
) -> None:
    ours, theirs = between(7, WEB), between(8, WEB)
    held = FlowStateRow(NOW_NS - 2 * S, 9, KNOWN | FlowFlag.ASKED_INGRESS, 1, 0, 3, 0)
    datapath.conntrack.update({ours: held, theirs: held})

    taken = connections.take_over([carried(ours, 3 * S), carried(theirs, S, FlowFlag.RESET)])

    assert taken == 1
    assert datapath.conntrack.get(ours) == held
    assert datapath.conntrack.get(theirs) == FlowStateRow(NOW_NS - S, 0, FlowFlag.RESET)


def test_what_is_carried_twice_is_taken_once(connections: Connections) -> None:
    flows = [carried(between(7, WEB, port), port * S) for port in range(100)]
    assert connections.take_over(flows) == 100
    assert connections.take_over(flows) == 0
    assert connections.take_over([]) == 0


def test_a_flow_older_than_this_machine_is_taken_too(datapath: Datapath, pin_dir: Path) -> None:
    """Its host has been up for longer: its last packet was before this one booted."""
    young = Connections(pin_dir / "conntrack", lambda: S)
    assert young.take_over([carried(between(7, WEB), 3_600 * S)]) == 1
    assert [flow.age_ns for flow in young.flows_of(WEB)] == [3_600 * S]
    young.close()
