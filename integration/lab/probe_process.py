"""One end of a probe, inside a machine; started by probe.py.

The sender sends numbered packets at absolute times and reads what has come back after each; the
echo answers each at once. Both write into memory shared with the controller: signed 64-bit
integers, in nanoseconds of CLOCK_MONOTONIC, 0 for never. No files, no locks, no event loop.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import socket
import struct
import sys
import time
from enum import Enum

SO_TIMESTAMPNS = 35
"""SO_TIMESTAMPNS of asm-generic/socket.h; also the type of the control message that comes of it."""

SO_RCVBUFFORCE = 33
RECEIVE_BYTES = 4 << 20

DRAIN_PAUSE_S = 0.005
PADDING = bytes(48)
_COMPLEMENT = (1 << 64) - 1

_NUMBER = struct.Struct("!Q")
_TIMESPEC = struct.Struct("@qq")
_HEADER_WORDS = 8
_STOP, _CAPACITY, _SENT = 0, 1, 2
_COLUMNS = 3


class Role(Enum):
    """Which end."""

    SEND = "send"
    ECHO = "echo"


_READY = {Role.SEND: 3, Role.ECHO: 4}


class SharedRecord:
    """The times of every packet, in memory that several processes map.

    Words 0 to 7: stop, capacity, packets sent, sender is ready, echo is ready; then the columns
    sent, arrived, back.
    """

    def __init__(self, fd: int) -> None:
        self.words = memoryview(mmap.mmap(fd, 0)).cast("q")
        capacity = self.words[_CAPACITY]
        starts = (_HEADER_WORDS + column * capacity for column in range(_COLUMNS))
        self.sent, self.arrived, self.back = (self.words[at : at + capacity] for at in starts)

    @classmethod
    def make(cls, fd: int, capacity: int) -> SharedRecord:
        """Give an empty memory file room for so many packets."""
        os.ftruncate(fd, 8 * (_HEADER_WORDS + _COLUMNS * capacity))
        os.pwrite(fd, struct.pack("@q", capacity), 8 * _CAPACITY)
        return cls(fd)

    @property
    def is_stopped(self) -> bool:
        """Whether no more is to be sent."""
        return bool(self.words[_STOP])

    def stop(self) -> None:
        """Have the sender send no more."""
        self.words[_STOP] = 1

    def is_ready(self, role: Role) -> bool:
        """Whether an end is at work."""
        return bool(self.words[_READY[role]])

    def set_ready(self, role: Role) -> None:
        """Say that an end is at work."""
        self.words[_READY[role]] = 1

    def count_sent(self, count: int) -> None:
        """Say how many packets were sent so far."""
        self.words[_SENT] = count

    def last_sent_ns(self) -> int:
        """Return when the last packet was sent; 0 when none was."""
        count = self.words[_SENT]
        return self.sent[count - 1] if count else 0

    def packets(self) -> list[tuple[int, int, int]]:
        """Return (sent, arrived, back) of every packet sent so far."""
        count = self.words[_SENT]
        columns = (self.sent[:count], self.arrived[:count], self.back[:count])
        return list(zip(*(column.tolist() for column in columns), strict=True))


def send(record: SharedRecord, address: str, port: int, rate: int) -> None:
    """Send until stopped, then go on reading until ended from outside."""
    opened = _open_socket()
    opened.setblocking(False)
    opened.connect((address, port))
    interval_ns = 1_000_000_000 // rate
    record.set_ready(Role.SEND)
    next_ns = time.monotonic_ns()
    for number in range(len(record.sent)):
        next_ns += interval_ns
        pause_ns = next_ns - time.monotonic_ns()
        if pause_ns > 0:
            time.sleep(pause_ns / 1e9)
        if record.is_stopped:
            break
        record.sent[number] = time.monotonic_ns()
        try:
            opened.send(_packet(number))
        except OSError as error:  # lost on the way there, and recorded so
            print(f"packet {number} not sent: {error}", file=sys.stderr, flush=True)
        record.count_sent(number + 1)
        _read(opened, record)
    while True:
        _read(opened, record)
        time.sleep(DRAIN_PAUSE_S)


def echo(record: SharedRecord, address: str, port: int) -> None:
    """Answer until ended from outside."""
    opened = _open_socket()
    opened.bind((address, port))
    record.set_ready(Role.ECHO)
    while True:
        data, control, _, source = opened.recvmsg(2048, 64)
        number = _NUMBER.unpack_from(data)[0]
        record.arrived[number] = record.arrived[number] or _arrival_ns(control)
        try:
            opened.sendto(data, source)
        except OSError as error:  # lost on the way back, and recorded so
            print(f"echo {number} not sent: {error}", file=sys.stderr, flush=True)


def _packet(number: int) -> bytes:
    """Return a payload that begins with a number, 64 bytes.

    With its complement, so that all packets have one checksum: wireguard-go 20231211 leaves a UDP
    checksum of 0 as it is, and receivers refuse that, one packet in 65,536 of any other flow.
    """
    return _NUMBER.pack(number) + _NUMBER.pack(number ^ _COMPLEMENT) + PADDING


def _read(opened: socket.socket, record: SharedRecord) -> None:
    """Read all that has come back."""
    while True:
        try:
            data, control, _, _ = opened.recvmsg(2048, 64)
        except BlockingIOError:
            return
        except OSError:
            continue  # an ICMPv6 error of an earlier packet
        number = _NUMBER.unpack_from(data)[0]
        record.back[number] = record.back[number] or _arrival_ns(control)


def _open_socket() -> socket.socket:
    opened = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    opened.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    # An end that is not scheduled for a while finds its packets waiting, not dropped.
    opened.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BYTES)
    return opened


def _arrival_ns(control: list[tuple[int, int, bytes]]) -> int:
    """Return when the kernel took a packet in. It says so in CLOCK_REALTIME."""
    stamps = [data for _, kind, data in control if kind == SO_TIMESTAMPNS]
    seconds, nanoseconds = _TIMESPEC.unpack(stamps[0])
    stamp_ns: int = seconds * 1_000_000_000 + nanoseconds
    return time.monotonic_ns() - (time.time_ns() - stamp_ns)


def main() -> None:
    """Be one end: ROLE RECORD ADDRESS PORT RATE."""
    role, path, address, port, rate = sys.argv[1:]
    record = SharedRecord(os.open(path, os.O_RDWR))
    with contextlib.suppress(OSError):  # forbidden: a little more of the machine's noise
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    if Role(role) is Role.SEND:
        send(record, address, int(port), int(rate))
    else:
        echo(record, address, int(port))


if __name__ == "__main__":
    main()
