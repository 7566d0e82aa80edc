"""Control is away: the kernel carries on, and a host that starts anew comes up from its replica."""

from __future__ import annotations

import os
import signal

from integration.lab.backend import CannotDo
from integration.lab.host import Host
from integration.lab.lab import Lab
from integration.lab.policies import apply_policy, rule_counters
from integration.lab.wait import wait_until
from integration.scenarios.traffic import can_talk, connect, listening, pings, place_of, process_of
from netagent.api.agent.v1 import agent_service_pb2 as agent_pb

OPEN_PORT, CLOSED_PORT = 7_101, 7_102
POLICY = f"""\
network: shop
rules:
  - name: web-to-db
    from: {{labels: {{app: web}}}}
    to: {{labels: {{app: db}}}}
    allow: [tcp/{OPEN_PORT}]
"""


def _codes(host: Host) -> set[str]:
    return {condition.code for condition in host.status().conditions}


def _boot_anew_without_control(lab: Lab, host: Host) -> None:
    """Reboot a host, where hosts can, while control is away."""
    lab.kill_control()
    try:
        host.reboot()
    except CannotDo:
        _lose_everything_but_the_disk(host)
        host.agent.start()


def _lose_everything_but_the_disk(host: Host) -> None:
    """Leave of a namespace what a reboot leaves of a host: its files, and the underlay."""
    host.kill_agent()
    os.kill(process_of(host.namespace, "wireguard-go"), signal.SIGKILL)
    for line in host.run("ip", "-o", "link", "show", "type", "veth").splitlines():
        name = line.split(": ")[1].partition("@")[0]
        if name != "underlay0":
            host.run("ip", "link", "del", name, check=False)
    host.run("rm", "-rf", "/sys/fs/bpf/netagent")


def test_a_rebooted_host_comes_up_without_control(lab: Lab) -> None:
    web, db = lab.machine("shop/web", "host-a"), lab.machine("shop/db", "host-b")
    web.wait_reaches(db)
    host = lab.hosts["host-a"]

    _boot_anew_without_control(lab, host)

    web.wait_reaches(db)
    db.wait_reaches(web)
    assert pings(place_of(host), db.address)
    wait_until("it says so", lambda: "control_unreachable" in _codes(host))
    assert [e.state for e in host.status().endpoints] == [agent_pb.ENDPOINT_STATE_LIVE]

    lab.start_control()
    host.wait_in_step()
    wait_until("the condition goes", lambda: not _codes(host))
    new = lab.machine("shop/new", "host-c")
    web.wait_reaches(new)


def test_a_rebooted_host_enforces_the_policy_of_its_replica(lab: Lab) -> None:
    web = lab.machine("shop/web", "host-a", {"app": "web"})
    db = lab.machine("shop/db", "host-b", {"app": "db"})
    web.wait_reaches(db)
    apply_policy(lab, POLICY)
    host, (client, server) = lab.hosts["host-a"], (place_of(web), place_of(db))
    in_force = list(host.status().policies)

    _boot_anew_without_control(lab, host)

    wait_until("web has its route again", lambda: "default" in web.run("ip", "-6", "route"))
    wait_until("web may talk again", lambda: can_talk(client, server, OPEN_PORT))
    assert list(host.status().policies) == in_force
    with listening(server, CLOSED_PORT), listening(client, OPEN_PORT):
        assert connect(client, server, CLOSED_PORT) == "silent"
        assert connect(server, client, OPEN_PORT) == "silent"
    assert rule_counters(host)["web-to-db", False].allowed_packets > 0


def test_known_machines_attach_without_control(lab: Lab) -> None:
    web, db = lab.machine("shop/web", "host-a"), lab.machine("shop/db", "host-b", attach=False)
    lab.hosts["host-b"].wait_in_step()
    db.attach(lab.hosts["host-b"])
    lab.hosts["host-b"].detach(db.path)

    lab.kill_control()
    db.attach(lab.hosts["host-b"])

    web.wait_reaches(db)
