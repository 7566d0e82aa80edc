"""Holding a program's result against the oracle's outcome."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from host_under_test import HostUnderTest, Result, read_clocks
from oracle.programs import ETHERNET_BYTES, decide
from oracle.reports import Report, report_of, reports_of
from oracle.world import Arrival, Outcome, World

from netagent.dataplane.abi import MARK_DECIDED, Counter
from netagent.dataplane.abi_flows import EventRow, FlowStateRow, FragmentStateRow


def run_and_compare(
    host: HostUnderTest, world: World, program: str, arrival: Arrival
) -> tuple[Outcome, Result]:
    """Run a packet through the program in a filled host; assert that the oracle agrees.

    world: with the places of rules' counters as they are in the host.
    """
    expected = decide(world, program, arrival)
    started_ns = read_clocks().coarse_ns
    result = host.run(program, arrival)
    compare(world, program, arrival, expected, result, started_ns)
    return expected, result


def compare(
    world: World,
    program: str,
    arrival: Arrival,
    expected: Outcome,
    result: Result,
    started_ns: int,
) -> None:
    """Assert that all of a result is as expected. started_ns: coarse clock before the run."""
    counted = {verdict: counter.packets for verdict, counter in result.counted.items()}
    assert counted == ({} if expected.verdict is None else {expected.verdict: 1}), (
        f"{program} counted {counted}, the oracle says {expected.verdict!r}"
    )
    assert result.action == expected.action, f"{program} returned {result.action!r}"
    if expected.packet is not None:
        _compare_packet(program, expected, result)
    once = Counter(1, len(arrival.data))
    assert result.rules == dict.fromkeys(expected.effects.counts, once), "rules counted otherwise"
    _compare_events(reports_of(program, arrival, expected), result.events)
    _compare_rows(world.flows, expected.effects.flows, result.flows, world.seen_ns, started_ns)
    _compare_rows(
        world.fragments, expected.effects.fragments, result.fragments, world.seen_ns, started_ns
    )


def _compare_packet(program: str, expected: Outcome, result: Result) -> None:
    has_ethernet = expected.ethernet is not None or program != "from_mesh"
    at = ETHERNET_BYTES if has_ethernet else 0
    assert result.data[at:].hex() == (expected.packet or b"").hex(), (
        f"{program} sent another packet"
    )
    if expected.ethernet is not None:
        assert result.data[:at].hex() == expected.ethernet.hex()
    if expected.is_marked:
        assert result.mark == MARK_DECIDED, f"{program} left mark {result.mark:x}"


def _compare_events(expected: list[Report], events: list[EventRow]) -> None:
    reported = [report_of(event) for event in events]
    is_open = [report.about is None for report in expected]
    if any(is_open):
        reported = [replace(report, about=None) for report in reported]
    assert reported == expected, "other events"


def _compare_rows(
    before: Any, changes: Any, found: dict[Any, Any], world_ns: int, started_ns: int
) -> None:
    """Compare flows or fragments; what the oracle has seen now was seen after the start."""
    expected = {key: row for key, row in {**before, **changes}.items() if row is not None}
    seen = {
        key: replace(row, seen_ns=world_ns) if _is_new(key, row, changes, started_ns) else row
        for key, row in found.items()
    }
    assert seen == expected, "flows or fragments differ"


def _is_new(key: Any, row: FlowStateRow | FragmentStateRow, changes: Any, started_ns: int) -> bool:
    return key in changes and row.seen_ns >= started_ns
