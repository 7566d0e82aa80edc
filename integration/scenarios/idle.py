"""Many open connections between two places, on which nobody says anything unless asked to."""

from __future__ import annotations

import contextlib
import selectors
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from integration.lab.pace import PACE
from integration.scenarios.traffic import Place, inside

ANSWER_S = 4.0
"""A packet that is lost once is sent again after 0.2 s, then 0.4, 0.8 and 1.6."""


@dataclass(frozen=True, slots=True)
class Pair:
    """One connection: the end that began it, and the other."""

    client: socket.socket
    server: socket.socket


@contextlib.contextmanager
def connected(source: Place, destination: Place, port: int, count: int) -> Iterator[list[Pair]]:
    """Hold so many open connections for the block."""
    with contextlib.ExitStack() as stack:
        with inside(destination.namespace):
            listener = stack.enter_context(socket.socket(socket.AF_INET6))
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.settimeout(10)
        listener.bind((destination.address, port))
        listener.listen(count)
        pairs = []
        for _ in range(count):
            with inside(source.namespace):
                client = stack.enter_context(socket.socket(socket.AF_INET6))
            client.settimeout(10)
            client.bind((source.address, 0))
            client.connect((destination.address, port))
            server = stack.enter_context(listener.accept()[0])
            for each in (client, server):
                each.setblocking(False)
            pairs.append(Pair(client, server))
        yield pairs


def servers_speak(pairs: Sequence[Pair], word: bytes) -> int:
    """Have the ends speak first that did not begin; return how many are heard and answered.

    The direction in which a policy that allows only the beginning allows nothing.
    """
    for pair in pairs:
        pair.server.send(word)
    heard = _hear([pair.client for pair in pairs], word)
    for pair in pairs:
        if pair.client in heard:
            pair.client.send(word)
    answered = _hear([pair.server for pair in pairs if pair.client in heard], word)
    return len(answered)


def _hear(sockets: Sequence[socket.socket], word: bytes) -> set[socket.socket]:
    """Return those that receive the word before nothing has come for a while."""
    heard: set[socket.socket] = set()
    with selectors.DefaultSelector() as selector:
        for each in sockets:
            selector.register(each, selectors.EVENT_READ)
        while len(heard) < len(sockets) and (ready := selector.select(ANSWER_S * PACE.silence_s)):
            for key, _ in ready:
                each = key.fileobj
                assert isinstance(each, socket.socket)
                if each.recv(1000).endswith(word):
                    heard.add(each)
                    selector.unregister(each)
    return heard
