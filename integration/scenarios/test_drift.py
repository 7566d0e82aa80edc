"""Somebody alters the kernel behind the agent's back: it is mended, counted and said."""

from __future__ import annotations

import os
import signal
from dataclasses import replace

import pytest

from integration.lab.host import Host
from integration.lab.lab import Lab
from integration.lab.wait import wait_until
from integration.scenarios.kernel import ENDPOINT, LOCATION, id_of, table
from integration.scenarios.traffic import pings, place_of, process_of
from netagent.model.addresses import Locator

pytestmark = pytest.mark.namespaces_only("alters a host's kernel tables from outside")


def _codes(host: Host) -> set[str]:
    return {condition.code for condition in host.status().conditions}


def _filters(host: Host, interface: str) -> str:
    return host.run("tc", "filter", "show", "dev", interface, "ingress", check=False)


def test_drift_is_mended_and_counted(lab: Lab) -> None:
    web, db = lab.machine("shop/web", "host-a"), lab.machine("shop/db", "host-b")
    web.wait_reaches(db)
    host = lab.hosts["host-a"]
    local, remote = id_of(web.address), id_of(db.address)
    interface = host.status().endpoints[0].interface
    filters = _filters(host, interface)

    with table(host, LOCATION) as locations, table(host, ENDPOINT) as endpoints:
        location, endpoint = locations.get(remote), endpoints.get(local)
        assert location is not None
        assert endpoint is not None
        damages = {
            "a location deleted": lambda: locations.delete([remote]),
            "a location altered": lambda: locations.update(
                {remote: replace(location, locator=Locator(location.locator ^ 1))}
            ),
            "a location invented": lambda: locations.update({id_of("::2:10:5"): location}),
            "an endpoint deleted": lambda: endpoints.delete([local]),
            "an endpoint altered": lambda: endpoints.update(
                {local: replace(endpoint, mac=bytes.fromhex("020000000001"))}
            ),
            "a filter detached": lambda: host.run(
                "tc", "filter", "del", "dev", interface, "ingress"
            ),
        }

        def is_mended() -> bool:
            return (
                locations.get(remote) == location
                and locations.get(id_of("::2:10:5")) is None
                and endpoints.get(local) == endpoint
                and _filters(host, interface) == filters
            )

        for what, damage in damages.items():
            before = host.status().drift_mended
            damage()
            wait_until(f"{what} is mended", is_mended, timeout_s=10)
            wait_until(
                f"{what} is counted",
                lambda before=before: host.status().drift_mended == before + 1,
            )

    assert pings(place_of(web), db.address)
    assert not _codes(host)


@pytest.mark.parametrize("interface", ["na-host", "netagent0"])
def test_a_removed_interface_comes_back(lab: Lab, interface: str) -> None:
    web, db = lab.machine("shop/web", "host-a"), lab.machine("shop/db", "host-b")
    web.wait_reaches(db)
    host = lab.hosts["host-a"]

    host.run("ip", "link", "del", interface)

    wait_until(f"{interface} is back", lambda: "from_" in _filters(host, _gateway(interface)))
    web.wait_reaches(db)
    assert pings(place_of(host), db.address)
    wait_until("it is counted", lambda: host.status().drift_mended > 0)
    assert not _codes(host)


def _gateway(interface: str) -> str:
    return "na-host-gw" if interface == "na-host" else interface


def test_killed_wireguard_comes_back(lab: Lab) -> None:
    web, db = lab.machine("shop/web", "host-a"), lab.machine("shop/db", "host-b")
    web.wait_reaches(db)
    host = lab.hosts["host-a"]
    before = process_of(host.namespace, "wireguard-go")

    os.kill(before, signal.SIGKILL)

    wait_until("another runs", lambda: process_of(host.namespace, "wireguard-go") != before)
    web.wait_reaches(db)
    db.wait_reaches(web)
    wait_until("no condition is left", lambda: not _codes(host))
    log = host.agent.log.read_text()
    assert "condition code=wireguard_down" in log
    assert "condition ended code=wireguard_down" in log
