"""Probes by the thousand: one process with sockets in every namespace says who hears whom.

A probe is one packet of a flow that nobody has used before, and the answer to it. Every end that
a prober knows answers, so a probe that is allowed is `ANSWERED` within milliseconds; one that is
not is `SILENT`, or `ARRIVED` if it was heard and its answer was not. TCP, UDP and the answers to
ICMPv6 echo are the kernel's own. SCTP and protocols without ports go through raw sockets, which a
kernel without SCTP has too: the packet path sees the same bytes.
"""

from __future__ import annotations

import contextlib
import itertools
import resource
import select
import socket
import struct
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum

from integration.lab.enter import inside
from integration.lab.namespace import Namespace
from integration.lab.pace import PACE

TCP, UDP, ICMP6, SCTP = socket.IPPROTO_TCP, socket.IPPROTO_UDP, socket.IPPROTO_ICMPV6, 132
ECHO = 128
"""The ICMPv6 type that is a port to a probe of protocol ICMP6."""

QUIET_S = 0.25
"""A batch is over once nothing has been heard for so long; an answer takes about a millisecond.

In a slow lab, after as many times a silence.
"""
TRIES = 2
"""A probe that stays silent is sent again: encryption in user space may lose one in a crowd."""
CROWD = 200
"""Probes that are sent before the prober listens again."""

_INIT, _INIT_ACK = 1, 2
_ECHO_REPLY = 129
_ICMP6_FILTER = 1
_PORTS = struct.Struct("!HH")
_NONCE = struct.Struct("!Q")


class Outcome(Enum):
    """What became of a probe."""

    ANSWERED = "answered"
    ARRIVED = "arrived"
    SILENT = "silent"


@dataclass(frozen=True, slots=True)
class Probe:
    """One question. port: of the destination; for ICMP6 the type; else 0."""

    source: str
    destination: str
    protocol: int
    port: int = 0


