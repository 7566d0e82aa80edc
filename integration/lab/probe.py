"""Measures what a flow of numbered packets between two machines loses, and when."""

from __future__ import annotations

import array
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Protocol


class Probed(Protocol):
    """What has an address in a network namespace: a machine, or a host."""

    @property
    def address(self) -> str:
        """The stable address."""

    @property
    def netns(self) -> Path:
        """Path of the network namespace."""


@dataclass(frozen=True, slots=True)
class Loss:
    """What became of the packets of a span of time.

    lost_there, lost_back: packets that did not reach the other side, or whose echo did not return.
    gap_ms: the longest time without an echo. The interval of the probe is the least it can be.
    """

    sent: int
    lost_there: int
    lost_back: int
    gap_ms: float

    @property
    def lost(self) -> int:
        """Round trips that did not happen."""
        return self.lost_there + self.lost_back


@dataclass(frozen=True, slots=True)
class Record:
    """All packets of a probe, in the order of sending: (sent, arrived, back) in ns, 0 for never."""

    packets: list[tuple[int, int, int]]

    def during(self, begin_ns: int, end_ns: int) -> Loss:
        """Return what became of the packets sent within a span of CLOCK_MONOTONIC."""
        within = [packet for packet in self.packets if begin_ns <= packet[0] < end_ns]
        returned = sorted(back for _, _, back in within if back)
        edges = [begin_ns, *returned, max(end_ns, returned[-1] if returned else 0)]
        gaps = (later - earlier for earlier, later in pairwise(edges))
        return Loss(
            sent=len(within),
            lost_there=sum(not arrived for _, arrived, _ in within),
            lost_back=sum(bool(arrived) and not back for _, arrived, back in within),
            gap_ms=round(max(gaps) / 1e6, 2),
        )

    def whole(self) -> Loss:
        """Return what became of all packets."""
        return self.during(self.packets[0][0], self.packets[-1][0] + 1)


@dataclass
class Probe:
    """A running probe; `record` is there once it has stopped."""

    process: subprocess.Popen[str]
    path: Path
    record: Record | None = field(default=None)

    def stop(self) -> Record:
        """Stop sending, wait for what is under way, and return the record. Idempotent."""
        if self.record is None:
            self.process.send_signal(signal.SIGTERM)
            if self.process.wait(timeout=30) != 0:
                raise AssertionError(f"the probe failed: exit {self.process.returncode}")
            raw = array.array("q", self.path.read_bytes())
            times = iter(raw)
            self.record = Record(list(zip(times, times, times, strict=True)))
        return self.record


@contextmanager
def probing(
    source: Probed, destination: Probed, directory: Path, rate: int = 1000, port: int = 7007
) -> Iterator[Probe]:
    """Send `rate` packets a second from one machine to another and back, for the block."""
    path = directory / f"probe-{time.monotonic_ns()}.record"
    options = {
        "--from-netns": source.netns,
        "--from-address": source.address,
        "--to-netns": destination.netns,
        "--to-address": destination.address,
        "--port": port,
        "--rate": rate,
        "--record": path,
    }
    arguments = [str(word) for option in options.items() for word in option]
    process = subprocess.Popen(
        [
            "setpriv",
            "--pdeathsig",
            "KILL",
            sys.executable,
            str(Path(__file__).with_name("probe_process.py")),
            *arguments,
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            raise AssertionError(f"the probe did not start: exit {process.wait()}")
        yield Probe(process, path)
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
