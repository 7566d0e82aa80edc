"""How long it takes to carry a machine's connections from one host's table to another's. Root.

    script/bench carry, or PYTHONPATH=tests python -m integration.bench.carry [--flows 50000]

Two real maps, the source's full to the brim, and the agents' own code and protocol between them
over loopback. Prints milliseconds: median (minimum to maximum).
"""

from __future__ import annotations

import argparse
import asyncio
import random
import subprocess
import tempfile
import time
from collections.abc import Iterator
from ipaddress import IPv6Address
from pathlib import Path

from kernel.namespaces import mount_bpffs, own_namespaces

from integration.bench.figures import Spread, spread
from netagent.agent.carrier import Carrier
from netagent.agent.carry_service import CarryService
from netagent.agent.mesh_server import MeshServer
from netagent.agent.pulse import Pulse
from netagent.dataplane.abi import pin_directory
from netagent.dataplane.abi_flows import FlowFlag, FlowRow, FlowStateRow
from netagent.dataplane.datapath import Datapath
from netagent.model.addresses import StableId
from netagent.moves.reports import Carried
from netagent.reconcile.moving import Departure

LOOPBACK = IPv6Address("::1")
MOVER = StableId(0x0000_0001_0010_0001)
CHANGED = 500
"""Connections that begin between the bulk and the commit."""


def flows_of(mover: int, count: int, rng: random.Random) -> dict[FlowRow, FlowStateRow]:
    """Return so many flows of one machine with others."""
    now_ns = time.monotonic_ns()
    rows = {}
    while len(rows) < count:
        low, high = sorted((mover, rng.getrandbits(62)))
        key = FlowRow(low, high, 0, rng.getrandbits(16), rng.getrandbits(16), 6)
        rows[key] = FlowStateRow(now_ns - rng.randrange(10**9), 1, FlowFlag.ANSWERED)
    return rows


class Pair:
    """A source and a destination, and how long each step took, in ms."""

    def __init__(self, source: Datapath, destination: Datapath) -> None:
        self._reports: asyncio.Queue[Carried] = asyncio.Queue()
        self._carrier = Carrier(
            source.connections.flows_of, lambda _, carried: self._reports.put_nowait(carried)
        )

        async def find_source(stable_id: StableId, epoch: int, wait_s: float) -> IPv6Address:
            return LOOPBACK

        async def find_address() -> IPv6Address:
            return LOOPBACK

        service = CarryService(find_source, destination.connections.take_over)
        self._server = MeshServer(service, find_address, Pulse())
        self._source = source

    async def run(self, runs: int, rng: random.Random) -> Iterator[tuple[float, float, int]]:
        """Return (bulk, difference, flows) of each run."""
        found = []
        async with asyncio.TaskGroup() as group:
            serving = group.create_task(self._server.run())
            for epoch in range(runs + 1):
                bulk_ms, carried = await self._step(group, epoch, is_committed=False)
                self._source.conntrack.update(flows_of(MOVER, CHANGED, rng))
                final_ms, _ = await self._step(group, epoch, is_committed=True)
                found.append((bulk_ms, final_ms, carried))
            serving.cancel()
        return iter(found[1:])

    async def _step(
        self, group: asyncio.TaskGroup, epoch: int, *, is_committed: bool
    ) -> tuple[float, int]:
        began = time.perf_counter()
        self._carrier.take(group, (Departure(MOVER, epoch, LOOPBACK, is_committed),))
        carried = await self._reports.get()
        return (time.perf_counter() - began) * 1e3, carried.entries


def run(source: Datapath, destination: Datapath, flows: int, runs: int) -> None:
    """Measure and print."""
    rng = random.Random(7)
    source.conntrack.update(flows_of(MOVER, flows, rng))
    while len(source.conntrack.items()) < source.conntrack.capacity * 0.9:
        source.conntrack.update(flows_of(rng.getrandbits(60), 20_000, rng))
        source.conntrack.update(flows_of(MOVER, 10, rng))
    held = len(source.connections.flows_of(MOVER))
    if held < flows:
        source.conntrack.update(flows_of(MOVER, flows - held, rng))

    def measure_scan() -> Spread:
        times = []
        for _ in range(runs):
            began = time.perf_counter()
            source.connections.flows_of(MOVER)
            times.append((time.perf_counter() - began) * 1e3)
        return spread(times)

    rows = len(source.conntrack.items())
    print(
        f"{rows:,} rows at the source, {len(source.connections.flows_of(MOVER)):,} of the machine"
    )
    print(f"find its flows                          {measure_scan()} ms")
    found = list(asyncio.run(Pair(source, destination).run(runs, rng)))
    print(f"carry all ({found[0][2]:,}; the 1st time new)  {spread(one[0] for one in found)} ms")
    print(f"carry the difference ({CHANGED} new)         {spread(one[1] for one in found)} ms")


def main() -> None:
    """Measure in namespaces of this process's own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--flows", type=int, default=50_000)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, own_namespaces():
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        places = [Path(name) / "source", Path(name) / "destination"]
        for place in places:
            place.mkdir()
        pins = [pin_directory(mount_bpffs(place / "bpffs")) for place in places]
        with Datapath.open(pins[0]) as source, Datapath.open(pins[1]) as destination:
            run(source, destination, options.flows, options.runs)


if __name__ == "__main__":
    main()
