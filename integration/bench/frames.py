"""Frames by the thousand out of a namespace's interface, in few system calls."""

from __future__ import annotations

import ctypes as c
import json
import socket
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import Any

from integration.lab.enter import inside
from integration.lab.namespace import Namespace
from integration.lab.wait import wait_until

FIRST_SOURCE_PORT, SOURCE_PORTS = 1_024, 60_000
FIRST_DESTINATION_PORT = 2_000
DESTINATION_PORTS = 8
"""Flows 0, 1, … differ in their source port, then in their destination port."""

_BATCH = 128
_UDP = 17
_PAYLOAD = bytes(64)


class _Vector(c.Structure):
    _fields_ = (("base", c.c_void_p), ("length", c.c_size_t))


class _Message(c.Structure):
    """`struct mmsghdr`."""

    _fields_ = (
        ("name", c.c_void_p),
        ("name_bytes", c.c_uint32),
        ("vectors", c.POINTER(_Vector)),
        ("vector_count", c.c_size_t),
        ("control", c.c_void_p),
        ("control_bytes", c.c_size_t),
        ("flags", c.c_int),
        ("sent", c.c_uint),
    )


@dataclass(frozen=True, slots=True)
class Road:
    """From one namespace to another. gateway: MAC of the sender's next hop."""

    source: Namespace
    source_address: str
    gateway: bytes
    destination: Namespace
    destination_address: str

    def frames(self, first_flow: int, count: int) -> list[bytes]:
        """Return the first packet of each of so many flows: UDP, 64 bytes."""
        mac = bytes.fromhex(read_link(self.source, "eth0")["address"].replace(":", ""))
        head = self.gateway + mac + b"\x86\xdd" + struct.pack("!IHBB", 6 << 28, 72, _UDP, 64)
        head += (
            IPv6Address(self.source_address).packed + IPv6Address(self.destination_address).packed
        )
        ends = head[-32:]
        return [head + _udp(ends, flow) for flow in range(first_flow, first_flow + count)]

    def time(self, frames: Sequence[bytes], timeout_s: float = 5) -> float:
        """Send frames and return ns of processor time for each.

        The sender does all the work on the way, forwarding and programs included.
        AssertionError unless all arrive within the time.
        """
        with inside(self.source):
            opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        with opened:
            opened.bind(("eth0", 0))
            send = _Sender(opened.fileno(), frames)
            before = self._arrived()
            began_ns = time.thread_time_ns()
            send.send()
            took_ns = time.thread_time_ns() - began_ns
        wait_until("all frames arrive", lambda: self._arrived() - before >= len(frames), timeout_s)
        return took_ns / len(frames)

    def _arrived(self) -> int:
        return int(read_link(self.destination, "eth0")["stats64"]["rx"]["packets"])


class _Sender:
    def __init__(self, fd: int, frames: Sequence[bytes]) -> None:
        self._fd = fd
        self._keep = [c.create_string_buffer(frame, len(frame)) for frame in frames]
        self._vectors = (_Vector * len(frames))()
        self._messages = (_Message * len(frames))()
        for at, frame in enumerate(self._keep):
            self._vectors[at] = _Vector(c.addressof(frame), len(frame))
            self._messages[at].vectors = c.pointer(self._vectors[at])
            self._messages[at].vector_count = 1
        self._libc = c.CDLL(None, use_errno=True)

    def send(self) -> None:
        at, count = 0, len(self._messages)
        while at < count:
            begin = c.byref(self._messages, at * c.sizeof(_Message))
            sent = self._libc.sendmmsg(self._fd, begin, min(_BATCH, count - at), 0)
            if sent < 0:
                raise OSError(c.get_errno(), "sendmmsg")
            at += sent


def open_receivers(destination: Namespace, address: str) -> list[socket.socket]:
    """Open a socket on each port that flows go to, so that nobody answers; close them."""
    opened = []
    with inside(destination):
        for port in range(FIRST_DESTINATION_PORT, FIRST_DESTINATION_PORT + DESTINATION_PORTS):
            one = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
            one.bind((address, port))
            opened.append(one)
    return opened


def _udp(ends: bytes, flow: int) -> bytes:
    """Return a datagram with its checksum, without which it belongs to no connection."""
    source = FIRST_SOURCE_PORT + flow % SOURCE_PORTS
    destination = FIRST_DESTINATION_PORT + flow // SOURCE_PORTS
    length = 8 + len(_PAYLOAD)
    total = sum(struct.unpack("!16H", ends)) + _UDP + 2 * length + source + destination
    checksum = 0xFFFF - (total % 0xFFFF)
    return struct.pack("!HHHH", source, destination, length, checksum) + _PAYLOAD


def read_link(namespace: Namespace, name: str) -> dict[str, Any]:
    """Return what `ip` says of a link, statistics included."""
    shown: dict[str, Any]
    (shown,) = json.loads(namespace.run("ip", "-j", "-s", "link", "show", "dev", name).stdout)
    return shown
