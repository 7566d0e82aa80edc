"""Many moves in a row under many packets: none is lost, and connections outlive the last move."""

from __future__ import annotations

import time
from itertools import cycle, islice

import pytest

from integration.lab.backend import CannotDo
from integration.lab.lab import Lab
from integration.lab.pace import PACE
from integration.lab.probe import probing
from integration.lab.stream import streaming
from integration.lab.wait import wait_until
from integration.scenarios.traffic import place_of

MESH = "netagent0"
FACTOR = 5
"""So many times the usual probe: 5,000 packets a second between namespaces."""


def _lengthen_queues(lab: Lab) -> None:
    """Have packets wait for a wireguard-go that a busy machine does not run for a while."""
    for host in lab.hosts.values():
        host.run("ip", "link", "set", MESH, "txqueuelen", "20000")


@pytest.mark.parametrize(
    ("moves", "after_s"),
    [
        pytest.param(10, 5, id="ten"),
        pytest.param(100, 60, id="a-hundred", marks=[pytest.mark.long, pytest.mark.timeout(900)]),
    ],
)
def test_no_packet_is_lost_between_commit_and_settle(lab: Lab, moves: int, after_s: int) -> None:
    """TCP is alive long after, too: what cleans up after a move must not clean up its flows."""
    if not PACE.can_measure:
        raise CannotDo("so many packets take emulated hosts all of their processor")
    rate = FACTOR * PACE.probe_rate
    mover, peer = lab.machine("shop/mover", "host-a"), lab.machine("shop/peer", "host-b")
    mover.wait_reaches(peer)
    _lengthen_queues(lab)

    with (
        probing(place_of(peer), place_of(mover), lab.directory, rate=rate) as probe,
        streaming(mover.namespace, peer.namespace, peer.address) as stream,
    ):
        first, spans = stream.connection(), []
        for place in islice(cycle(("host-c", "host-b", "host-a")), moves):
            began_ns = time.monotonic_ns()
            lab.move(mover, place)
            spans.append((began_ns, time.monotonic_ns()))
        settled_s = time.monotonic()
        wait_until(
            "long after the last move",
            lambda: time.monotonic() > settled_s + after_s,
            timeout_s=after_s + 10,
        )
        now = stream.connection()
        assert now.local_port == first.local_port
        assert stream.is_alive_after(now, timeout_s=20)
        record = probe.stop()

    losses = [record.during(*span) for span in spans]
    gaps = sorted(loss.gap_ms for loss in losses)
    print(
        f"{moves} moves: {sum(loss.lost for loss in losses)} of"
        f" {sum(loss.sent for loss in losses)} round trips lost; longest gap of a move, ms:"
        f" median {gaps[len(gaps) // 2]}, most {gaps[-1]}; in all {record.whole()}"
    )
    assert sum(loss.lost for loss in losses) == 0
    assert record.whole().sent > 0.8 * rate * (spans[-1][1] - spans[0][0]) / 1e9
