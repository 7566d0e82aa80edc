"""`netagent agent cleanup` leaves nothing of ours, and everything of others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from integration.lab.host import Host
from integration.lab.lab import Lab
from integration.lab.process import NETAGENT
from integration.scenarios.kernel import pinned
from integration.scenarios.traffic import pings, place_of
from netagent.api.agent.v1 import agent_service_pb2 as agent_pb

pytestmark = pytest.mark.namespaces_only("is done before each test that changes a lab")


def _cleanup(host: Host) -> tuple[int, str]:
    options = ("--state-dir", str(host.state_dir), "--run-dir", str(host.run_dir))
    done = host.namespace.run(NETAGENT, "agent", "cleanup", *options, check=False)
    return done.returncode, done.stdout + done.stderr


def _interfaces(host: Host) -> set[str]:
    return {
        line.split(": ")[1].partition("@")[0] for line in host.run("ip", "-o", "link").splitlines()
    }


def _rules(host: Host, interface: str) -> str:
    return host.run("tc", "filter", "show", "dev", interface, "ingress", check=False)


def test_cleanup_leaves_nothing_of_ours_and_all_of_others(lab: Lab) -> None:
    host = lab.hosts["host-a"]
    program = Path(__file__).parents[2] / "netagent/dataplane/objects/to_machine.bpf.o"
    before = _interfaces(host) - {"netagent0", "na-host", "na-host-gw"}
    lab.machine("shop/web", "host-a")
    guest = lab.machine("shop/guest", "host-a", attach=False)
    host.run("ip", "link", "add", "tap7", "type", "veth", "peer", "name", "other7")
    host.run("tc", "qdisc", "add", "dev", "tap7", "clsact")
    foreign = ("prio", "7", "handle", "7", "bpf", "da", "obj", str(program), "sec", "tc")
    host.run("tc", "filter", "add", "dev", "tap7", "ingress", *foreign)
    rules = _rules(host, "tap7")
    host.attach(agent_pb.AttachRequest(machine=guest.path, interface="tap7"))
    assert _rules(host, "tap7") != rules

    refused, why = _cleanup(host)
    host.agent.end()
    done, said = _cleanup(host)

    assert refused == 1
    assert "stop" in why
    assert done == 0, said
    assert _interfaces(host) == before | {"tap7", "other7"}
    assert _rules(host, "tap7") == rules
    assert not pinned(host).parent.exists()
    assert not host.state_dir.exists()
    assert "wireguard" not in host.run("ls", "/run/wireguard")
    assert _cleanup(host)[0] == 0


@pytest.mark.parametrize("how", ["detach", "cleanup"])
@pytest.mark.parametrize("state", ["up", "down"])
def test_an_existing_interface_is_what_it_was(lab: Lab, how: str, state: str) -> None:
    host = lab.hosts["host-a"]
    guest = lab.machine("shop/guest", "host-a", attach=False)
    host.run("ip", "tuntap", "add", "tap7", "mode", "tap")
    host.run("ip", "link", "set", "tap7", "address", "02:00:00:00:00:77", state)
    before = _shape(host, "tap7")
    host.attach(agent_pb.AttachRequest(machine=guest.path, interface="tap7"))
    assert _shape(host, "tap7") == ("02:ea:61:00:00:01", True)

    if how == "detach":
        host.detach(guest.path)
    else:
        host.agent.end()
        done, said = _cleanup(host)
        assert done == 0, said

    assert _shape(host, "tap7") == before == ("02:00:00:00:00:77", state == "up")


def _shape(host: Host, interface: str) -> tuple[str, bool]:
    (link,) = json.loads(host.run("ip", "-json", "link", "show", interface))
    return link["address"], "UP" in link["flags"]


@pytest.mark.parametrize("again", [1, 2])
def test_the_other_hosts_do_not_notice(lab: Lab, again: int) -> None:
    web, db = lab.machine("shop/web", "host-b"), lab.machine("shop/db", "host-c")
    lab.hosts["host-a"].agent.end()
    for _ in range(again):
        assert _cleanup(lab.hosts["host-a"])[0] == 0

    web.wait_reaches(db)
    assert pings(place_of(lab.hosts["host-b"]), db.address)
