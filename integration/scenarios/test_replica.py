"""Any program on a host reads the fleet with plain SQL, and reads what control says."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from integration.lab.lab import Lab
from integration.lab.wait import wait_until
from netagent.api.control.v1 import machine_service_pb2 as machine_pb
from netagent.api.control.v1.machine_service_pb2_grpc import MachineServiceStub

pytestmark = pytest.mark.namespaces_only("reads a host's files as this machine's")

MACHINES = "SELECT network || '/' || machine, address, host, identity, epoch FROM machines"
HOSTS = "SELECT name, address, locator, endpoint_address, endpoint_port FROM hosts"
HERE = "SELECT network || '/' || machine FROM machines WHERE is_here"
ATTACHED = "SELECT machine FROM attachments"
MOVING = "SELECT address FROM transitions"

Row = tuple[object, ...]


def _read(replica: Path, query: str) -> set[Row]:
    connection = sqlite3.connect(f"file:{replica}?mode=ro", uri=True)
    try:
        return set(connection.execute(query))
    finally:
        connection.close()


def test_plain_sql_agrees_with_control(lab: Lab) -> None:
    lab.network("lab")
    for path, host in (("shop/web", "host-a"), ("shop/db", "host-b"), ("lab/ops", "host-c")):
        lab.machine(path, host, {"app": path.partition("/")[2]})
    lab.move(lab.machines["shop/web"], "host-b")
    lab.move(lab.machines["shop/db"], "host-a")
    listed = MachineServiceStub(lab.channel).ListMachines(machine_pb.ListMachinesRequest())
    machines = {
        (f"{m.network}/{m.name}", m.address, m.host, m.identity, m.epoch) for m in listed.machines
    }
    hosts = {
        (h.name, h.address, h.locator, h.endpoint.address, h.endpoint.port)
        for h in lab.list_hosts()
    }

    for host in lab.hosts.values():
        replica = host.state_dir / "replica.db"
        network = "lab" if host.name == "host-c" else "shop"
        wanted = {row for row in machines if row[0].startswith(f"{network}/")}
        here = {(machine[0],) for machine in machines if machine[2] == host.name}
        views = {MACHINES: wanted, HOSTS: hosts, HERE: here, ATTACHED: here, MOVING: set()}

        def agrees(replica: Path = replica, views: dict[str, set[Row]] = views) -> bool:
            for query, rows in views.items():
                assert _read(replica, query) == rows, query
            return True

        wait_until(f"the replica of {host.name} agrees", agrees)
