"""TCP from machine to machine, on each way in turn."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from integration.lab.wait import wait_until

PORT = 5201
END_S = 30
"""Of an iperf3 whose time is over."""


class Place(Protocol):
    """Where commands run: a namespace of this machine, or one inside a guest."""

    def run(
        self, *arguments: str, check: bool = True, timeout_s: float
    ) -> subprocess.CompletedProcess[str]: ...
    def start(self, *arguments: str) -> subprocess.Popen[str]: ...


@dataclass(frozen=True, slots=True)
class Way:
    """A pair of machines on one kind of network."""

    name: str
    client: Place
    server: Place
    server_address: str


@contextmanager
def serve_iperf(place: Place) -> Iterator[None]:
    """Run an iperf3 server for one client, from when it listens until it has ended."""
    server = place.start("iperf3", "-6", "-s", "-1", "-p", str(PORT))
    wait_until("iperf3 listens", lambda: _listens(place))
    yield
    server.wait(timeout=END_S)


def run_stream(way: Way, seconds: int) -> Any:
    """Run one iperf3 stream; return `bytes` and `bits_per_second`, and more, of its receiver."""
    with serve_iperf(way.server):
        client = ["iperf3", "-6", "-J", "-c", way.server_address, "-p", str(PORT)]
        done = way.client.run(*client, "-t", str(seconds), timeout_s=seconds + END_S)
    return json.loads(done.stdout)["end"]["sum_received"]


def measure_mbit(way: Way, seconds: int) -> float:
    """Return the receiver's Mbit/s of one iperf3 stream."""
    return float(run_stream(way, seconds)["bits_per_second"]) / 1e6


def interleave(ways: Sequence[Way], rounds: int, seconds: int) -> dict[str, list[float]]:
    """Return Mbit/s by way, each way once a round: A B C A B C, so that noise hits all alike."""
    figures: dict[str, list[float]] = {way.name: [] for way in ways}
    for way in ways:
        measure_mbit(way, 1)
    for number in range(rounds):
        for way in ways:
            figures[way.name].append(measure_mbit(way, seconds))
            print(f"  round {number + 1}: {way.name}: {figures[way.name][-1]:.0f} Mbit/s")
    return figures


def _listens(place: Place) -> bool:
    found = place.run("ss", "-Hltn", f"sport = :{PORT}", timeout_s=END_S).stdout
    return bool(found.strip())
