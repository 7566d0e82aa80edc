"""Whatever the bytes: one verdict, counted once, and it is the oracle's."""

from __future__ import annotations

from random import Random

import pytest
from agreement import run_and_compare
from draw_packets import IPV6_FRAME_BYTES_MIN
from draw_worlds import draw_world
from fleet_of_three import ASH, FLEET, INTERFACES, LOCATORS, RED_WEB
from host_under_test import HostUnderTest, read_clocks
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from oracle.world import Arrival
from policy_books import BOOKS, BUILT_IN

from netagent.dataplane.abi import MARK_DECIDED

pytestmark = pytest.mark.root

BYTES_MAX = 3500
HEADER_BYTES = 40
SETTINGS = settings(
    deadline=None, database=None, max_examples=200, suppress_health_check=list(HealthCheck)
)


def draw_bytes(random: Random, program: str) -> bytes:
    """Draw noise; mostly noise behind a header that gets it past the first lines."""
    least = 14 if program == "from_mesh" else IPV6_FRAME_BYTES_MIN
    size = random.choice((random.randint(least, 120), random.randint(least, BYTES_MAX)))
    noise = bytearray(random.randbytes(size))
    at = 0 if program == "from_mesh" else 14
    if at and random.randint(0, 7):
        noise[12:14] = b"\x86\xdd"
    if size < at + HEADER_BYTES or random.randint(0, 7) == 0:
        return bytes(noise)
    upper = LOCATORS[ASH] if program == "from_mesh" else FLEET.prefix_int
    stable_address = (upper << 64 | RED_WEB).to_bytes(16, "big")
    noise[at] = 0x60
    payload_bytes = random.randint(0, size - at - HEADER_BYTES + 1)
    noise[at + 4 : at + 6] = payload_bytes.to_bytes(2, "big")
    noise[at + 6] = random.choice((0, 6, 17, 43, 44, 50, 51, 58, 59, 60, 132, 255))
    noise[at + 8 : at + HEADER_BYTES] = stable_address * 2
    return bytes(noise)


@pytest.mark.parametrize("program", ["from_machine", "from_host", "from_mesh", "to_machine"])
def test_noise_gets_one_verdict(hosts: dict[str, HostUnderTest], program: str) -> None:
    host = hosts[ASH]

    @SETTINGS
    @given(book=st.sampled_from(sorted(BOOKS)), random=st.randoms(use_true_random=False))
    def survive(book: str, random: Random) -> None:
        indices = host.enforce(BOOKS[book])
        world = draw_world(random, ASH, read_clocks(), BOOKS[book], indices)
        host.fill(world)
        ifindex = random.choice(tuple(INTERFACES.values()))
        mark = random.choice((0, MARK_DECIDED))
        run_and_compare(host, world, program, Arrival(draw_bytes(random, program), ifindex, mark))

    survive()


@SETTINGS
@given(size=st.integers(14, BYTES_MAX))
@example(size=14)
@example(size=39)
@example(size=40)
@example(size=BYTES_MAX)
def test_no_size_of_zeroes_or_ones_is_too_odd(hosts: dict[str, HostUnderTest], size: int) -> None:
    host = hosts[ASH]
    indices = host.enforce(BUILT_IN)
    world = draw_world(Random(size), ASH, read_clocks(), BUILT_IN, indices)
    for byte in (b"\x00", b"\xff", b"\x60", b"\x2c"):
        for program in ("from_machine", "from_mesh"):
            host.fill(world)
            run_and_compare(host, world, program, Arrival(byte * size, INTERFACES["one"]))
