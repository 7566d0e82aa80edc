"""Holding a program's result against the oracle's outcome."""

from __future__ import annotations

from host_under_test import HostUnderTest, Result, boot_clock_ns
from oracle.programs import ETHERNET_BYTES, decide
from oracle.world import Arrival, Outcome, World

from netagent.dataplane.abi import MARK_DECIDED


def run_and_compare(
    host: HostUnderTest, world: World, program: str, arrival: Arrival
) -> tuple[Outcome, Result]:
    """Run a packet through the program in a filled host; assert that the oracle agrees."""
    expected = decide(world, program, arrival)
    started_ns = boot_clock_ns()
    result = host.run(program, arrival)
    counted = {verdict: counter.packets for verdict, counter in result.counted.items()}
    assert counted == ({} if expected.verdict is None else {expected.verdict: 1}), (
        f"{program} counted {counted}, the oracle says {expected.verdict!r}"
    )
    assert result.action == expected.action, f"{program} returned {result.action!r}"
    if expected.packet is not None:
        _compare_packet(program, expected, result)
    _compare_flows(world, expected, result, started_ns)
    return expected, result


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


def _compare_flows(world: World, expected: Outcome, result: Result, started_ns: int) -> None:
    flows = dict(result.flows)
    untouched = dict(world.flows)
    if expected.remembered is not None:
        untouched.pop(expected.remembered, None)
        assert flows.pop(expected.remembered, 0) >= started_ns, "the flow was not seen now"
    assert flows == untouched, "flows differ"
