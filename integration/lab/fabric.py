"""The underlay: one bridge in a namespace of its own, and a cable to each host."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from integration.lab.namespace import Namespace

UNDERLAY = {4: IPv4Network("10.77.0.0/24"), 6: IPv6Network("fd77::/64")}
"""Every lab has the same: its bridge is connected to nothing else."""

CONTROL_NUMBER = 1
FIRST_HOST_NUMBER = 11


def underlay_address(version: int, number: int) -> IPv4Address | IPv6Address:
    """Return the underlay address of the `number`th participant; version: 4 or 6."""
    return UNDERLAY[version][number]


def make_bridge(fabric: Namespace, mtu_bytes: int) -> None:
    """Make the bridge; it forwards at once, since there are no loops."""
    fabric.run("ip", "link", "add", "underlay", "type", "bridge", "forward_delay", "0")
    fabric.run("ip", "link", "set", "underlay", "mtu", str(mtu_bytes), "up")


def plug_in(
    fabric: Namespace,
    port: str,
    namespace: Namespace,
    address: IPv4Address | IPv6Address,
    mtu_bytes: int,
) -> None:
    """Connect a namespace to the bridge, with its address on `underlay0`."""
    length = UNDERLAY[address.version].prefixlen
    script = f"""
ip link add {port} mtu {mtu_bytes} type veth peer name underlay0 mtu {mtu_bytes} netns $1
ip link set {port} master underlay up"""
    # Without the process namespace: `netns PID` is read with the numbers of outside.
    _run_outside(fabric, script, str(namespace.pid))
    nodad = ["nodad"] if address.version == 6 else []
    namespace.run("ip", "addr", "add", f"{address}/{length}", "dev", "underlay0", *nodad)
    namespace.run("ip", "link", "set", "underlay0", "up")


def _run_outside(fabric: Namespace, script: str, *arguments: str) -> None:
    command = ["nsenter", "-t", str(fabric.pid), "-n", "--", "sh", "-ec", script, "sh", *arguments]
    fabric.run_outside(command)
