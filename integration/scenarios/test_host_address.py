"""The host's own stable address: it reaches all, the hosts reach each other, machines stay out."""

from __future__ import annotations

import pytest

from integration.lab.host import Host
from integration.lab.lab import Lab
from integration.lab.machine import Machine
from integration.scenarios.traffic import can_talk, connect, listening, pings, place_of

pytestmark = pytest.mark.namespaces_only("opens sockets of the test inside a host")

LOCAL_AND_REMOTE = pytest.mark.parametrize(
    "machine", ["shop/web-1", "shop/db-1"], ids=["local", "remote"]
)


def _pair(shared: Lab, machine: str) -> tuple[Host, Machine]:
    return shared.hosts["host-a"], shared.machines[machine]


@LOCAL_AND_REMOTE
def test_a_host_reaches_machines(shared: Lab, machine: str) -> None:
    host, target = (place_of(owner) for owner in _pair(shared, machine))

    assert pings(host, target.address)
    assert can_talk(host, target)


def test_hosts_reach_each_other(shared: Lab) -> None:
    places = [place_of(host) for host in shared.hosts.values()]

    for one in places:
        for other in places:
            assert pings(one, other.address), f"{one.name} to {other.name}"
    assert can_talk(places[0], places[2])


@LOCAL_AND_REMOTE
def test_services_of_a_host_are_closed_to_machines(shared: Lab, machine: str) -> None:
    host, source = (place_of(owner) for owner in _pair(shared, machine))
    at = shared.hosts[shared.locate(shared.machines[machine])]
    assert can_talk(host, source)
    before = at.counters().get("drop_denied_egress", 0)

    with listening(host, 7100):
        assert connect(source, host, 7100) == "silent"
        assert not pings(source, host.address)

    assert at.counters()["drop_denied_egress"] - before >= 2
