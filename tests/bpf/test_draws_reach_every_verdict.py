"""What is drawn reaches every verdict of every program: a property that is never tried holds."""

from __future__ import annotations

from random import Random

import pytest
from draw_packets import DRAW_ARRIVAL
from draw_worlds import draw_world
from fleet_of_three import ASH
from oracle.programs import decide

from netagent.dataplane.abi import Verdict

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
    Verdict.DROP_ISOLATED,
    Verdict.DROP_HOST_CLOSED,
    Verdict.DROP_FRAGMENT,
    Verdict.DROP_NO_ENDPOINT,
}
REACHED = {
    "from_machine": set(Verdict) - OF_MESH_ONLY - {Verdict.DROP_KERNEL},
    "from_host": set(Verdict) - OF_MESH_ONLY - {Verdict.DROP_KERNEL},
    "from_mesh": OF_MESH_ONLY | OF_BOTH,
    "to_machine": {None, Verdict.DROP_OUTSIDE},
}


@pytest.mark.parametrize("program", sorted(REACHED))
def test_draws_reach_every_verdict(program: str) -> None:
    random = Random(program)
    reached = set()
    for _ in range(300):
        world = draw_world(random, ASH, 10**15)
        reached |= {
            decide(world, program, DRAW_ARRIVAL[program](random, world)).verdict for _ in range(6)
        }
    assert reached == REACHED[program]
