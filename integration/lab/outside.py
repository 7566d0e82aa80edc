"""What is outside the overlay: a namespace behind one host, which forwards to it."""

from __future__ import annotations

from collections.abc import Iterable

from integration.lab.host import Host
from integration.lab.namespace import Namespace

GATEWAY = "2001:db8:ff::1"
OWN = "2001:db8:ff::2"


def connect_outside(outside: Namespace, host: Host, addresses: Iterable[str], prefix: str) -> None:
    """Give the outside its addresses, and lead them and the fleet's prefix through the host."""
    cable = ["ip", "link", "add", "outside0", "type", "veth", "peer", "name", "uplink0"]
    command = ["nsenter", "-t", str(host.namespace.pid), "-n", "--", *cable]
    host.namespace.run_outside([*command, "netns", str(outside.pid)])
    host.run("ip", "addr", "add", f"{GATEWAY}/64", "dev", "outside0", "nodad")
    host.run("ip", "link", "set", "outside0", "up")
    host.run("sysctl", "-qw", "net.ipv6.conf.all.forwarding=1")
    outside.run("ip", "addr", "add", f"{OWN}/64", "dev", "uplink0", "nodad")
    outside.run("ip", "link", "set", "uplink0", "up")
    outside.run("ip", "-6", "route", "add", prefix, "via", GATEWAY)
    for address in addresses:
        outside.run("ip", "addr", "add", f"{address}/128", "dev", "lo", "nodad")
        host.run("ip", "-6", "route", "add", f"{address}/128", "via", OWN)
