"""What machines, people and hosts meet while a policy is in force."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from ipaddress import IPv6Network

import pytest

from integration.lab.lab import Lab
from integration.lab.outside import OWN, connect_outside
from integration.lab.pace import PACE
from integration.lab.policies import apply_policy, explain, flows, rule_counters
from integration.lab.prober import ECHO, ICMP6, TCP, UDP, Outcome, Probe, Prober
from integration.lab.process import NETAGENT
from integration.lab.wait import wait_until
from integration.scenarios.traffic import (
    Place,
    can_talk,
    connect,
    datagrams,
    listening,
    pings,
    place_of,
    received,
)
from netagent.api.agent.v1 import agent_service_pb2 as agent_pb

SERVICE, BULK, DEBUG, CLOSED = 7_501, 7_502, 7_503, 7_504
FAR_AWAY = "2001:db8:100::2"
NARROW_BYTES = 1_280
GUARDED = f"""\
network: shop
default: deny
rules:
  - name: web-to-db
    from: {{labels: {{app: web}}}}
    to: {{labels: {{app: db}}}}
    allow: [tcp/{SERVICE}, "udp/{BULK}", tcp/{DEBUG}, icmp6/echo]
  - name: no-debug
    from: any
    to: {{labels: {{app: db}}}}
    deny: [tcp/{DEBUG}]
  - name: hosts-watch-web
    from: host
    to: {{machine: web}}
    allow: [tcp/{SERVICE}]
  - name: mirrors
    from: {{labels: {{app: web}}}}
    to: {{cidr: ["2001:db8:100::/40"]}}
    allow: [tcp/{SERVICE}]
"""

OPEN_CELLS = 4
"""What GUARDED opens of all that is asked below: three from web to db, and the host to web."""

_SEND = f"""
import socket, sys
with socket.create_connection((sys.argv[1], {SERVICE}), timeout=60) as client:
    client.sendall(bytes(10**6))
    client.shutdown(socket.SHUT_WR)
    print(client.recv(100).decode())
"""
_COUNT = f"""
import socket
listener = socket.create_server(("::", {SERVICE}), family=socket.AF_INET6)
print("up", flush=True)
client, _ = listener.accept()
count = 0
while data := client.recv(65536):
    count += len(data)
