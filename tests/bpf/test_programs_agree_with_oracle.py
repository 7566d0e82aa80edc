"""Programs and oracle give one verdict, one packet and one set of flows for whatever is drawn."""

from __future__ import annotations

from random import Random

import pytest
from agreement import run_and_compare
from draw_packets import DRAW_ARRIVAL
from draw_worlds import draw_world
from fleet_of_three import ASH
from host_under_test import HostUnderTest, boot_clock_ns
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

pytestmark = pytest.mark.root

PACKETS_PER_WORLD = 12
WORLDS = 60
LONG_WORLDS = 2100
SETTINGS = settings(deadline=None, database=None, suppress_health_check=list(HealthCheck))


@pytest.mark.parametrize("program", sorted(DRAW_ARRIVAL))
def test_program_and_oracle_agree(hosts: dict[str, HostUnderTest], program: str) -> None:
    _agree(hosts[ASH], program, WORLDS)


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("program", sorted(DRAW_ARRIVAL))
def test_program_and_oracle_agree_on_a_hundred_thousand(
    hosts: dict[str, HostUnderTest], program: str
) -> None:
    _agree(hosts[ASH], program, LONG_WORLDS)


def _agree(host: HostUnderTest, program: str, worlds: int) -> None:
    @settings(SETTINGS, max_examples=worlds)
    @given(random=st.randoms(use_true_random=False))
    def agree(random: Random) -> None:
        world = draw_world(random, ASH, boot_clock_ns())
        for _ in range(PACKETS_PER_WORLD):
            arrival = DRAW_ARRIVAL[program](random, world)
            note(f"{arrival} in {world}")
            host.fill(world)
            run_and_compare(host, world, program, arrival)

    agree()
