"""The probe tells what was lost, in which direction, and for how long."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from integration.lab.lab import Lab
from integration.lab.machine import Machine
from integration.lab.probe import Probe, probing

pytestmark = pytest.mark.namespaces_only("is about the lab's own probe")

OUTAGE_NS = 200_000_000


@contextmanager
def blackhole(machine: Machine, address: str) -> Iterator[None]:
    """Have a machine drop what it would send to an address, for the block."""
    machine.run("ip", "-6", "route", "add", "blackhole", address)
    try:
        yield
    finally:
        machine.run("ip", "-6", "route", "del", "blackhole", address)


def wait_for_packets(probe: Probe, span_ns: int) -> None:
    probe.wait_past(time.monotonic_ns() + span_ns)


@pytest.mark.parametrize("is_way_there", [True, False], ids=["there", "back"])
def test_an_outage_is_seen_with_its_direction_and_length(shared: Lab, is_way_there: bool) -> None:
    web, db = shared.machines["shop/web-1"], shared.machines["shop/db-1"]
    dropping, address = (db, web.address) if is_way_there else (web, db.address)

    with probing(db, web) as probe:
        wait_for_packets(probe, OUTAGE_NS)
        began_ns = time.monotonic_ns()
        with blackhole(dropping, address):
            wait_for_packets(probe, OUTAGE_NS)
        outage_ms = (time.monotonic_ns() - began_ns) / 1e6
        loss = probe.during(began_ns, time.monotonic_ns() + OUTAGE_NS)

    lost, other = loss.lost_there, loss.lost_back
    if not is_way_there:
        lost, other = other, lost
    assert lost > 100
    assert other == 0
    assert OUTAGE_NS / 1e6 < loss.gap_ms < outage_ms + 100


def test_the_rate_is_kept(shared: Lab) -> None:
    web, db = shared.machines["shop/web-1"], shared.machines["shop/db-1"]

    with probing(web, db, rate=500) as probe:
        began_ns = time.monotonic_ns()
        loss = probe.during(began_ns, began_ns + 1_000_000_000)

    assert 450 < loss.sent < 550
    assert loss.lost == 0
