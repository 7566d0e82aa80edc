"""What another machine sees of a guest: pings a thousand times a second, an echo, a stream."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import signal
import socket
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv6Address
from itertools import pairwise
from pathlib import Path

from integration.lab.enter import inside
from integration.lab.namespace import Namespace, child_of
from integration.lab.wait import wait_until
from integration.scenarios.traffic import Place
from integration.vm_migration.guest import ECHO_PORT, SINK_PORT

INTERVAL_S = 0.001
UNDECIDED = 50
"""So many pings at most may still be on their way when ping is ended: they count as neither."""

_ANSWER = re.compile(r"^\[(\d+\.\d+)\].*icmp_seq=(\d+).* time=([\d.]+) ms", re.MULTILINE)
_SENT = re.compile(r"^(\d+) packets transmitted", re.MULTILINE)
SEQUENCES = 1 << 16
_SIOCOUTQ = 0x5411
_SO_TIMESTAMPNS = 35
_SO_RCVBUFFORCE = 33
_KEPT_BYTES = 16 << 20
_ETH_P_ALL = 3
_SOURCE, _DESTINATION = slice(8, 24), slice(24, 40)


@dataclass(frozen=True, slots=True)
class Answers:
    """What became of pings.

    arrivals: Unix time at which each answer came, ascending. lost: about when each was sent that
    was not answered, of `sent` in all.
    """

    arrivals: list[float]
    sent: int
    lost: list[float]

    def gap_ms(self, begin_s: float, end_s: float) -> float:
        """Return the longest time without an answer within a span of Unix time."""
        within = [begin_s, *(at for at in self.arrivals if begin_s <= at <= end_s), end_s]
        return max(after - before for before, after in pairwise(within)) * 1e3


class Pinging:
    """A running ping."""

    def __init__(self, namespace: Namespace, address: str) -> None:
        self._log = namespace.log_dir / f"ping-{namespace.name.replace('/', '-')}.log"
        self._process = namespace.start(
            *("ping", "-6", "-n", "-D", "-i", str(INTERVAL_S), "-s", "16", address),
            log=self._log.name,
        )

    def stop(self) -> Answers:
        """End it and return what it saw."""
        os.kill(child_of(self._process.pid), signal.SIGINT)
        self._process.wait(10)
        return read_answers(self._log)


def read_answers(log: Path) -> Answers:
    """Return what `ping -D` wrote down."""
    text = log.read_text()
    arrivals = []
    sent_s: dict[int, float] = {}
    turn, before = 0, 0
    for at, number, lasted_ms in _ANSWER.findall(text):
        arrivals.append(float(at))
        # Sixteen bits: a step back by half of them is the next turn.
        turn += int(number) < before - SEQUENCES // 2
        turn -= int(number) > before + SEQUENCES // 2
        before = int(number)
        sent_s[turn * SEQUENCES + before] = float(at) - float(lasted_ms) / 1e3
    count = int(_SENT.findall(text)[-1])
    if count - max(sent_s) <= UNDECIDED:
        count = max(sent_s)
    lost, last_s = [], min(sent_s.values())
    for number in range(1, count + 1):
        last_s = sent_s.get(number, last_s)
        if number not in sent_s:
            lost.append(last_s)
    return Answers(sorted(arrivals), count, lost)


def _connect(place: Place, address: str, port: int) -> socket.socket:
    """Return a connection to a guest that may have just booted."""

    def connect() -> socket.socket:
        with inside(place.namespace):
            try:
                return socket.create_connection((address, port), 10)
            except ConnectionRefusedError as error:
                raise AssertionError("nobody listens yet") from error

    return wait_until(f"the guest listens on port {port}", connect, 20)


class Tap:
    """Hears when the first packet for a guest is on its tap, and the first one that is from it.

    Since the first the network is ready, since the second the guest is.
    """

    def __init__(self, namespace: Namespace, interface: str, address: str) -> None:
        self._address = IPv6Address(address).packed
        with inside(namespace):
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _KEPT_BYTES)
        self._socket.bind((interface, _ETH_P_ALL))

    def stop(self) -> tuple[float, float]:
        """Return when they were, as Unix time by the kernel; stop listening."""
        with self._socket:
            return self._first(_DESTINATION), self._first(_SOURCE)

    def _first(self, where: slice) -> float:
        while True:
            packet, ancillary, _, _ = self._socket.recvmsg(40, 64)
            if packet[where] == self._address:
                seconds, nanoseconds = struct.unpack("qq", ancillary[0][2])
                return float(seconds + nanoseconds / 1e9)


class Echo:
    """A TCP connection on which every word comes back, one after the other."""

    def __init__(self, place: Place, address: str) -> None:
        self._socket = _connect(place, address, ECHO_PORT)
        self._socket.settimeout(10)
        self._count = 0

    def works(self) -> bool:
        """Whether the next word comes back."""
        self._count += 1
        word = b"%8d" % self._count
        self._socket.sendall(word)
        back = b""
        while len(back) < len(word):
            part = self._socket.recv(100)
            if not part:
                return False
            back += part
        return back == word

    def close(self) -> None:
        """Close it."""
        self._socket.close()


class Stream:
    """A TCP connection that sends all the time; `carried` counts bytes that were acknowledged."""

    def __init__(self, place: Place, address: str) -> None:
        self._socket = _connect(place, address, SINK_PORT)
        self._stopping = threading.Event()
        self._written = 0
        self.failure: OSError | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def goes_on(self) -> bool:
        """Whether it carries data now."""
        before = self._acknowledged()
        with contextlib.suppress(AssertionError):
            wait_until("it goes on", lambda: self._acknowledged() > before + 200_000, 10)
            return self.failure is None
        return False

    def stop(self) -> None:
        """End it."""
        self._stopping.set()
        self._thread.join(10)
        self._socket.close()

    def _acknowledged(self) -> int:
        (queued,) = struct.unpack("i", fcntl.ioctl(self._socket, _SIOCOUTQ, bytes(4)))
        return self._written - int(queued)

    def _run(self) -> None:
        self._socket.settimeout(20)
        try:
            while not self._stopping.is_set():
                self._written += self._socket.send(bytes(16_384))
                time.sleep(0.005)
        except OSError as error:
            self.failure = error


@contextlib.contextmanager
def observing(place: Place, address: str) -> Iterator[tuple[Echo, Stream, Pinging]]:
    """Observe a guest for the block."""
    with contextlib.ExitStack() as stack:
        echo = Echo(place, address)
        stack.callback(echo.close)
        stream = Stream(place, address)
        stack.callback(stream.stop)
        yield echo, stream, Pinging(place.namespace, address)
