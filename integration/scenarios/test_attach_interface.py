"""An interface that somebody else made, as a hypervisor's tap: attached, and given back."""

from __future__ import annotations

import grpc
import pytest

from integration.lab.host import Host
from integration.lab.lab import Lab
from integration.lab.machine import Machine
from integration.lab.wait import wait_until
from integration.scenarios.traffic import can_talk, pings, place_of
from netagent.api.agent.v1 import agent_service_pb2 as agent_pb

pytestmark = pytest.mark.namespaces_only("lays cables from a host into a namespace")

OWN_MAC = "02:00:00:00:00:07"


def _make_tap(host: Host, machine: Machine, mac: str) -> None:
    """Make what stands for a guest's network card: its other end is in the machine."""
    host.run("ip", "link", "add", "tap7", "type", "veth", "peer", "name", "card7")
    host.namespace.run_outside(
        [
            *("nsenter", "-t", str(host.namespace.pid), "-n", "--"),
            *("ip", "link", "set", "card7", "netns", str(machine.namespace.pid)),
        ]
    )
    machine.run("ip", "link", "set", "card7", "address", mac, "mtu", "1408", "up")
    machine.run("ip", "-6", "addr", "add", f"{machine.address}/128", "dev", "card7", "nodad")
    machine.run("ip", "-6", "route", "add", "default", "via", "fe80::1", "dev", "card7")


@pytest.mark.parametrize("mac", ["", OWN_MAC], ids=["its-own-mac", "another-mac"])
def test_an_existing_interface_is_attached_and_given_back(lab: Lab, mac: str) -> None:
    guest, db = lab.machine("shop/guest", "host-a", attach=False), lab.machine("shop/db", "host-b")
    host = lab.hosts["host-a"]
    _make_tap(host, guest, mac or OWN_MAC)
    if not mac:
        card = host.attach(agent_pb.AttachRequest(machine=guest.path, interface="tap7")).mac
        guest.run("ip", "link", "set", "card7", "address", card)
    else:
        host.attach(agent_pb.AttachRequest(machine=guest.path, interface="tap7", mac=mac))

    guest.wait_reaches(db)
    assert can_talk(place_of(db), place_of(guest))
    assert "REACHABLE" in (neighbours := guest.run("ip", "-6", "neigh")) or "STALE" in neighbours

    guest.run("ip", "link", "set", "card7", "address", "02:00:00:00:00:08")
    before = host.counters().get("drop_spoofed_mac", 0)
    assert not pings(place_of(guest), db.address)
    assert host.counters()["drop_spoofed_mac"] > before

    host.detach(guest.path)
    assert "tap7" in host.run("ip", "-o", "link")
    assert not host.run("tc", "filter", "show", "dev", "tap7", "ingress", check=False)
    assert not pings(place_of(guest), db.address)


@pytest.mark.parametrize(
    ("interface", "why"), [("lo", "loopback"), ("underlay0", "WireGuard endpoint")]
)
def test_an_interface_that_the_host_needs_is_refused(lab: Lab, interface: str, why: str) -> None:
    guest, db = lab.machine("shop/guest", "host-a", attach=False), lab.machine("shop/db", "host-b")
    host = lab.hosts["host-a"]
    before = host.run("ip", "-o", "link", "show", interface)

    with pytest.raises(grpc.RpcError, match=f"interface: {interface} .*{why}"):
        host.attach(agent_pb.AttachRequest(machine=guest.path, interface=interface))

    assert host.run("ip", "-o", "link", "show", interface) == before
    assert not host.run("tc", "filter", "show", "dev", interface, "ingress", check=False)
    assert pings(place_of(host), db.address)


def test_an_interface_that_goes_is_a_condition_until_it_is_back(lab: Lab) -> None:
    guest, db = lab.machine("shop/guest", "host-a", attach=False), lab.machine("shop/db", "host-b")
    host = lab.hosts["host-a"]
    _make_tap(host, guest, OWN_MAC)
    host.attach(agent_pb.AttachRequest(machine=guest.path, interface="tap7", mac=OWN_MAC))
    guest.wait_reaches(db)

    host.run("ip", "link", "del", "tap7")
    said = wait_until("a condition says so", lambda: list(host.status().conditions))
    _make_tap(host, guest, OWN_MAC)

    assert [condition.code for condition in said] == ["endpoint_missing"]
    assert "tap7" in said[0].detail
    guest.wait_reaches(db)
    wait_until("the condition goes", lambda: not host.status().conditions)
