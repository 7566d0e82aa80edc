"""Sends numbered packets from one namespace to another and back, and records every one.

One process with a socket in each of the two: one clock, and it is known on which way a packet was
lost. Started by probe.py; ends on SIGTERM and then writes its record.

The record: three times for each packet in the order of sending (sent, arrived, back), as signed
64-bit integers in nanoseconds of CLOCK_MONOTONIC; 0 where a packet never got there.
"""

from __future__ import annotations

import argparse
import array
import ctypes
import os
import select
import signal
import socket
import struct
import sys
import time
from pathlib import Path

_CLONE_NEWNET = 0x40000000
_DRAIN_NS = 300_000_000
_NUMBER = struct.Struct("!Q")


def open_socket(netns: Path, address: str, port: int) -> socket.socket:
    """Return a UDP socket of a network namespace, bound to an IPv6 address in it."""
    libc = ctypes.CDLL(None, use_errno=True)
    own = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    other = os.open(netns, os.O_RDONLY)
    try:
        for_it = libc.setns(other, _CLONE_NEWNET)
        if for_it != 0:
            raise OSError(ctypes.get_errno(), f"cannot enter {netns}")
        opened = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        libc.setns(own, _CLONE_NEWNET)
    finally:
        os.close(own)
        os.close(other)
    opened.bind((address, port))
    return opened


class Prober:
    """The three times of every packet."""

    def __init__(
        self, sender: socket.socket, echo: socket.socket, interval_ns: int, payload_bytes: int
    ) -> None:
        self._sender, self._echo = sender, echo
        self._interval_ns = interval_ns
        self._padding = bytes(payload_bytes - _NUMBER.size)
        self._target = echo.getsockname()
        self._times = array.array("q")

    def run(self, is_stopped: list[bool]) -> array.array[int]:
        """Send until stopped, then wait for what is still under way; return the record."""
        ready = select.poll()
        ready.register(self._sender, select.POLLIN)
        ready.register(self._echo, select.POLLIN)
        next_ns = time.monotonic_ns()
        end_ns: int | None = None
        while end_ns is None or time.monotonic_ns() < end_ns:
            now_ns = time.monotonic_ns()
            if is_stopped and end_ns is None:
                end_ns = now_ns + _DRAIN_NS
            if end_ns is None and now_ns >= next_ns:
                self._send(now_ns)
                next_ns += self._interval_ns
            wait_ns = max(0, (next_ns if end_ns is None else end_ns) - time.monotonic_ns())
            for fd, _ in ready.poll(wait_ns / 1e6):
                self._receive(fd)
        return self._times

    def _send(self, now_ns: int) -> None:
        number = len(self._times) // 3
        self._times.extend((now_ns, 0, 0))
        try:
            self._sender.sendto(_NUMBER.pack(number) + self._padding, self._target)
        except OSError:
            return  # no route, or no room: as good as lost, and recorded so

    def _receive(self, fd: int) -> None:
        is_echo = fd == self._echo.fileno()
        try:
            data, source = (self._echo if is_echo else self._sender).recvfrom(2048)
        except OSError:
            return  # an ICMPv6 error of a packet sent before
        at = 3 * _NUMBER.unpack_from(data)[0] + (1 if is_echo else 2)
        self._times[at] = self._times[at] or time.monotonic_ns()
        if is_echo:
            try:
                self._echo.sendto(data, source)
            except OSError:
                return  # as in _send


def main() -> int:
    """Probe until SIGTERM; print `ready` once the first packet is on its way."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--from-netns", type=Path, required=True)
    parser.add_argument("--from-address", required=True)
    parser.add_argument("--to-netns", type=Path, required=True)
    parser.add_argument("--to-address", required=True)
    parser.add_argument("--port", type=int, default=7007)
    parser.add_argument("--rate", type=int, default=1000, help="packets per second")
    parser.add_argument("--payload-bytes", type=int, default=64)
    parser.add_argument("--record", type=Path, required=True)
    given = parser.parse_args()
    is_stopped: list[bool] = []
    signal.signal(signal.SIGTERM, lambda *_: is_stopped.append(True))
    sender = open_socket(given.from_netns, given.from_address, 0)
    echo = open_socket(given.to_netns, given.to_address, given.port)
    prober = Prober(sender, echo, 1_000_000_000 // given.rate, given.payload_bytes)
    print("ready", flush=True)
    times = prober.run(is_stopped)
    partial = given.record.with_suffix(".partial")
    with partial.open("wb") as file:
        times.tofile(file)
    partial.rename(given.record)
    return 0


if __name__ == "__main__":
    sys.exit(main())
