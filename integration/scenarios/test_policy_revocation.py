"""Taking a rule away cuts what it let through, at once; an unrelated change cuts nothing."""

from __future__ import annotations

import contextlib
import selectors
import socket
from collections.abc import Iterator

from integration.lab.enter import inside
from integration.lab.host import Host
from integration.lab.lab import Lab
from integration.lab.machine import Machine
from integration.lab.pace import PACE
from integration.lab.policies import apply_policy, rule_counters
from integration.lab.stream import PORT, streaming
from integration.lab.wait import wait_until
from integration.scenarios.traffic import Place, place_of

CONNECTIONS = 1_000
SERVICE = 7_600
STREAMS = f"""\
network: shop
rules:
  - name: streams
    from: {{labels: {{app: web}}}}
    to: {{labels: {{app: db}}}}
    allow: [tcp/{PORT}]
"""
NOTHING = "network: shop\nrules:\n  - {name: none, from: any, to: any, deny: [tcp/9]}\n"


def _machines(lab: Lab) -> tuple[Machine, Machine]:
    web = lab.machine("shop/web", "host-a", {"app": "web"})
    db = lab.machine("shop/db", "host-b", {"app": "db"})
    web.wait_reaches(db)
    return web, db


def _delivered(host: Host) -> int:
    return host.counters().get("pass_from_mesh", 0)


def test_a_stream_stops_with_its_rule(lab: Lab) -> None:
    web, db = _machines(lab)
    sender, receiver = lab.hosts["host-a"], lab.hosts["host-b"]
    apply_policy(lab, STREAMS)

    with streaming(web.namespace, db.namespace, db.address, rate="0"):
        apply_policy(lab, NOTHING)
        delivered = _delivered(receiver), _delivered(sender)
        denied = sender.counters().get("drop_denied_egress", 0)
        # The sender goes on trying: these are its retransmissions.
        wait_until(
            "the stream is dropped again and again",
            lambda: sender.counters().get("drop_denied_egress", 0) >= denied + 3,
        )

        assert (_delivered(receiver), _delivered(sender)) == delivered


def test_the_receivers_host_stops_what_the_senders_still_lets_go(lab: Lab) -> None:
    web, db = _machines(lab)
    receiver = lab.hosts["host-b"]
    apply_policy(lab, STREAMS)

    with streaming(web.namespace, db.namespace, db.address):
        lab.hosts["host-a"].kill_agent()
        apply_policy(lab, NOTHING)
        delivered = _delivered(receiver)
        wait_until(
            "host-b drops it",
            lambda: receiver.counters().get("drop_denied_ingress", 0) >= 3,
        )

        assert _delivered(receiver) == delivered


def test_a_label_that_goes_takes_its_connections_along(lab: Lab) -> None:
    web, db = _machines(lab)
    apply_policy(lab, STREAMS)

    with streaming(web.namespace, db.namespace, db.address):
        lab.relabel(web, {"app": "other"})
        wait_until(
            "host-a drops it",
            lambda: lab.hosts["host-a"].counters().get("drop_denied_egress", 0) >= 3,
        )
        lab.relabel(web, {"app": "web"})
        wait_until(
            "it flows again",
            lambda: rule_counters(lab.hosts["host-b"])["streams", True].allowed_packets > 0,
        )


def test_an_unrelated_change_touches_no_connection(lab: Lab) -> None:
    web, db = _machines(lab)
    rule = f"from: {{labels: {{app: web}}}}, to: {{labels: {{app: db}}}}, allow: [tcp/{SERVICE}]"
    policy = f"network: shop\nrules:\n  - {{name: service, {rule}}}\n"
    apply_policy(lab, policy)

    with _connected(place_of(web), place_of(db), CONNECTIONS) as pairs:
        assert _exchange(pairs, b"before") == CONNECTIONS
        for port in range(1, 6):
            more = f"  - {{name: more, from: any, to: any, deny: [udp/{port}]}}\n"
            apply_policy(lab, policy + more)
            assert _exchange(pairs, b"between") == CONNECTIONS
        lab.machine("shop/new", "host-c", {"app": "something-else"})

        assert _exchange(pairs, b"after") == CONNECTIONS


@contextlib.contextmanager
def _connected(
    source: Place, destination: Place, count: int
) -> Iterator[list[tuple[socket.socket, socket.socket]]]:
    """Hold so many open connections, (client, server), for the block."""
    with contextlib.ExitStack() as stack:
        with inside(destination.namespace):
            listener = stack.enter_context(socket.socket(socket.AF_INET6))
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((destination.address, SERVICE))
        listener.listen(64)
        pairs = []
        with inside(source.namespace):
            for _ in range(count):
                client = stack.enter_context(socket.socket(socket.AF_INET6))
                client.settimeout(PACE.allow(5))
                client.connect((destination.address, SERVICE))
                server, _ = listener.accept()
                stack.enter_context(server)
                pairs.append((client, server))
        yield pairs


def _exchange(pairs: list[tuple[socket.socket, socket.socket]], text: bytes) -> int:
    """Send one text over every connection and back; return how many brought it."""
    with selectors.DefaultSelector() as selector:
        for client, server in pairs:
            selector.register(server, selectors.EVENT_READ, "server")
            selector.register(client, selectors.EVENT_READ, "client")
            client.sendall(text)
        back = 0
        while back < len(pairs):
            ready = selector.select(timeout=PACE.allow(3))
            if not ready:
                break
            for key, _ in ready:
                one = key.fileobj
                assert isinstance(one, socket.socket)
                received = one.recv(100)
                if key.data == "server":
                    one.sendall(received)
                else:
                    back += received == text
        return back
