"""A machine that raised its MTU hears what fits, and adapts."""

from __future__ import annotations

import pytest

from integration.lab.lab import Lab
from integration.lab.pace import PACE
from integration.lab.wait import wait_until
from integration.scenarios.traffic import datagrams, place_of, received

CLIENT = """
import socket, sys
with socket.create_connection((sys.argv[1], 7501)) as client:
    client.sendall(bytes(10**6))
"""
SERVER = """
import socket
listener = socket.create_server(("::", 7501), family=socket.AF_INET6)
print("up", flush=True)
client, _ = listener.accept()
count = 0
while data := client.recv(65536):
    count += len(data)
print(count)
"""


@pytest.mark.parametrize(
    ("place", "verdict"),
    [
        pytest.param("host-a", "pass_to_local_machine", id="local"),
        pytest.param("host-b", "pass_to_mesh", id="remote"),
    ],
)
def test_too_big_is_said_and_heard(lab: Lab, place: str, verdict: str) -> None:
    web, db = lab.machine("shop/web", "host-a"), lab.machine("shop/db", place)
    host = lab.hosts["host-a"]
    mtu_bytes = host.status().mtu_bytes
    web.wait_reaches(db)
    for machine in (web, db):
        machine.run("ip", "link", "set", "eth0", "mtu", "9000")

    said = web.run("ping", "-6", "-n", "-c", "2", "-M", "do", "-s", "2000", db.address, check=False)
    route = web.run("ip", "-6", "route", "get", db.address)

    assert f"mtu={mtu_bytes}" in said.replace("mtu: ", "mtu=")
    assert "fe80::1" in said
    assert f"mtu {mtu_bytes}" in route
    assert host.counters()["drop_too_big"] >= 1
    assert host.counters()[verdict] >= 1
    with datagrams(place_of(db), 7500) as heard, datagrams(place_of(web)) as speaks:
        speaks.sendto(bytes(6000), (db.address, 7500))
        assert received(heard) == bytes(6000)


def test_tcp_adapts_to_the_path(lab: Lab) -> None:
    web, db = lab.machine("shop/web", "host-a"), lab.machine("shop/db", "host-b")
    web.wait_reaches(db)
    for machine in (web, db):
        machine.run("ip", "link", "set", "eth0", "mtu", "9000")
    server = db.start("python3", "-c", SERVER, log="tcp-server.log")
    log = lab.directory / "tcp-server.log"
    wait_until("the server listens", lambda: "up" in log.read_text())

    web.run("python3", "-c", CLIENT, db.address)

    server.wait(timeout=PACE.allow(10))
    assert log.read_text().split() == ["up", "1000000"]
