"""TCP from machine to machine, on each way in turn."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from integration.lab.namespace import Namespace
from integration.lab.wait import wait_until

PORT = 5201


@dataclass(frozen=True, slots=True)
class Way:
    """A pair of machines on one kind of network."""

    name: str
    client: Namespace
    server: Namespace
    server_address: str


@contextmanager
def serve_iperf(namespace: Namespace) -> Iterator[None]:
    """Run an iperf3 server for one client, from when it listens until it has ended."""
    server = namespace.start("iperf3", "-6", "-s", "-1", "-p", str(PORT))
    wait_until("iperf3 listens", lambda: _listens(namespace))
    yield
    server.wait(timeout=10)


def measure_mbit(way: Way, seconds: int) -> float:
    """Return the receiver's Mbit/s of one iperf3 stream."""
    with serve_iperf(way.server):
        client = ["iperf3", "-6", "-J", "-c", way.server_address, "-p", str(PORT)]
        done = way.client.run(*client, "-t", str(seconds), timeout_s=seconds + 30)
    return float(json.loads(done.stdout)["end"]["sum_received"]["bits_per_second"]) / 1e6


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


def _listens(namespace: Namespace) -> bool:
    found = namespace.run("ss", "-Hltn", f"sport = :{PORT}").stdout
    return bool(found.strip())
