"""A host that sends for a machine it does not run: the receiver drops and counts its packets."""

from __future__ import annotations

import socket
from ipaddress import IPv6Address

import pytest
from scapy.layers.inet import UDP
from scapy.layers.inet6 import IPv6

from integration.lab.enter import inside
from integration.lab.lab import Lab
from integration.lab.wait import wait_until
from integration.scenarios.kernel import ENDPOINT, LOCATION, id_of, locator_of, table
from integration.scenarios.traffic import datagrams, pings, place_of, received
from netagent.model.fleet import Location

pytestmark = pytest.mark.namespaces_only("sends from a socket of the test inside a host")


def test_a_machine_impersonated_by_its_host_is_not_heard(lab: Lab) -> None:
    web, db = lab.machine("shop/web", "host-a"), lab.machine("shop/db", "host-b")
    rogue = lab.machine("shop/rogue", "host-c")
    rogue.wait_reaches(db)
    host, receiver = lab.hosts["host-c"], lab.hosts["host-b"]
    host.kill_agent()  # it would mend what follows
    stolen, own = id_of(web.address), id_of(rogue.address)
    before = receiver.counters().get("drop_source_not_at_sender", 0)

    with table(host, LOCATION) as locations, table(host, ENDPOINT) as endpoints:
        endpoint, location = endpoints.get(own), locations.get(own)
        assert endpoint is not None
        assert location is not None
        locations.update({stolen: Location(location.locator, location.identity, 99)})
        endpoints.update({stolen: endpoint})
    rogue.run("ip", "-6", "addr", "add", f"{web.address}/128", "dev", "eth0", "nodad")

    with datagrams(place_of(db), 7400) as at_db:
        as_web = place_of(rogue).impersonating(web.address)
        with datagrams(as_web) as speaks:
            for _ in range(5):
                speaks.sendto(b"believe me", (db.address, 7400))
        assert received(at_db) is None
        assert not pings(as_web, db.address, "-I", web.address)

    # At least one for the datagrams (WireGuard merges what comes together) and one for the ping.
    assert receiver.counters()["drop_source_not_at_sender"] - before >= 2
    web.wait_reaches(db)


def _inject(lab: Lab, source: IPv6Address, destination: IPv6Address) -> None:
    """Write one packet into the WireGuard interface of host-c as it stands."""
    host = lab.hosts["host-c"]
    packet = IPv6(src=str(source), dst=str(destination)) / UDP(sport=1, dport=7401) / b"forged"
    with inside(host.namespace):
        raw = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x86DD))
    with raw:
        raw.sendto(bytes(packet), ("netagent0", 0x86DD))


@pytest.mark.parametrize(
    ("claimed_place", "verdict"),
    [
        pytest.param("host-c", "drop_source_not_at_sender", id="own-locator"),
        pytest.param("host-a", None, id="locator-of-another-host"),
        pytest.param(None, None, id="stable-address"),
    ],
)
def test_forged_packets_end_at_the_receiver(
    shared: Lab, claimed_place: str | None, verdict: str | None
) -> None:
    web, db = shared.machines["shop/web-1"], shared.machines["shop/db-1"]
    receiver = shared.hosts["host-b"]
    upper = int(IPv6Address(web.address)) >> 64
    if claimed_place is not None:
        upper = locator_of(shared.hosts[claimed_place])
    source = IPv6Address(upper << 64 | id_of(web.address))
    destination = IPv6Address(locator_of(receiver) << 64 | id_of(db.address))
    before, passed = receiver.counters(), receiver.counters().get("pass_from_mesh", 0)

    with datagrams(place_of(db), 7401) as at_db:
        for _ in range(3):
            _inject(shared, source, destination)
        if verdict is not None:
            wait_until(
                f"3 more of {verdict}",
                lambda: receiver.counters().get(verdict, 0) - before.get(verdict, 0) == 3,
            )
        assert received(at_db) is None

    assert receiver.counters().get("pass_from_mesh", 0) == passed
