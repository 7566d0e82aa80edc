"""What is drawn reaches every verdict of every program: a property that is never tried holds."""

from __future__ import annotations

from functools import cache
from random import Random

import pytest
from draw_packets import DRAW_ARRIVAL
from draw_worlds import draw_world
from fleet_of_three import ASH, Clocks
from oracle.programs import decide
from oracle.reports import reports_of
from oracle.world import Arrival, Outcome, Side, Tally, World
from policy_books import BOOKS, indices_of

from netagent.dataplane.abi import Verdict
from netagent.dataplane.abi_flows import EventKind, FlowFlag, FlowRow, FlowStateRow

OF_MESH_ONLY = {
    Verdict.PASS_FROM_MESH,
    Verdict.PASS_FORWARDED,
    Verdict.DROP_NOT_ENCODED,
    Verdict.DROP_SOURCE_NOT_AT_SENDER,
    Verdict.DROP_DESTINATION_NOT_HERE,
    Verdict.DROP_HOP_LIMIT,
}
OF_BOTH = {
    Verdict.PASS_TO_HOST,
    Verdict.DROP_MALFORMED,
    Verdict.DROP_EXTENSION_HEADER,
    Verdict.DROP_NEIGHBOUR_DISCOVERY,
    Verdict.DROP_DENIED_EGRESS,
    Verdict.DROP_DENIED_INGRESS,
    Verdict.DROP_NO_POLICY,
    Verdict.DROP_FRAGMENT,
    Verdict.DROP_NO_ENDPOINT,
}
REACHED = {
    "from_machine": set(Verdict) - OF_MESH_ONLY - {Verdict.DROP_KERNEL},
    "from_host": set(Verdict) - OF_MESH_ONLY - {Verdict.PASS_TO_OUTSIDE, Verdict.DROP_KERNEL},
    "from_mesh": OF_MESH_ONLY | OF_BOTH,
    "to_machine": {None, Verdict.DROP_OUTSIDE},
}

CHANGES = {"begun", "renewed", "evaluated again", "forgotten", "kept by an error"}


@cache
def outcomes(program: str) -> list[tuple[World, Arrival, Outcome]]:
    random = Random(program)
    found = []
    for _ in range(400):
        policies = BOOKS[random.choice(sorted(BOOKS))]
        clocks = Clocks(10**15, 10**15)
        world = draw_world(random, ASH, clocks, policies, indices_of(policies))
        for _ in range(8):
            arrival = DRAW_ARRIVAL[program](random, world)
            found.append((world, arrival, decide(world, program, arrival)))
    return found


@pytest.mark.parametrize("program", sorted(REACHED))
def test_draws_reach_every_verdict(program: str) -> None:
    assert {outcome.verdict for _, _, outcome in outcomes(program)} == REACHED[program]


@pytest.mark.parametrize("program", sorted(REACHED.keys() - {"to_machine"}))
def test_draws_reach_every_effect(program: str) -> None:
    drawn = outcomes(program)
    effects = [outcome.effects for _, _, outcome in drawn]

    changes = {
        _change(world, flow, state)
        for world, _, outcome in drawn
        for flow, state in outcome.effects.flows.items()
    }
    tallies = {(side, tally) for one in effects for _, side, tally in one.counts}
    kinds = {report.kind for one in drawn for report in reports_of(program, *one[1:])}

    assert changes == CHANGES
    assert any(one.fragments for one in effects)
    assert tallies == {(side, tally) for side in Side for tally in Tally}
    assert kinds == set(EventKind)


def _change(world: World, flow: FlowRow, state: FlowStateRow | None) -> str:
    before = world.flows.get(flow)
    if state is None:
        return "forgotten"
    if before is None or (state.flags ^ before.flags) & FlowFlag.FROM_HIGH:
        return "begun"
    if state.seen_ns == before.seen_ns != world.seen_ns:
        return "kept by an error"
    return "renewed" if state.generation == before.generation else "evaluated again"
