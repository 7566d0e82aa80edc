"""An address that goes from machine to machine: reached where it is, used by its holder alone."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import grpc
import pytest

from integration.lab.addresses import assign, float_address
from integration.lab.lab import Lab
from integration.lab.pace import PACE
from integration.lab.policies import apply_policy
from integration.lab.probe import probing
from integration.lab.stream import end, streaming
from integration.lab.wait import wait_until
from integration.scenarios.idle import connected, servers_speak
from integration.scenarios.traffic import Place, datagrams, pings, place_of, received

VIP = "shop/vip"
PORT = 7_020
ASK_EVERY_S = 0.002
FAIL_OVER_MOST_MS = 2_000
LOST_MOST = 10
"""On a busy machine; what is usual is printed."""

INWARDS_ALONE = f"""\
network: shop
rules:
  - name: inwards
    from: {{labels: {{app: client}}}}
    to: {{labels: {{app: web}}}}
    allow: [tcp/{PORT}]
"""
APART = f"""\
network: shop
rules:
  - name: of-one
    from: {{labels: {{app: one}}}}
    to: {{labels: {{app: client}}}}
    allow: [udp/{PORT + 1}]
  - name: of-two
    from: {{labels: {{app: two}}}}
    to: {{labels: {{app: client}}}}
    allow: [udp/{PORT + 2}]
"""


FAIL_OVERS = 15
FAIL_OVERS_EMULATED = 3
PAUSE_EMULATED_S = 0.02
"""Without one, floods would leave nothing of two processors to the guests that they go to."""
FLOOD = """
import socket, sys, time
name, source, destination, pause_s, *ports = sys.argv[1:]
speaks = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
speaks.bind((source, 0))
while True:
    for port in ports:
        try:
            speaks.sendto(name.encode(), (destination, int(port)))
        except OSError:
            pass
    time.sleep(float(pause_s))
