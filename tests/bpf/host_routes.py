"""The routes of a host under test: out at interface two, but for what `forwards` says."""

from __future__ import annotations

import subprocess
from pathlib import Path

from fleet_of_three import HOSTS_OWN_ADDRESS, INTERFACES, UNREACHABLE
from kernel.namespaces import set_up

ROUTER = "fe80::9"
ROUTER_MAC = "02:00:00:00:00:09"


def set_up_routes() -> None:
    """Bring up all interfaces; have the namespace forward to a router whose MAC it knows."""
    set_forwarding(True)
    for name in INTERFACES:
        set_up(name)
    _ip("addr", "add", f"{HOSTS_OWN_ADDRESS}/128", "dev", "lo")
    _ip("neigh", "add", ROUTER, "lladdr", ROUTER_MAC, "dev", "two", "nud", "permanent")
    _ip("route", "add", "default", "via", ROUTER, "dev", "two")
    _ip("route", "add", "unreachable", str(UNREACHABLE))


def set_forwarding(is_on: bool) -> None:
    """Have this namespace route IPv6, or not."""
    Path("/proc/sys/net/ipv6/conf/all/forwarding").write_text(str(int(is_on)))


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", "-6", *arguments], check=True)
