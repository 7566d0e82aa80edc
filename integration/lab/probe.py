"""Measures what a flow of numbered packets between two machines loses, and when.

One process in each machine (probe_process.py) keeps the times of every packet in memory that is
shared with this one, so that a record can be read while the probe runs. Times are CLOCK_MONOTONIC,
which all namespaces of a machine share: spans are marked with time.monotonic_ns().

A packet arrives when the kernel says that it did, not when the probe came to read it. What remains
of the busy machine in a gap is the encryption's and the pacing's share: compare with the gaps of
spans without an event (`Record.gaps`), and with `pause_ms`.
"""

from __future__ import annotations

import bisect
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Protocol

from integration.lab.namespace import Namespace
from integration.lab.pace import PACE
from integration.lab.probe_process import Role, SharedRecord
from integration.lab.stream import end
from integration.lab.wait import wait_until

PORT = 7007
CAPACITY = 1 << 22
"""Packets; a little more than an hour at 1,000 a second. Memory is taken as it is used."""

DRAIN_NS = 250_000_000
"""What is not back after this counts as lost; in a slow lab, after as many times a silence."""


def drain_ns() -> int:
    """Return how long this run's lab has for a packet to come back."""
    return int(DRAIN_NS * PACE.silence_s)


class Probed(Protocol):
    """What can be probed: a machine."""

    @property
    def address(self) -> str:
        """The stable address."""

    @property
    def namespace(self) -> Namespace:
        """Where it lives."""


@dataclass(frozen=True, slots=True)
class Loss:
    """What became of the packets of a span of time.

    lost_there, lost_back: packets that did not reach the other side, or whose echo did not return.
    gap_ms: the longest time without an echo. pause_ms: the longest time in which the probe sent
    nothing; for so much of the gap the network is not to blame.
    """

    sent: int
    lost_there: int
    lost_back: int
    gap_ms: float
    pause_ms: float

    @property
    def lost(self) -> int:
        """Round trips that did not happen."""
        return self.lost_there + self.lost_back


@dataclass(frozen=True, slots=True)
class Record:
    """All packets of a probe, in the order of sending: (sent, arrived, back) in ns, 0 for never."""

    packets: list[tuple[int, int, int]]

    def during(self, begin_ns: int, end_ns: int) -> Loss:
        """Return what became of the packets sent within a span."""
        within = [packet for packet in self.packets if begin_ns <= packet[0] < end_ns]
        return Loss(
            sent=len(within),
            lost_there=sum(not arrived and not back for _, arrived, back in within),
            lost_back=sum(bool(arrived) and not back for _, arrived, back in within),
            gap_ms=_longest([back for _, _, back in self.packets if back], begin_ns, end_ns),
            pause_ms=_longest([sent for sent, _, _ in self.packets], begin_ns, end_ns),
        )

    def gaps(self, begin_ns: int, end_ns: int, span_ns: int) -> list[float]:
        """Return the longest gap in ms of each span of this length between two times, ascending.

        Of a quiet time: what gap this machine shows when nothing happens.
        """
        starts = range(begin_ns, end_ns - span_ns + 1, span_ns)
        return sorted(self.during(start, start + span_ns).gap_ms for start in starts)

    def lost_between_ms(self, begin_ns: int, end_ns: int) -> tuple[float, float] | None:
        """Return when the first and the last lost packet of a span were sent, in ms since begin."""
        lost = [sent for sent, _, back in self.packets if begin_ns <= sent < end_ns and not back]
        if not lost:
            return None
        return (lost[0] - begin_ns) / 1e6, (lost[-1] - begin_ns) / 1e6

    def whole(self) -> Loss:
        """Return what became of all packets."""
        return self.during(self.packets[0][0], self.packets[-1][0] + 1)


def _longest(times_ns: list[int], begin_ns: int, end_ns: int) -> float:
    """Return the longest time in ms between two neighbours, of which a part lies in the span.

    An end of the span stands in for a neighbour that is missing.
    """
    times = sorted(times_ns)
    first = bisect.bisect_left(times, begin_ns)
    last = bisect.bisect_left(times, end_ns)
    before = times[first - 1] if first else begin_ns
    after = times[last] if last < len(times) else end_ns
    longest = max(
        later - earlier for earlier, later in pairwise([before, *times[first:last], after])
    )
    return round(longest / 1e6, 2)


class Probe:
    """A running probe."""

    def __init__(self, shared: SharedRecord) -> None:
        self._shared = shared

    def read(self) -> Record:
        """Return all that is known by now; the last DRAIN_NS may still come back."""
        return Record(self._shared.packets())

    def during(self, begin_ns: int, end_ns: int) -> Loss:
        """Return what became of the packets of a span; waits until it and DRAIN_NS are over."""
        self.wait_past(end_ns)
        return self.read().during(begin_ns, end_ns)

    def wait_past(self, end_ns: int) -> None:
        """Wait until what was sent before a time is back or lost."""
        timeout_s = max(0, end_ns - time.monotonic_ns()) / 1e9 + 20
        wait_until(
            "the probe has sent enough",
            lambda: self._shared.last_sent_ns() >= end_ns + drain_ns(),
            timeout_s,
        )

    def stop(self) -> Record:
        """Stop sending, wait for what is under way, and return the record. Idempotent."""
        if not self._shared.is_stopped:
            self._shared.stop()
            last_ns = self._shared.last_sent_ns()
            wait_until("the drain is over", lambda: time.monotonic_ns() > last_ns + drain_ns())
        return self.read()


@contextmanager
def probing(
    source: Probed,
    destination: Probed,
    directory: Path | None = None,
    *,
    rate: int | None = None,
    port: int = PORT,
) -> Iterator[Probe]:
    """Send `rate` packets a second from one machine to another and back, for the block.

    rate: unless given, 1,000, or what the lab's backend has to spare.
    directory: where `probe.log` says what goes wrong inside the machines; the lab's unless given.
    """
    log = (directory or source.namespace.log_dir) / "probe.log"
    memory = os.memfd_create("netagent-probe")
    try:
        shared = SharedRecord.make(memory, CAPACITY)
        path = f"/proc/{os.getpid()}/fd/{memory}"
        arguments = (path, destination.address, str(port), str(rate or PACE.probe_rate))
        echo = _start(destination, Role.ECHO, arguments, log)
        sender = None
        try:
            wait_until("the probe's echo is ready", lambda: shared.is_ready(Role.ECHO))
            sender = _start(source, Role.SEND, arguments, log)
            wait_until("the probe sends", lambda: shared.is_ready(Role.SEND))
            yield Probe(shared)
        finally:
            for process in (sender, echo):
                if process is not None:
                    end(process)
    finally:
        os.close(memory)


def _start(
    on: Probed, role: Role, arguments: tuple[str, ...], log: Path
) -> subprocess.Popen[bytes]:
    program = Path(__file__).with_name("probe_process.py")
    command = on.namespace.command([sys.executable, "-I", str(program), role.value, *arguments])
    with log.open("a") as output:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