"""


@contextlib.contextmanager
def answering(at: Place) -> Iterator[None]:
    """Answer every datagram that comes to the place with its name, for the block."""
    with datagrams(at, PORT) as server:
        is_over = threading.Event()

        def answer() -> None:
            while not is_over.is_set():
                with contextlib.suppress(TimeoutError, OSError):
                    _, peer = server.recvfrom(100)
                    server.sendto(at.name.encode(), peer)

        server.settimeout(0.1)
        thread = threading.Thread(target=answer)
        thread.start()
        try:
            yield
        finally:
            is_over.set()
            thread.join()


@contextlib.contextmanager
def hearing(at: Place, port: int) -> Iterator[Counter[str]]:
    """Count what comes to a port, by what it says, for the block."""
    heard: Counter[str] = Counter()
    with datagrams(at, port) as listener:
        listener.settimeout(0.1)
        is_over = threading.Event()

        def hear() -> None:
            while not is_over.is_set():
                with contextlib.suppress(TimeoutError):
                    heard[listener.recv(100).decode()] += 1

        thread = threading.Thread(target=hear)
        thread.start()
        try:
            yield heard
        finally:
            is_over.set()
            thread.join()


@dataclass
class Answers:
    """Who answered, and when (monotonic ns)."""

    heard: list[tuple[int, str]] = field(default_factory=list)

    def latest(self) -> str:
        return self.heard[-1][1] if self.heard else ""

    def first_from(self, name: str, since_ns: int) -> int:
        return next(at for at, who in self.heard if who == name and at >= since_ns)

    def last_from(self, name: str) -> int:
        return max(at for at, who in self.heard if who == name)


@contextlib.contextmanager
def asking(client: Place, address: str) -> Iterator[Answers]:
    """Ask an address all the time, for the block."""
    answers = Answers()
    with datagrams(client) as asker:
        asker.settimeout(ASK_EVERY_S)
        is_over = threading.Event()

        def ask() -> None:
            while not is_over.is_set():
                with contextlib.suppress(TimeoutError, OSError):
                    asker.sendto(b"who?", (address, PORT))
                    name = asker.recv(100).decode()
                    answers.heard.append((time.monotonic_ns(), name))
                is_over.wait(ASK_EVERY_S)

        thread = threading.Thread(target=ask)
        thread.start()
        try:
            yield answers
        finally:
            is_over.set()
            thread.join()


def _says_nothing(speaker: Place, listener: Place) -> bool:
    """Whether nothing arrives of what a place sends: datagrams and pings."""
    with datagrams(listener, PORT + 9) as at_listener, datagrams(speaker) as speaks:
        for _ in range(5):
            speaks.sendto(b"believe me", (listener.address, PORT + 9))
        heard = received(at_listener)
    return heard is None and not pings(speaker, listener.address, "-I", speaker.address)


def test_a_service_fails_over_to_a_machine_of_another_host(lab: Lab) -> None:
    one, two = lab.machine("shop/web-1", "host-a"), lab.machine("shop/web-2", "host-b")
    client, neighbour = lab.machine("shop/client", "host-c"), lab.machine("shop/next", "host-a")
    vip = float_address(lab, VIP, one, two)
    old, new = (place_of(machine).impersonating(vip) for machine in (one, two))
    client.wait_reaches(one)
    client.wait_reaches(two)

    with answering(old), answering(new), asking(place_of(client), vip) as answers:
        wait_until("web-1 answers", lambda: answers.latest() == "web-1")
        assert _says_nothing(new, place_of(client)), "web-2 does not have the address yet"
        for took, gave in ((two, one), (one, two), (two, one)):
            began_ns = time.monotonic_ns()
            response = assign(lab, VIP, took, expected=gave)
            done_ms = (time.monotonic_ns() - began_ns) / 1e6
            assert not response.lagging_hosts
            assert not response.away_hosts
            wait_until(f"{took.name} answers", lambda took=took: answers.latest() == took.name)
            first_ms = (answers.first_from(took.name, began_ns) - began_ns) / 1e6
            silent_ms = (
                answers.first_from(took.name, began_ns) - answers.last_from(gave.name)
            ) / 1e6
            print(
                f"to {took.name}: call {done_ms:.1f} ms, first answer after {first_ms:.1f} ms,"
                f" {silent_ms:.1f} ms without one"
            )
            assert first_ms < FAIL_OVER_MOST_MS * PACE.slowness

        # From here on nobody hears web-1 under the address, and it hears nobody, nor does its host.
        since_ns = time.monotonic_ns()
        dropped = lab.hosts["host-a"].counters().get("drop_spoofed_address", 0)
        assert _says_nothing(old, place_of(client))
        assert _says_nothing(old, place_of(neighbour))
        assert lab.hosts["host-a"].counters()["drop_spoofed_address"] > dropped
        assert neighbour.reaches(vip)
        wait_until("more answers", lambda: answers.heard[-1][0] > since_ns)
    assert {who for at, who in answers.heard if at > since_ns} == {"web-2"}
    # Its own address is as it was.
    one.wait_reaches(client)


def test_a_second_fail_over_at_once_finds_that_it_is_late(lab: Lab) -> None:
    one, two = lab.machine("shop/web-1", "host-a"), lab.machine("shop/web-2", "host-b")
    three = lab.machine("shop/web-3", "host-c")
    float_address(lab, VIP, one)
    assign(lab, VIP, two, expected=one)

    with pytest.raises(grpc.RpcError) as caught:
        assign(lab, VIP, three, expected=one)

    assert caught.value.code() is grpc.StatusCode.ABORTED
    assert "shop/web-2 has shop/vip now" in caught.value.details()


def test_connections_to_the_address_survive_moves_of_its_holder(lab: Lab) -> None:
    web = lab.machine("shop/web", "host-a", {"app": "web"})
    client = lab.machine("shop/client", "host-b", {"app": "client"})
    vip = float_address(lab, VIP, web)
    client.wait_reaches(web)
    there = place_of(web).impersonating(vip)

    with (
        probing(place_of(client), there, lab.directory) as probe,
        streaming(client.namespace, web.namespace, vip) as stream,
    ):
        for place in ("host-c", "host-b", "host-a"):
            before, began_ns = stream.connection(), time.monotonic_ns()
            steps = lab.move(web, place)
            assert not [name for step in steps for name in step.lagging_hosts]
            assert stream.is_alive_after(before), f"the connection broke moving to {place}"
            loss = probe.during(began_ns, time.monotonic_ns())
            print(f"holder to {place}: {loss}")
            assert loss.lost <= LOST_MOST


def test_connections_of_the_address_are_carried_where_policy_alone_would_cut_them(lab: Lab) -> None:
    web = lab.machine("shop/web", "host-a", {"app": "web"})
    client = lab.machine("shop/client", "host-b", {"app": "client"})
    vip = float_address(lab, VIP, web)
    client.wait_reaches(web)
    apply_policy(lab, INWARDS_ALONE)

    with connected(place_of(client), place_of(web).impersonating(vip), PORT, 50) as pairs:
        for place in ("host-c", "host-a"):
            steps = lab.move(web, place)
            assert list(steps[-1].move.warnings) == []
            assert steps[-1].move.carried_connections >= len(pairs)
            assert servers_speak(pairs, b"at " + place.encode()) == len(pairs)


def test_between_machines_of_one_host_nobody_speaks_with_the_others_rights(lab: Lab) -> None:
    """Both say the same to both ports under the address, without a pause where hosts are quick."""
    one = lab.machine("shop/one", "host-a", {"app": "one"})
    two = lab.machine("shop/two", "host-a", {"app": "two"})
    client = lab.machine("shop/client", "host-c", {"app": "client"})
    vip = float_address(lab, VIP, one, two)
    client.wait_reaches(one)
    client.wait_reaches(two)
    apply_policy(lab, APART)
    ports = {"one": PORT + 1, "two": PORT + 2}
    times_ms = []
    pause_s, fail_overs = 0.0, FAIL_OVERS
    if not PACE.can_measure:
        pause_s, fail_overs = PAUSE_EMULATED_S, FAIL_OVERS_EMULATED

    with contextlib.ExitStack() as stack:
        heard = {
            port: stack.enter_context(hearing(place_of(client), port)) for port in ports.values()
        }
        for machine in (one, two):
            said = (machine.name, vip, client.address, *map(str, (pause_s, *ports.values())))
            flood = machine.start(sys.executable, "-c", FLOOD, *said)
            stack.callback(end, flood)
        wait_until("the first holder is heard", lambda: heard[ports["one"]])
        for machine in (two, one) * fail_overs:
            port, began_ns = ports[machine.name], time.monotonic_ns()
            count = heard[port].total()
            assign(lab, VIP, machine)
            wait_until("it is heard", lambda p=port, c=count: heard[p].total() > c)
            times_ms.append((time.monotonic_ns() - began_ns) / 1e6)

    print(
        f"{len(times_ms)} fail-overs on one host: {min(times_ms):.0f} to {max(times_ms):.0f} ms"
        f" until heard, of {dict(heard[PORT + 1])} and {dict(heard[PORT + 2])}"
    )
    assert set(heard[ports["one"]]) == {"one"}
    assert set(heard[ports["two"]]) == {"two"}


@pytest.mark.parametrize("is_killed", [True, False], ids=["agent-killed", "cut-off"])
def test_a_holder_whose_host_is_gone_is_not_heard_when_it_returns(
    lab: Lab, is_killed: bool
) -> None:
    one, two = lab.machine("shop/web-1", "host-a"), lab.machine("shop/web-2", "host-b")
    client = lab.machine("shop/client", "host-c")
    vip = float_address(lab, VIP, one, two)
    old, new = (place_of(machine).impersonating(vip) for machine in (one, two))
    client.wait_reaches(one)
    client.wait_reaches(two)
    source, receiver = lab.hosts["host-a"], lab.hosts["host-c"]

    if is_killed:
        source.kill_agent()
    else:
        source.partition()
    with answering(new), asking(place_of(client), vip) as answers:
        response = assign(lab, VIP, two, expected=one)
        assert {*response.lagging_hosts, *response.away_hosts} == {"host-a"}
        wait_until("web-2 answers", lambda: answers.latest() == "web-2")

        if is_killed:
            # Its kernel still believes that web-1 has the address; nobody else does.
            refused = receiver.counters().get("drop_source_not_at_sender", 0)
            assert _says_nothing(old, place_of(client))
            assert receiver.counters()["drop_source_not_at_sender"] > refused
            source.start_agent()
        else:
            source.heal()
        fenced = source.counters().get("drop_spoofed_address", 0)

        def is_fenced() -> bool:
            pings(old, client.address, "-I", vip)
            return source.counters().get("drop_spoofed_address", 0) > fenced

        wait_until("host-a knows", is_fenced, timeout_s=60)
        assert _says_nothing(old, place_of(client))
        assert answers.latest() == "web-2"
    assert {who for _, who in answers.heard} == {"web-2"}
