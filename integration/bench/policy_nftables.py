"""What users have instead of our policies: a router with nftables, by a set or by rules.

Each is a machine, a router and a machine, in namespaces of their own. Traffic that belongs to a
connection is let pass first, as everybody does; the first packet of one is looked up.
"""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import IPv6Address
from pathlib import Path
from tempfile import mkdtemp

from integration.bench.frames import (
    DESTINATION_PORTS,
    FIRST_DESTINATION_PORT,
    FIRST_SOURCE_PORT,
    Road,
    open_receivers,
    read_link,
)
from integration.lab.enter import inside
from integration.lab.namespace import Namespace, start_namespace

A, B = "fd0b::1", "fd0b::2"
_OTHERS = int(IPv6Address("fd0b:1::"))

_MACHINE = """
ip addr add {address}/128 dev eth0 nodad
ip link set eth0 up
ip -6 route add fe80::1 dev eth0
ip -6 route add default via fe80::1 dev eth0
"""
_ROUTER = """
sysctl -qw net.ipv6.conf.all.forwarding=1
sysctl -qw net.netfilter.nf_conntrack_max=1048576 2>/dev/null || true
for side in near far; do
  ip addr add fe80::1/64 dev $side nodad
  ip link set $side up
done
ip -6 route add fd0b::1/128 dev near
ip -6 route add fd0b::2/128 dev far
"""


def write_set(entries: int) -> str:
    """Return a ruleset with one set of so many pairs, protocols and ports."""
    elements = ",\n".join(" . ".join(entry) for entry in _entries(entries))
    return _table(
        f"set pairs {{ type ipv6_addr . ipv6_addr . inet_proto . inet_service\n"
        f"elements = {{ {elements} }} }}",
        ["ip6 saddr . ip6 daddr . meta l4proto . th dport @pairs accept"],
    )


def write_rules(entries: int) -> str:
    """Return a ruleset with so many rules; those that matter are the last."""
    rules = [
        f"ip6 saddr {source} ip6 daddr {destination} {protocol} dport {port} accept"
        for source, destination, protocol, port in reversed(_entries(entries))
    ]
    return _table("", rules)


def _entries(count: int) -> list[tuple[str, str, str, str]]:
    ports = (FIRST_DESTINATION_PORT + number for number in range(DESTINATION_PORTS))
    own = [(A, B, "udp", str(port)) for port in ports]
    others = [
        (str(IPv6Address(_OTHERS + number)), B, "udp", "2000")
        for number in range(max(count - len(own), 0))
    ]
    return own + others


def _table(head: str, rules: list[str]) -> str:
    lines = "\n".join(["ct state established,related accept", *rules])
    chain = f"chain forward {{ type filter hook forward priority 0; policy drop;\n{lines}\n}}"
    return f"table inet bench {{\n{head}\n{chain}\n}}\n"


@contextmanager
def routed(rules: str | None) -> Iterator[Road]:
    """Make a router with a ruleset, or with nothing at all, and two machines, for the block."""
    directory = Path(mkdtemp(prefix="netagent-bench-"))
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        made = {}
        for name in ("router", "near", "far"):
            made[name] = start_namespace(name, directory, is_bound=True)
            stack.callback(made[name].kill)
        router, near, far = made["router"], made["near"], made["far"]
        for name, address in (("near", A), ("far", B)):
            _plug_in(router, name, made[name])
            made[name].run("sh", "-ec", _MACHINE.format(address=address))
        router.run("sh", "-ec", _ROUTER)
        if rules is not None:
            router.run("nft", "-f", "-", stdin=rules, timeout_s=120)
        gateway = read_link(router, "near")["address"]
        receivers = open_receivers(far, B)
        for receiver in receivers:
            stack.callback(receiver.close)
        _answer_once(near, A, receivers[0])
        yield Road(near, A, bytes.fromhex(gateway.replace(":", "")), far, B)


def _plug_in(router: Namespace, name: str, machine: Namespace) -> None:
    cable = ["ip", "link", "add", name, "type", "veth", "peer", "name", "eth0"]
    command = ["nsenter", "-t", str(router.pid), "-n", "--", *cable, "netns", str(machine.pid)]
    router.run_outside(command)


def _answer_once(source: Namespace, address: str, receiver: socket.socket) -> None:
    """Establish flow 0: a connection is not established before it has been answered."""
    with inside(source), socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as opened:
        opened.settimeout(5)
        opened.bind((address, FIRST_SOURCE_PORT))
        opened.sendto(b"?", receiver.getsockname()[:2])
        receiver.settimeout(5)
        data, peer = receiver.recvfrom(100)
        receiver.sendto(data, peer)
        opened.recv(100)
