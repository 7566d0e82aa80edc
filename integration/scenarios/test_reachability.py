"""Who reaches whom: inside a network always, across networks never, however large the packet."""

from __future__ import annotations

import pytest

from integration.lab.backend import CannotDo
from integration.lab.lab import Lab
from integration.lab.pace import PACE
from integration.lab.stream import measure_throughput
from integration.scenarios.traffic import (
    can_talk,
    connect,
    datagrams,
    listening,
    pings,
    place_of,
    received,
)

INSIDE = [("shop/web-1", "shop/web-2"), ("shop/web-1", "shop/db-1"), ("shop/db-1", "shop/web-2")]
ACROSS = [
    pytest.param("shop/web-1", "lab/ops-1", "drop_denied_egress", id="both-on-one-host"),
    pytest.param("shop/web-1", "lab/ops-2", "drop_denied_egress", id="host-knows-both-networks"),
    pytest.param("shop/db-1", "lab/ops-2", "drop_unknown_destination", id="host-knows-one-network"),
]


@pytest.mark.parametrize(("source", "destination"), INSIDE)
def test_machines_of_one_network_talk(shared: Lab, source: str, destination: str) -> None:
    one, other = place_of(shared.machines[source]), place_of(shared.machines[destination])

    assert pings(one, other.address)
    assert can_talk(one, other)


@pytest.mark.parametrize(("source", "destination", "verdict"), ACROSS)
def test_networks_stay_apart(shared: Lab, source: str, destination: str, verdict: str) -> None:
    one, other = place_of(shared.machines[source]), place_of(shared.machines[destination])
    host = shared.hosts[shared.locate(shared.machines[source])]
    before = host.counters().get(verdict, 0)

    with listening(other, 7001), datagrams(other, 7001) as heard, datagrams(one) as speaks:
        assert connect(one, other, 7001) == "silent"
        assert not pings(one, other.address)
        speaks.sendto(b"anybody?", (other.address, 7001))
        assert received(heard) is None

    assert host.counters()[verdict] - before >= 3


@pytest.mark.parametrize("destination", ["shop/web-2", "shop/db-1"], ids=["local", "remote"])
@pytest.mark.parametrize("size_bytes", [1352, 1360, 4000, 16000])
def test_packets_of_every_size_arrive(shared: Lab, destination: str, size_bytes: int) -> None:
    one, other = place_of(shared.machines["shop/web-1"]), place_of(shared.machines[destination])
    payload = bytes(range(256)) * (size_bytes // 256) + bytes(size_bytes % 256)

    with datagrams(other, 7002) as heard, datagrams(one) as speaks:
        speaks.sendto(payload, (other.address, 7002))
        assert received(heard) == payload
    assert pings(one, other.address, "-s", str(size_bytes))


def test_tcp_crosses_the_mesh_in_large_segments(shared: Lab) -> None:
    if not PACE.can_measure:
        raise CannotDo("a throughput that fills segments: processors are emulated")
    web, db = shared.machines["shop/web-1"], shared.machines["shop/db-1"]
    host = shared.hosts["host-a"]
    before = {c.verdict: c for c in host.status().counters}["pass_to_mesh"]

    done = measure_throughput(web.namespace, db.namespace, db.address, seconds=2)

    after = {c.verdict: c for c in host.status().counters}["pass_to_mesh"]
    mean_bytes = (after.bytes - before.bytes) / (after.packets - before.packets)
    print(f"{done['mbit_per_s']:.0f} Mbit/s, {mean_bytes:.0f} bytes a packet at from_machine")
    assert done["mbit_per_s"] > 100 / PACE.slowness
    assert mean_bytes > 2 * host.status().mtu_bytes
