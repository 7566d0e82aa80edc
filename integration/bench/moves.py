"""What a move costs: time, packets, and writes on each host, against WireGuard's own way.

WireGuard's way to move an address is `wg set` of the two peers' AllowedIPs on every host; each
names the peer's whole list again.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from integration.bench.alternatives import Alternatives
from integration.bench.figures import Spread, spread
from integration.lab.lab import Lab
from integration.lab.probe import probing
from integration.lab.wait import wait_until
from netagent.api.types.v1 import types_pb2

ADDRESSES_PER_HOST = 1000


@dataclass(frozen=True, slots=True)
class MoveFigures:
    """Of all moves.

    commit_ms, settle_ms: from the call. gap_ms: longest time without an echo around each move;
    quiet_gap_ms: the same in as long a time without a move. lost: round trips, of `sent`.
    writes_per_host: to the maps of a host that is neither source nor destination, for each move:
    prepare, commit and settle are one each.
    """

    commit_ms: Spread
    settle_ms: Spread
    gap_ms: Spread
    quiet_gap_ms: Spread
    lost: int
    sent: int
    writes_per_host: Spread


def measure_moves(lab: Lab, count: int) -> MoveFigures:
    """Move a machine to and fro between two hosts while a third host's machine probes it."""
    mover = lab.machine("bench/mover", "host-a")
    watcher = lab.machine("bench/watcher", "host-c")
    mover.wait_reaches(watcher)
    bystander = lab.hosts["host-c"]
    commits, settles, writes = [], [], []
    spans, quiet_spans = [], []
    with probing(watcher, mover) as probe:
        for number in range(count):
            quiet = time.monotonic_ns()
            destination = ("host-b", "host-a")[number % 2]
            mover.attach(lab.hosts[destination])
            before = bystander.status().kernel_writes
            began = time.monotonic_ns()
            phases = lab.move(mover, destination, attach=False)
            wait_until("the bystander has settled", lambda: not _transitions(lab, "host-c"))
            ended = time.monotonic_ns()
            writes.append(bystander.status().kernel_writes - before)
            elapsed = {phase.move.phase: phase.elapsed.ToMicroseconds() / 1e3 for phase in phases}
            commits.append(elapsed[types_pb2.MOVE_PHASE_COMMITTED])
            settles.append(elapsed[types_pb2.MOVE_PHASE_SETTLED])
            quiet_spans.append((quiet, began))
            spans.append((began, ended))
        record = probe.stop()
    losses = [record.during(*span) for span in spans]
    quiet = [record.during(*span) for span in quiet_spans]
    return MoveFigures(
        commit_ms=spread(commits),
        settle_ms=spread(settles),
        gap_ms=spread(loss.gap_ms for loss in losses),
        quiet_gap_ms=spread(loss.gap_ms for loss in quiet),
        lost=record.whole().lost,
        sent=record.whole().sent,
        writes_per_host=spread(writes),
    )


def measure_wg_set(alternatives: Alternatives, count: int) -> Spread:
    """Return ms of one `wg set` of a peer's list, with ADDRESSES_PER_HOST machines on it."""
    host = alternatives.hosts[0]
    key = alternatives.keys[1]
    other = "fd0b::2/128,fd0c::2/128"
    allowed = ",".join([other, *(f"fd0e::{n:x}/128" for n in range(ADDRESSES_PER_HOST))])
    times = []
    for _ in range(count):
        began = time.monotonic()
        host.run("wg", "set", "wg0", "peer", key, "allowed-ips", allowed)
        times.append((time.monotonic() - began) * 1e3)
    host.run("wg", "set", "wg0", "peer", key, "allowed-ips", other)
    return spread(times)


def _transitions(lab: Lab, host: str) -> int:
    return next(m.entries for m in lab.hosts[host].status().maps if m.name == "transition")