client.sendall(str(count).encode())
"""


@pytest.fixture(scope="module")
def guarded(fill_lab: Callable[[Callable[[Lab], None]], Lab]) -> Lab:
    """shop/web and shop/other on host-a, shop/db on host-b, and a policy that denies by default."""
    return fill_lab(_fill)


def _fill(lab: Lab) -> None:
    lab.network("shop")
    web = lab.machine("shop/web", "host-a", {"app": "web"})
    lab.machine("shop/other", "host-a")
    db = lab.machine("shop/db", "host-b", {"app": "db"})
    web.wait_reaches(db)
    apply_policy(lab, GUARDED)


def _places(lab: Lab) -> tuple[Place, Place]:
    return place_of(lab.machines["shop/web"]), place_of(lab.machines["shop/db"])


def test_neighbours_are_found_without_a_rule_and_echoes_with_one(guarded: Lab) -> None:
    web, db = _places(guarded)
    for place in (web, db):
        place.namespace.run("ip", "neigh", "flush", "dev", "eth0")

    assert pings(web, db.address)
    assert not pings(db, web.address)
    for place in (web, db):
        assert "fe80::1" in place.namespace.run("ip", "-6", "neigh", "show", "dev", "eth0").stdout


def _send_much(source: Place, destination: Place) -> str:
    log = f"count-{destination.name}.log"
    (destination.namespace.log_dir / log).unlink(missing_ok=True)
    server = destination.namespace.start("python3", "-c", _COUNT, log=log)
    path = destination.namespace.log_dir / log
    wait_until("the server listens", lambda: path.exists() and "up" in path.read_text())
    sent = source.namespace.run("python3", "-c", _SEND, destination.address).stdout.strip()
    server.wait(timeout=PACE.allow(10))
    return sent


def test_packet_too_big_of_the_host_reaches_a_machine(guarded: Lab) -> None:
    web, db = _places(guarded)
    host = guarded.hosts["host-a"]
    before = host.counters().get("drop_too_big", 0)
    mtu_bytes = host.status().mtu_bytes
    ping = f"ping -6 -n -c 1 -W 1 -M do -s 2000 {db.address}"

    def is_heard() -> bool:
        # At once: the agent puts the MTU of an interface that it made right again.
        script = f"ip link set eth0 mtu 9000; {ping}; ip -6 route get {db.address}"
        return f"mtu {mtu_bytes}" in web.namespace.run("sh", "-c", script).stdout

    wait_until("the machine has learned the MTU", is_heard)
    assert host.counters()["drop_too_big"] > before
    assert _send_much(web, db) == "1000000"


def test_packet_too_big_from_outside_reaches_a_machine_that_nobody_may_reach(guarded: Lab) -> None:
    web, _ = _places(guarded)
    host, router = guarded.hosts["host-a"], guarded.namespace("outside")
    prefix = IPv6Network((web.address, 64), strict=False)
    connect_outside(router, host, (), str(prefix))
    host.run("ip", "-6", "route", "add", f"{FAR_AWAY}/128", "via", OWN)
    beyond = guarded.namespace("beyond")
    cable = ["ip", "link", "add", "narrow0", "type", "veth", "peer", "name", "eth0"]
    command = ["nsenter", "-t", str(router.pid), "-n", "--", *cable, "netns", str(beyond.pid)]
    router.run_outside(command)
    router.run("sysctl", "-qw", "net.ipv6.conf.all.forwarding=1")
    router.run("ip", "addr", "add", "fe80::9/64", "dev", "narrow0", "nodad")
    router.run("ip", "link", "set", "narrow0", "mtu", str(NARROW_BYTES), "up")
    router.run("ip", "-6", "route", "add", f"{FAR_AWAY}/128", "dev", "narrow0")
    beyond.run("ip", "addr", "add", f"{FAR_AWAY}/128", "dev", "eth0", "nodad")
    beyond.run("ip", "link", "set", "eth0", "up")
    beyond.run("ip", "-6", "route", "add", "default", "via", "fe80::9", "dev", "eth0")

    assert _send_much(web, Place("beyond", beyond, FAR_AWAY)) == "1000000"

    route = web.namespace.run("ip", "-6", "route", "get", FAR_AWAY).stdout
    assert f"mtu {NARROW_BYTES}" in route
    assert connect(Place("beyond", beyond, FAR_AWAY), web, SERVICE) == "silent"


def test_fragments_follow_their_first(guarded: Lab) -> None:
    web, db = _places(guarded)
    payload, answer = b"q" * 8_192, b"a" * 8_192

    with datagrams(db, BULK) as heard, datagrams(db, CLOSED) as closed, datagrams(web) as speaks:
        speaks.sendto(payload, (db.address, CLOSED))
        speaks.sendto(payload, (db.address, BULK))
        data, peer = heard.recvfrom(65_535)
        heard.sendto(answer, peer)

        assert data == payload
        assert received(speaks) == answer
        assert received(closed) is None


def test_a_drop_is_shown_with_the_rule_that_decided(guarded: Lab) -> None:
    web, db = _places(guarded)
    version = guarded.hosts["host-a"].status().policies[0].version

    assert connect(web, db, DEBUG) == "silent"
    assert connect(web, db, CLOSED) == "silent"

    def of_port(port: int) -> agent_pb.Flow:
        seen = flows(guarded.hosts["host-a"], is_dropped=True, machine="shop/web")
        found = [one for one in seen if one.destination_port == port and one.protocol == TCP]
        assert found, f"no flow to port {port} among {len(seen)}"
        return found[-1]

    by_rule = wait_until("the drop by the rule is shown", lambda: of_port(DEBUG))
    by_default = wait_until("the drop by the default is shown", lambda: of_port(CLOSED))
    assert (by_rule.rule, by_rule.verdict) == ("no-debug", "drop_denied_egress")
    assert (by_rule.source.name, by_rule.destination.name) == ("shop/web", "shop/db")
    assert (by_default.rule, by_default.network, by_default.version) == ("", "shop", version)


def test_rules_count_each_packet_at_both_ends(guarded: Lab) -> None:
    web, db = _places(guarded)
    ends = {("host-a", False), ("host-b", True)}

    def allowed() -> dict[str, int]:
        rows = {
            name: rule_counters(guarded.hosts[name]).get(("web-to-db", at)) for name, at in ends
        }
        return {name: row.allowed_packets if row else 0 for name, row in rows.items()}

    before = allowed()
    with datagrams(db, BULK) as heard, datagrams(web) as speaks:
        for number in range(7):
            speaks.sendto(bytes([number]), (db.address, BULK))
            assert received(heard) == bytes([number])

    assert allowed() == {name: count + 7 for name, count in before.items()}


def test_explain_agrees_with_what_traffic_does(guarded: Lab) -> None:
    places = {path: place_of(machine) for path, machine in guarded.machines.items()}
    places |= {"host": place_of(guarded.hosts["host-a"])}
    by_address = {place.address: place.namespace for place in places.values()}
    ports = {TCP: (SERVICE, DEBUG, CLOSED), UDP: (BULK, CLOSED)}
    names = {TCP: "tcp", UDP: "udp"}
    asked = {f"{names[p]}/{port}": (p, port) for p, listed in ports.items() for port in listed}
    asked["icmp6/echo"] = (ICMP6, ECHO)
    cells = {
        (source, destination, traffic): Probe(
            places[source].address, places[destination].address, *asked[traffic]
        )
        for source in places
        for destination in places
        for traffic in asked
        if source != destination and _is_about_host_a(source, destination)
    }

    with Prober(by_address, ports) as prober:
        outcomes = prober.probe(cells.values())
    explained = {cell: explain(guarded, *cell) for cell in cells}

    assert {cell: explained[cell].allowed for cell in cells} == {
        cell: outcomes[probe] is Outcome.ANSWERED for cell, probe in cells.items()
    }
    assert all(one.complete for one in explained.values())
    assert sum(one.allowed for one in explained.values()) == OPEN_CELLS


def _is_about_host_a(source: str, destination: str) -> bool:
    """`host` is the host of the other party, and shop/db is on host-b."""
    return "host" not in (source, destination) or "shop/db" not in (source, destination)


@pytest.mark.parametrize(
    ("traffic", "verdict", "rule"),
    [(f"tcp/{SERVICE}", True, "web-to-db"), (f"tcp/{DEBUG}", False, "no-debug")],
    ids=["allowed", "denied"],
)
def test_the_command_explains_as_the_kernels_decide(
    guarded: Lab, traffic: str, verdict: bool, rule: str
) -> None:
    environment = {**os.environ, "NETAGENT_CONTROL": f"unix://{guarded.control_socket}"}
    command = [NETAGENT, "policy", "explain", "shop/web", "shop/db", traffic, "--output", "json"]

    said = json.loads(
        subprocess.run(command, env=environment, check=True, capture_output=True).stdout
    )

    web, db = _places(guarded)
    assert can_talk(web, db, SERVICE if verdict else DEBUG) is verdict
    assert rule in json.dumps(said)


def _old_and_new() -> tuple[str, str]:
    texts = []
    for name, port in (("old", SERVICE), ("new", DEBUG)):
        rule = (
            f"{{name: {name}, from: {{labels: {{}}}}, to: {{labels: {{}}}}, allow: [tcp/{port}]}}"
        )
        texts.append(f"network: shop\nrules:\n  - {rule}\n")
    return texts[0], texts[1]


def test_a_partitioned_host_keeps_its_policy_and_gets_the_new_one_on_return(lab: Lab) -> None:
    one, other = (place_of(lab.machine(f"shop/{name}", "host-b")) for name in ("one", "other"))
    web = lab.machine("shop/web", "host-a")
    web.wait_reaches(lab.machines["shop/one"])
    old, new = _old_and_new()
    apply_policy(lab, old)
    away = lab.hosts["host-b"]

    with listening(other, SERVICE), listening(other, DEBUG):
        away.partition()
        wait_until(
            "control sees that it is away",
            lambda: not {one.name: one.connected for one in lab.list_hosts()}["host-b"],
            timeout_s=60,
        )
        apply_policy(lab, new)

        assert connect(one, other, SERVICE) == "open"
        assert connect(one, other, DEBUG) == "silent"

        away.heal()
        version = lab.hosts["host-a"].status().policies[0].version
        wait_until(
            "it has the new one",
            lambda: [policy.version for policy in away.status().policies] == [version],
            timeout_s=60,
        )
        assert connect(one, other, DEBUG) == "open"
        assert connect(one, other, SERVICE) == "silent"
