"""Programs and oracle agree about whatever is drawn: verdict, packet, flows, counters, events."""

from __future__ import annotations

from random import Random

import pytest
from agreement import run_and_compare
from draw_packets import DRAW_ARRIVAL
from draw_worlds import draw_world
from fleet_of_three import ASH
from host_under_test import HostUnderTest, read_clocks
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st
from policy_books import BOOKS

pytestmark = pytest.mark.root

PACKETS_PER_WORLD = 12
WORLDS = 60
LONG_WORLDS = 2100
# Without shrinking: a packet and its world are small enough to read, and shrinking takes minutes.
SETTINGS = settings(
    deadline=None,
    database=None,
    phases=(Phase.generate,),
    suppress_health_check=list(HealthCheck),
)


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
    @given(book=st.sampled_from(sorted(BOOKS)), random=st.randoms(use_true_random=False))
    def agree(book: str, random: Random) -> None:
        indices = host.enforce(BOOKS[book])
        world = draw_world(random, ASH, read_clocks(), BOOKS[book], indices)
        note(f"{world}")
        for _ in range(PACKETS_PER_WORLD):
            arrival = DRAW_ARRIVAL[program](random, world)
            note(f"{arrival}")
            host.fill(world)
            run_and_compare(host, world, program, arrival)

    agree()
