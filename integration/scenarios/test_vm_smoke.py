"""One pass through what virtual machines are for, in little time: two kernels, one mesh, a move."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from integration.lab.stream import streaming
from integration.scenarios.traffic import can_talk, connect, place_of


def test_two_kernels_one_mesh_and_moves(make_lab: Callable[..., Any], vm_only: None) -> None:
    with make_lab(hosts=2, kernels=("6.1", "6.12")) as lab:
        lab.network("shop")
        lab.network("lab")
        web, db = lab.machine("shop/web", "host-a"), lab.machine("shop/db", "host-b")
        ops = lab.machine("lab/ops", "host-b")
        web.wait_reaches(db)
        releases = [host.run("uname", "-r") for host in lab.hosts.values()]

        assert [release.partition("+")[0].split(".")[1] for release in releases] == ["1", "12"]
        assert {host.status().wireguard for host in lab.hosts.values()} == {"kernel"}
        assert can_talk(place_of(web), place_of(db))
        assert connect(place_of(web), place_of(ops), 7001) == "silent"
        with streaming(web.namespace, db.namespace, db.address) as stream:
            before = stream.connection()
            lab.move(web, "host-b")
            assert stream.is_alive_after(before)
            before = stream.connection()
            lab.move(web, "host-a")
            assert stream.is_alive_after(before)
        print(lab.measure_memory_mib())
