"""Many small probes at once, from one place to another, and which of them came through.

TCP: a connection attempt, answered by the receiver's kernel (there is no listener, so by a reset).
UDP: a datagram to an echo. ICMPv6: a message of a type that nobody knows, which is seen to arrive.
"""

from __future__ import annotations

import contextlib
import errno
import selectors
import socket
import struct
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from integration.scenarios.traffic import Place, inside

QUIET_S = 0.4
"""Nothing has come for this long: the rest was dropped. An answer takes a few milliseconds."""

_ICMPV6_FILTER = 1


@dataclass(frozen=True, slots=True)
class Probe:
    """protocol: tcp, udp or icmp6. point: port, or type."""

    protocol: str
    point: int


class Echo:
    """UDP echoes on some ports of a place, and an ear for ICMPv6."""

    def __init__(self, place: Place, ports: Iterable[int]) -> None:
        with inside(place.namespace):
            self.datagrams = [_udp(place.address, port) for port in ports]
            self.messages = _raw(place.address)

    def close(self) -> None:
        """Close every socket."""
        for each in (*self.datagrams, self.messages):
            each.close()


@contextlib.contextmanager
def echoing(place: Place, ports: Iterable[int]) -> Iterator[Echo]:
    """Echo for the block."""
    echo = Echo(place, ports)
    try:
        yield echo
    finally:
        echo.close()


def fire(source: Place, destination: Place, echo: Echo, probes: Iterable[Probe]) -> set[Probe]:
    """Return the probes that came through: answered, or for ICMPv6 arrived."""
    flying: dict[socket.socket, Probe] = {}
    passed: set[Probe] = set()
    selector = selectors.DefaultSelector()
    with contextlib.ExitStack() as stack, inside(source.namespace):
        stack.callback(selector.close)
        icmp = stack.enter_context(_raw(source.address))
        for each in echo.datagrams:
            selector.register(each, selectors.EVENT_READ, "echo")
        selector.register(echo.messages, selectors.EVENT_READ, "message")
        for probe in probes:
            if probe.protocol == "icmp6":
                icmp.sendto(struct.pack("!BBHI", probe.point, 0, 0, 0), (destination.address, 0))
                continue
            kind = socket.SOCK_STREAM if probe.protocol == "tcp" else socket.SOCK_DGRAM
            client = stack.enter_context(socket.socket(socket.AF_INET6, kind))
            client.setblocking(False)
            client.bind((source.address, 0))
            result = client.connect_ex((destination.address, probe.point))
            if result == errno.ECONNREFUSED:
                passed.add(probe)
                continue
            flying[client] = probe
            if probe.protocol == "udp":
                client.send(b"?")
            is_tcp = probe.protocol == "tcp"
            selector.register(client, selectors.EVENT_WRITE if is_tcp else selectors.EVENT_READ)
        _collect(selector, flying, passed, source)
    for each in (*echo.datagrams, echo.messages):
        with contextlib.suppress(KeyError, ValueError):
            selector.unregister(each)
    return passed


def _collect(
    selector: selectors.BaseSelector,
    flying: dict[socket.socket, Probe],
    passed: set[Probe],
    source: Place,
) -> None:
    deadline = time.monotonic() + QUIET_S
    while time.monotonic() < deadline:
        for key, _ in selector.select(deadline - time.monotonic()):
            deadline = time.monotonic() + QUIET_S
            sock = key.fileobj
            assert isinstance(sock, socket.socket)
            if key.data == "echo":
                with contextlib.suppress(OSError):
                    payload, peer = sock.recvfrom(100)
                    sock.sendto(payload, peer)
            elif key.data == "message":
                payload, peer = sock.recvfrom(100)
                if peer[0] == source.address:
                    passed.add(Probe("icmp6", payload[0]))
            else:
                selector.unregister(sock)
                probe = flying[sock]
                problem = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if probe.protocol == "udp" or problem in (0, errno.ECONNREFUSED):
                    passed.add(probe)


def _udp(address: str, port: int) -> socket.socket:
    made = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    made.setblocking(False)
    made.bind((address, port))
    return made


def _raw(address: str) -> socket.socket:
    """Return a raw socket that hears types from 150 on alone."""
    made = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
    made.setblocking(False)
    # A set bit blocks a type (RFC 3542, 3.2): words 0 to 3, and the lower bits of word 4.
    words = [0xFFFFFFFF] * 4 + [(1 << (150 - 128)) - 1] + [0, 0, 0]
    made.setsockopt(socket.IPPROTO_ICMPV6, _ICMPV6_FILTER, struct.pack("8I", *words))
    made.bind((address, 0))
    return made
