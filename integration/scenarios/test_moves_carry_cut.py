"""An agent that is killed in the middle of carrying a machine's connections: none is lost."""

from __future__ import annotations

import random
import time

import pytest

from integration.lab.host import Host
from integration.lab.lab import Lab
from integration.lab.policies import apply_policy
from integration.lab.wait import wait_until
from integration.scenarios.idle import connected, servers_speak
from integration.scenarios.kernel import CONNTRACK, id_of, table
from integration.scenarios.traffic import place_of
from netagent.api.control.v1 import move_service_pb2 as pb
from netagent.api.control.v1.move_service_pb2_grpc import MoveServiceStub
from netagent.api.types.v1 import types_pb2
from netagent.dataplane.abi_flows import FlowFlag, FlowRow, FlowStateRow
from netagent.model.addresses import StableId

SOURCE, DESTINATION = "host-a", "host-c"
FLOWS = 100_000
"""Enough to be met on their way."""

PORT = 7_620
IDLE = 50
POLICY = f"""\
network: shop
rules:
  - name: inwards
    from: {{labels: {{app: peer}}}}
    to: {{labels: {{app: mover}}}}
    allow: [tcp/{PORT}]
"""


def _flows(mover: StableId) -> dict[FlowRow, FlowStateRow]:
    """Return many flows of a machine, seen now."""
    draw = random.Random(7)
    state = FlowStateRow(time.monotonic_ns(), 1, FlowFlag.ANSWERED)
    rows: dict[FlowRow, FlowStateRow] = {}
    while len(rows) < FLOWS:
        low, high = sorted((mover, draw.getrandbits(62)))
        rows[FlowRow(low, high, 0, draw.getrandbits(16), draw.getrandbits(16), 6)] = state
    return rows


def _held(host: Host, flows: list[FlowRow]) -> int:
    with table(host, CONNTRACK) as conntrack:
        return sum(conntrack.get(flow) is not None for flow in flows)


@pytest.mark.parametrize("victim", [SOURCE, DESTINATION])
def test_a_transfer_that_is_cut_in_the_middle_is_made_whole(lab: Lab, victim: str) -> None:
    mover = lab.machine("shop/mover", SOURCE, {"app": "mover"})
    peer = lab.machine("shop/peer", "host-b", {"app": "peer"})
    mover.wait_reaches(peer)
    apply_policy(lab, POLICY)
    flows = _flows(id_of(mover.address))
    with table(lab.hosts[SOURCE], CONNTRACK) as conntrack:
        conntrack.update(flows)
    sample = random.Random(8).sample(list(flows), 300)
    destination = lab.hosts[DESTINATION]
    mover.attach(destination)
    stub = MoveServiceStub(lab.channel)

    with connected(place_of(peer), place_of(mover), PORT, IDLE) as pairs:
        request = pb.MoveAddressRequest(
            machine=mover.path, destination=DESTINATION, trigger=types_pb2.MOVE_TRIGGER_CALL
        )
        steps = stub.MoveAddress(request, timeout=90)
        move = next(steps).move
        wait_until("flows arrive", lambda: _held(destination, sample))
        lab.hosts[victim].kill_agent()
        assert _held(destination, sample) < len(sample), "the transfer was over already"
        lab.hosts[victim].start_agent()
        for step in steps:
            move = step.move
            if move.phase == types_pb2.MOVE_PHASE_READY:
                stub.CommitMove(pb.CommitMoveRequest(move_id=move.move_id), timeout=30)

        assert move.phase == types_pb2.MOVE_PHASE_SETTLED
        assert list(move.warnings) == []
        assert _held(destination, sample) == len(sample)
        assert servers_speak(pairs, b"after") == IDLE