class Prober:
    """Sockets in many namespaces, for the time of a `with` block.

    places: the namespace of each address. ports: those on which everybody answers.
    """

    def __init__(self, places: Mapping[str, Namespace], ports: Mapping[int, Iterable[int]]) -> None:
        self._places = dict(places)
        self._ports = {protocol: tuple(numbers) for protocol, numbers in ports.items()}
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._results: dict[int, Outcome] = {}
        self._nonces = itertools.count(1)
        self._identifiers = itertools.count(1)
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Prober:
        _allow_many_files()
        with contextlib.ExitStack() as unless_all:
            unless_all.callback(self._stack.close)
            self._epoll = select.epoll()
            self._stack.callback(self._epoll.close)
            for address, namespace in self._places.items():
                with inside(namespace):
                    for port in self._ports.get(TCP, ()):
                        self._listen(address, port)
                    for port in self._ports.get(UDP, ()):
                        self._echo_datagrams(address, port)
            unless_all.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def probe(self, probes: Iterable[Probe]) -> dict[Probe, Outcome]:
        """Send every probe and return what became of it. Takes QUIET_S and more."""
        found = dict.fromkeys(probes, Outcome.SILENT)
        for _ in range(TRIES):
            silent = [probe for probe, outcome in found.items() if outcome is Outcome.SILENT]
            if not silent:
                break
            with contextlib.ExitStack() as stack:
                found.update(self._probe_once(silent, stack))
        return found

    def _probe_once(self, probes: list[Probe], stack: contextlib.ExitStack) -> dict[Probe, Outcome]:
        numbers = {next(self._nonces): probe for probe in probes}
        self._results = {}
        self._raw: dict[tuple[str, int], socket.socket] = {}
        protocols = {probe.protocol for probe in probes} - {TCP, UDP}
        clients: dict[str, socket.socket] = {}
        identifiers = {address: next(self._identifiers) & 0x7FFF for address in self._places}
        for address, namespace in self._places.items():
            with inside(namespace):
                clients[address] = self._open_client(address, stack)
                for protocol in protocols:
                    self._raw[address, protocol] = self._open_raw(address, protocol, stack)
        for count, (nonce, probe) in enumerate(numbers.items(), 1):
            identifier = identifiers[probe.source]
            if probe.protocol == TCP:
                self._connect(nonce, probe, stack)
            elif probe.protocol == UDP:
                to = (probe.destination, probe.port)
                _send(clients[probe.source], _NONCE.pack(nonce), to)
            else:
                raw = self._raw[probe.source, probe.protocol]
                _send(raw, _make_packet(nonce, probe, identifier), (probe.destination, 0))
            if count % CROWD == 0:
                self._hear(0)
        self._hear_until_quiet(numbers.keys())
        return {probe: self._results.get(n, Outcome.SILENT) for n, probe in numbers.items()}

    def _hear_until_quiet(self, nonces: Collection[int]) -> None:
        """Stop early when all of these have an answer; late ones to others do not count."""
        while self._hear(QUIET_S * PACE.silence_s):
            if all(self._results.get(nonce) is Outcome.ANSWERED for nonce in nonces):
                return

    def _hear(self, timeout_s: float) -> bool:
        """Handle what has come; return whether anything had within the time."""
        heard = self._epoll.poll(timeout_s)
        for fd, events in heard:
            if fd in self._handlers:
                self._handlers[fd](events)
        return bool(heard)

    def _watch(
        self,
        opened: socket.socket,
        handler: Callable[[int], None],
        stack: contextlib.ExitStack,
        events: int = select.EPOLLIN,
    ) -> None:
        opened.setblocking(False)
        fd = opened.fileno()
        self._handlers[fd] = handler
        self._epoll.register(fd, events)

        def close() -> None:
            if opened.fileno() >= 0:
                self._forget(opened)

        stack.callback(close)

    def _forget(self, opened: socket.socket) -> None:
        del self._handlers[opened.fileno()]
        self._epoll.unregister(opened.fileno())
        opened.close()

    def _answered(self, nonce: int) -> None:
        self._results[nonce] = Outcome.ANSWERED

    def _arrived(self, nonce: int) -> None:
        self._results.setdefault(nonce, Outcome.ARRIVED)

    def _listen(self, address: str, port: int) -> None:
        listener = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(4096)

        def accept(_: int) -> None:
            for connection, _ in _until_blocked(listener.accept):
                connection.close()  # the client resets it: no TIME_WAIT at either end

        self._watch(listener, accept, self._stack)

    def _echo_datagrams(self, address: str, port: int) -> None:
        opened = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        opened.bind((address, port))

        def echo(_: int) -> None:
            for data, source in _until_blocked(lambda: opened.recvfrom(2048)):
                self._arrived(_NONCE.unpack_from(data)[0])
                _send(opened, data, source)

        self._watch(opened, echo, self._stack)

    def _open_client(self, address: str, stack: contextlib.ExitStack) -> socket.socket:
        client = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        client.bind((address, 0))

        def hear(_: int) -> None:
            for data, _ in _until_blocked(lambda: client.recvfrom(2048)):
                self._answered(_NONCE.unpack_from(data)[0])

        self._watch(client, hear, stack)
        return client

    def _connect(self, nonce: int, probe: Probe, stack: contextlib.ExitStack) -> None:
        with inside(self._places[probe.source]):
            client = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
        client.setblocking(False)
        client.bind((probe.source, 0))
        client.connect_ex((probe.destination, probe.port))

        def conclude(_: int) -> None:
            if client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
                self._answered(nonce)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._forget(client)

        self._watch(client, conclude, stack, select.EPOLLOUT | select.EPOLLERR)

    def _open_raw(self, address: str, protocol: int, stack: contextlib.ExitStack) -> socket.socket:
        raw = socket.socket(socket.AF_INET6, socket.SOCK_RAW, protocol)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        if protocol == ICMP6:
            raw.setsockopt(socket.IPPROTO_ICMPV6, _ICMP6_FILTER, _pass_types(range(128, 256)))
        raw.bind((address, 0))
        hear = {ICMP6: self._hear_icmp6, SCTP: self._hear_sctp}.get(protocol, self._hear_other)

        def handle(_: int) -> None:
            for data, source in _until_blocked(lambda: raw.recvfrom(2048)):
                hear(raw, data, source[0])

        self._watch(raw, handle, stack)
        return raw

    def _hear_icmp6(self, raw: socket.socket, data: bytes, source: str) -> None:
        kind = data[0]
        if kind == ECHO:
            self._arrived(_NONCE.unpack_from(data, 8)[0])  # and the kernel answers
        elif kind == _ECHO_REPLY or not 130 <= kind <= 143:  # nobody answers other types
            self._answered(_NONCE.unpack_from(data, 8)[0])

    def _hear_sctp(self, raw: socket.socket, data: bytes, source: str) -> None:
        source_port, destination_port = _PORTS.unpack_from(data)
        nonce = _NONCE.unpack_from(data, 16)[0]
        if data[12] == _INIT:
            self._arrived(nonce)
            packet = _make_sctp(destination_port, source_port, _INIT_ACK, nonce)
            _send(raw, packet, (source, 0))
        else:
            self._answered(nonce)

    def _hear_other(self, raw: socket.socket, data: bytes, source: str) -> None:
        nonce = _NONCE.unpack_from(data, 1)[0]
        if data[:1] == b"?":
            self._arrived(nonce)
            _send(raw, b"!" + data[1:], (source, 0))
        else:
            self._answered(nonce)


def _make_packet(nonce: int, probe: Probe, identifier: int) -> bytes:
    if probe.protocol == ICMP6:
        return struct.pack("!BBHHH", probe.port, 0, 0, identifier, 0) + _NONCE.pack(nonce)
    if probe.protocol == SCTP:
        return _make_sctp(0x8000 | identifier, probe.port, _INIT, nonce)
    return b"?" + _NONCE.pack(nonce)


def _make_sctp(source_port: int, destination_port: int, chunk: int, nonce: int) -> bytes:
    """Return a common header and one chunk of 12 bytes; nobody here checks its checksum."""
    head = _PORTS.pack(source_port, destination_port) + bytes(8)
    return head + struct.pack("!BBH", chunk, 0, 12) + _NONCE.pack(nonce)


def _send(opened: socket.socket, data: bytes, to: tuple[object, ...]) -> None:
    with contextlib.suppress(OSError):  # not sent is not answered
        opened.sendto(data, to)


def _until_blocked(call: Callable[[], tuple[object, ...]]) -> Iterator[tuple[object, ...]]:
    while True:
        try:
            yield call()
        except BlockingIOError:
            return
        except OSError:
            continue  # an ICMPv6 error of an earlier packet


def _pass_types(kinds: Iterable[int]) -> bytes:
    """Return an ICMPv6 filter (a set bit blocks)."""
    words = [0xFFFFFFFF] * 8
    for kind in kinds:
        words[kind >> 5] &= ~(1 << (kind & 31))
    return struct.pack("@8I", *words)


def _allow_many_files() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
