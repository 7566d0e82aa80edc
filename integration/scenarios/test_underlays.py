"""Other underlays: IPv6, and jumbo frames."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from integration.lab.lab import Lab
from integration.lab.pace import PACE
from integration.lab.stream import measure_throughput
from integration.scenarios.traffic import can_talk, pings, place_of


@pytest.mark.parametrize(
    ("underlay", "underlay_mtu_bytes", "mtu_bytes"),
    [
        pytest.param(6, 1500, 1408, id="ipv6"),
        pytest.param(4, 9000, 8912, id="jumbo"),
        pytest.param(
            *(6, 9000, 8912),
            id="ipv6-jumbo",
            marks=pytest.mark.namespaces_only("IPv6 and jumbo frames are run there one by one"),
        ),
    ],
)
def test_the_mesh_runs_on_other_underlays(
    make_lab: Callable[..., Lab], underlay: int, underlay_mtu_bytes: int, mtu_bytes: int
) -> None:
    with make_lab(hosts=2, underlay=underlay, mtu_bytes=underlay_mtu_bytes) as lab:
        lab.network("shop")
        web, db = lab.machine("shop/web", "host-a"), lab.machine("shop/db", "host-b")
        web.wait_reaches(db)

        done = measure_throughput(web.namespace, db.namespace, db.address, seconds=1)

        assert lab.hosts["host-a"].status().mtu_bytes == mtu_bytes
        assert f"mtu {mtu_bytes}" in web.run("ip", "link", "show", "eth0")
        whole = str(mtu_bytes - 48)
        assert pings(place_of(web), db.address, "-M", "do", "-s", whole)
        assert pings(place_of(lab.hosts["host-b"]), web.address)
        print(f"{done['mbit_per_s']:.0f} Mbit/s")
        assert done["mbit_per_s"] > (100 / PACE.slowness if PACE.can_measure else 0)
        lab.move(web, "host-b")
        assert can_talk(place_of(web), place_of(db))
