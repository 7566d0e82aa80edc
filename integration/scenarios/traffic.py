"""Sockets inside the namespaces of a lab, and what becomes of what is sent through them."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from integration.lab.enter import inside
from integration.lab.host import Host
from integration.lab.machine import Machine
from integration.lab.namespace import Namespace
from integration.lab.pace import PACE


@dataclass(frozen=True, slots=True)
class Place:
    """Somewhere with a stable address: a machine, or a host's own stack."""

    name: str
    namespace: Namespace
    address: str

    @property
    def netns(self) -> Path:
        """Path of the network namespace."""
        return self.namespace.netns

    def impersonating(self, address: str) -> Place:
        """Return the same place, sending from another address."""
        return Place(self.name, self.namespace, address)


def place_of(owner: Machine | Host) -> Place:
    """Return where a machine's or a host's own stable address is."""
    address = owner.address if isinstance(owner, Machine) else owner.status().address
    return Place(owner.name, owner.namespace, address)


@contextlib.contextmanager
def listening(at: Place, port: int) -> Iterator[socket.socket]:
    """Listen for TCP, for the block; accepts time out after a silence."""
    with inside(at.namespace):
        listener = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
    with listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.settimeout(PACE.silence_s)
        listener.bind((at.address, port))
        listener.listen()
        yield listener


@contextlib.contextmanager
def datagrams(at: Place, port: int = 0) -> Iterator[socket.socket]:
    """Open a UDP socket on the stable address, for the block."""
    with inside(at.namespace):
        opened = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    with opened:
        opened.settimeout(PACE.silence_s)
        opened.bind((at.address, port))
        yield opened


def connect(source: Place, destination: Place, port: int) -> str:
    """Try a TCP connection; return `open`, `refused` or `silent`."""
    with inside(source.namespace):
        client = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
    with client:
        client.settimeout(PACE.silence_s)
        client.bind((source.address, 0))
        try:
            client.connect((destination.address, port))
        except TimeoutError:
            return "silent"
        except ConnectionRefusedError:
            return "refused"
        return "open"


def can_talk(source: Place, destination: Place, port: int = 7777) -> bool:
    """Whether a TCP connection opens and carries a request and its answer."""
    with listening(destination, port) as listener, inside(source.namespace):
        client = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
        with client:
            client.settimeout(PACE.silence_s)
            client.bind((source.address, 0))
            try:
                client.connect((destination.address, port))
                server, peer = listener.accept()
            except TimeoutError:
                return False
            except OSError as error:
                # Neighbour discovery has given up: the host is not there.
                if error.errno != errno.EHOSTUNREACH:
                    raise
                return False
            with server:
                server.settimeout(PACE.silence_s)
                client.sendall(b"question")
                is_asked = server.recv(100) == b"question"
                server.sendall(b"answer")
                return is_asked and client.recv(100) == b"answer" and peer[0] == source.address


def received(listener: socket.socket) -> bytes | None:
    """Return the next datagram; None for silence."""
    try:
        return listener.recv(65535)
    except TimeoutError:
        return None


def pings(source: Place, address: str, *options: str) -> bool:
    """Whether one ping is answered."""
    ping = ("ping", "-6", "-n", "-q", "-c", "1", "-W", str(PACE.silence_s), *options, address)
    return source.namespace.run(*ping, check=False).returncode == 0


def process_of(namespace: Namespace, command: str) -> int:
    """Return the process of that name in a network namespace."""
    wanted = os.stat(namespace.netns).st_ino
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            name = (process / "comm").read_text().strip()
            if name == command and os.stat(process / "ns/net").st_ino == wanted:
                found.append(int(process.name))
    assert len(found) == 1, f"{namespace.name}: {len(found)} processes {command}"
    return found[0]
