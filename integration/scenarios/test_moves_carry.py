"""Connections move along, where a policy allows only that they begin, each way as the rules say."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pytest

from integration.lab.host import Host
from integration.lab.lab import Lab
from integration.lab.machine import Machine
from integration.lab.pace import PACE
from integration.lab.policies import apply_policy
from integration.lab.stream import PORT, streaming
from integration.lab.wait import wait_until
from integration.scenarios.idle import connected, servers_speak
from integration.scenarios.traffic import place_of
from netagent.api.control.v1 import move_service_pb2 as move_pb
from netagent.api.control.v1.move_service_pb2_grpc import MoveServiceStub
from netagent.api.types.v1 import types_pb2

IDLE = 100
INWARDS, OUTWARDS, LATE_INWARDS, LATE_OUTWARDS = 7_610, 7_611, 7_612, 7_613
CARRY_PORT = 7401
ONE_WAY = f"""\
network: shop
rules:
  - name: inwards
    from: {{labels: {{app: peer}}}}
    to: {{labels: {{app: mover}}}}
    allow: [tcp/{INWARDS}, tcp/{LATE_INWARDS}]
  - name: outwards
    from: {{labels: {{app: mover}}}}
    to: {{labels: {{app: peer}}}}
    allow: [tcp/{OUTWARDS}, tcp/{LATE_OUTWARDS}, tcp/{PORT}]
"""


def _machines(lab: Lab) -> tuple[Machine, Machine]:
    mover = lab.machine("shop/mover", "host-a", {"app": "mover"})
    peer = lab.machine("shop/peer", "host-b", {"app": "peer"})
    mover.wait_reaches(peer)
    apply_policy(lab, ONE_WAY)
    return mover, peer


def _move(
    lab: Lab, machine: Machine, destination: str, when_ready: Callable[[], None] = lambda: None
) -> types_pb2.Move:
    """Move on a call, with something done before it; return the move as it ended."""
    machine.attach(lab.hosts[destination])
    stub = MoveServiceStub(lab.channel)
    request = move_pb.MoveAddressRequest(
        machine=machine.path, destination=destination, trigger=types_pb2.MOVE_TRIGGER_CALL
    )
    move = types_pb2.Move()
    for response in stub.MoveAddress(request, timeout=PACE.allow(60)):
        move = response.move
        if move.phase == types_pb2.MOVE_PHASE_READY:
            when_ready()
            stub.CommitMove(move_pb.CommitMoveRequest(move_id=move.move_id), timeout=PACE.allow(30))
    assert move.phase == types_pb2.MOVE_PHASE_SETTLED
    return move


@contextlib.contextmanager
def _closed(host: Host, port: int) -> Iterator[None]:
    """Refuse what comes for a port of a host's own, for the block."""
    rule = f"tcp dport {port} reject with tcp reset"
    host.run("nft", "add table inet lab")
    host.run("nft", "add chain inet lab in { type filter hook input priority 0 ; }")
    host.run("nft", f"add rule inet lab in {rule}")
    try:
        yield
    finally:
        host.run("nft", "delete table inet lab")


def test_connections_survive_moves_that_policy_alone_would_cut(lab: Lab) -> None:
    mover, peer = _machines(lab)
    here, there = place_of(mover), place_of(peer)

    with contextlib.ExitStack() as stack:
        pairs = stack.enter_context(connected(there, here, INWARDS, IDLE))
        pairs += stack.enter_context(connected(here, there, OUTWARDS, IDLE))
        stream = stack.enter_context(streaming(mover.namespace, peer.namespace, peer.address))
        assert servers_speak(pairs, b"before") == len(pairs)

        def open_more() -> None:
            pairs.extend(stack.enter_context(connected(there, here, LATE_INWARDS, 3)))
            pairs.extend(stack.enter_context(connected(here, there, LATE_OUTWARDS, 3)))

        # To a third host, to the peer's own, and back to where it began.
        for number, place in enumerate(("host-c", "host-b", "host-a")):
            before = stream.connection()
            move = _move(lab, mover, place, open_more if number == 0 else lambda: None)

            assert list(move.warnings) == []
            assert move.carried_connections >= len(pairs)
            assert servers_speak(pairs, b"at " + place.encode()) == len(pairs)
            assert stream.is_alive_after(before)


@pytest.mark.namespaces_only("refuses with nftables, which guests do not have")
def test_what_was_not_carried_is_judged_anew_and_said(lab: Lab) -> None:
    mover, peer = _machines(lab)
    here, there = place_of(mover), place_of(peer)

    with (
        connected(there, here, INWARDS, 5) as inwards,
        connected(here, there, OUTWARDS, 5) as outwards,
        _closed(lab.hosts["host-c"], CARRY_PORT),
    ):
        assert servers_speak([*inwards, *outwards], b"before") == 10
        move = _move(lab, mover, "host-c")

        assert any("not carried" in warning for warning in move.warnings)
        assert servers_speak([*inwards, *outwards], b"after") == 0
        # Who began it may go on: its first packet is allowed as it is, and the flow is known again.
        for pair in inwards:
            pair.client.send(b"again")
        wait_until("they are known again", lambda: servers_speak(inwards, b"now") == 5)


@pytest.mark.parametrize("victim", ["host-a", "host-c"])
def test_connections_survive_an_agent_that_is_killed_while_they_are_carried(
    lab: Lab, victim: str
) -> None:
    mover, peer = _machines(lab)
    here, there = place_of(mover), place_of(peer)
    killed = lab.hosts[victim]

    def kill_and_restart() -> None:
        killed.kill_agent()
        killed.start_agent()

    with (
        connected(there, here, INWARDS, IDLE) as inwards,
        connected(here, there, OUTWARDS, IDLE) as outwards,
    ):
        pairs = [*inwards, *outwards]
        _move(lab, mover, "host-c", kill_and_restart)

        assert servers_speak(pairs, b"after") == len(pairs)
