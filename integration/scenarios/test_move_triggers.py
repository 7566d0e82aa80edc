"""Moves that wait for a call, are undone, or are forced away from a host that is not quite dead."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import grpc
import pytest

from integration.lab.host import Host
from integration.lab.lab import Lab
from integration.lab.machine import Machine
from integration.lab.namespace import start_namespace
from integration.lab.probe import probing
from integration.lab.wait import wait_until
from integration.scenarios.kernel import LOCATION, TRANSITION, id_of, locator_of, table
from integration.scenarios.traffic import Place, can_talk, datagrams, pings, place_of, received
from netagent.api.agent.v1 import agent_service_pb2 as agent_pb
from netagent.api.control.v1 import move_service_pb2 as move_pb
from netagent.api.control.v1.move_service_pb2_grpc import MoveServiceStub
from netagent.api.types.v1 import types_pb2

pytestmark = pytest.mark.namespaces_only("is about control, and hands namespaces over")

LIMIT_S = 30


def _move(lab: Lab, machine: Machine, destination: str, **fields: object) -> grpc.Call:
    request = move_pb.MoveAddressRequest(
        machine=machine.path,
        destination=destination,
        **fields,  # type: ignore[arg-type]
    )
    return MoveServiceStub(lab.channel).MoveAddress(request, timeout=LIMIT_S)


def _ready(lab: Lab, machine: Machine, destination: str) -> tuple[grpc.Call, str]:
    """Attach a machine at its destination, begin a move by call, and wait until it is ready."""
    machine.attach(lab.hosts[destination])
    steps = _move(lab, machine, destination, trigger=types_pb2.MOVE_TRIGGER_CALL)
    move = next(steps).move
    assert next(steps).move.phase == types_pb2.MOVE_PHASE_READY
    return steps, move.move_id


def _rows(host: Host) -> dict[object, object]:
    with table(host, LOCATION) as locations:
        return dict(locations.items())


def _no_transition_is_left(lab: Lab) -> bool:
    for host in lab.hosts.values():
        with table(host, TRANSITION) as transitions:
            if transitions.items():
                return False
    return True


def _state_at(host: Host, machine: Machine) -> agent_pb.EndpointState | None:
    found = [each.state for each in host.status().endpoints if each.machine == machine.path]
    return found[0] if found else None


def test_a_move_that_is_ready_disturbs_nothing_and_commits_when_called(lab: Lab) -> None:
    web, db = lab.machine("shop/web", "host-a"), lab.machine("shop/db", "host-c")
    web.wait_reaches(db)

    with probing(place_of(db), place_of(web), lab.directory) as probe:
        steps, move_id = _ready(lab, web, "host-b")
        assert lab.locate(web) == "host-a"
        assert _state_at(lab.hosts["host-b"], web) == agent_pb.ENDPOINT_STATE_STAGED
        request = move_pb.CommitMoveRequest(move_id=move_id)
        MoveServiceStub(lab.channel).CommitMove(request, timeout=LIMIT_S)
        phases = [step.move.phase for step in steps]
        record = probe.stop()

    assert phases == [types_pb2.MOVE_PHASE_COMMITTED, types_pb2.MOVE_PHASE_SETTLED]
    assert lab.locate(web) == "host-b"
    print(record.whole())
    assert record.whole().lost <= 10


def test_an_aborted_move_leaves_everything_as_it_was(lab: Lab) -> None:
    web, db = lab.machine("shop/web", "host-a"), lab.machine("shop/db", "host-c")
    web.wait_reaches(db)
    before = _rows(lab.hosts["host-a"]), _rows(lab.hosts["host-c"])

    with probing(place_of(db), place_of(web), lab.directory) as probe:
        _, move_id = _ready(lab, web, "host-b")
        request = move_pb.AbortMoveRequest(move_id=move_id)
        MoveServiceStub(lab.channel).AbortMove(request, timeout=LIMIT_S)
        wait_until("no transition is left", lambda: _no_transition_is_left(lab))
        record = probe.stop()

    assert record.whole().lost == 0
    assert (_rows(lab.hosts["host-a"]), _rows(lab.hosts["host-c"])) == before
    assert _state_at(lab.hosts["host-a"], web) == agent_pb.ENDPOINT_STATE_LIVE
    assert _state_at(lab.hosts["host-b"], web) == agent_pb.ENDPOINT_STATE_FENCED
    lab.hosts["host-b"].detach(web.path)
    assert can_talk(place_of(db), place_of(web))


@contextmanager
def _reborn(lab: Lab, machine: Machine, host: Host) -> Iterator[Place]:
    """Start a machine anew on another host, while the old one runs on where it is."""
    namespace = start_namespace("reborn", lab.directory, is_bound=True)
    try:
        anew = Machine(namespace, machine.path, machine.address)
        anew.attach(host)
        yield Place("reborn", namespace, machine.address)
    finally:
        namespace.kill()


def test_a_forced_move_fences_a_machine_that_still_runs(lab: Lab) -> None:
    web, db = lab.machine("shop/web", "host-a"), lab.machine("shop/db", "host-c")
    near = lab.machine("shop/near", "host-a")
    web.wait_reaches(db)
    web.wait_reaches(near)
    source, third = lab.hosts["host-a"], lab.hosts["host-c"]
    with pytest.raises(grpc.RpcError, match="the agent of host host-a is connected"):
        list(_move(lab, web, "host-b", force=True))

    # Only the agent dies: the kernel there goes on, and so does the machine.
    source.kill_agent()
    wait_until(
        "control knows", lambda: not {h.name: h for h in lab.list_hosts()}["host-a"].connected
    )
    with (
        _reborn(lab, web, lab.hosts["host-b"]) as reborn,
        datagrams(place_of(db), 7300) as at_db,
        datagrams(place_of(web), 7301) as at_old,
    ):
        phases = [step.move.phase for step in _move(lab, web, "host-b", force=True)]
        assert phases[1:] == [types_pb2.MOVE_PHASE_COMMITTED, types_pb2.MOVE_PHASE_SETTLED]
        assert can_talk(place_of(db), reborn)
        refused = third.counters().get("drop_source_not_at_sender", 0)
        at_old.sendto(b"from the dead", at_db.getsockname())
        assert received(at_db) is None
        assert third.counters()["drop_source_not_at_sender"] > refused

        source.start_agent()

        with table(source, LOCATION) as locations:
            elsewhere = locator_of(lab.hosts["host-b"])
            wait_until(
                "it learns where the machine is",
                lambda: (
                    (row := locations.get(id_of(web.address))) is not None
                    and row.locator == elsewhere
                ),
            )
        fenced = source.counters().get("drop_not_located_here", 0)
        at_old.sendto(b"from the dead", (near.address, 7302))
        wait_until(
            "it is fenced at home too",
            lambda: (
                source.counters().get("drop_not_located_here", 0) > fenced
                or _state_at(source, web) is None
            ),
        )
        assert pings(place_of(near), web.address)
        assert can_talk(place_of(near), reborn)
    assert _no_transition_is_left(lab)
