"""Every fault at every phase of a move: it completes or is undone by itself, at one host.

Who: source, destination, a third host, control. What: kill -9 of the process, or its cable pulled.
When: while the move is being prepared, when it is ready, and when it has committed. A fourth host
that does not answer holds the move in its phase meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import grpc
import pytest

from integration.lab.lab import Lab
from integration.lab.machine import Machine
from integration.lab.wait import wait_until
from integration.scenarios.kernel import LOCATION, TRANSITION, id_of, locator_of, table
from integration.scenarios.traffic import can_talk, place_of
from netagent.api.agent.v1 import agent_service_pb2 as agent_pb
from netagent.api.control.v1 import move_service_pb2 as pb
from netagent.api.control.v1.move_service_pb2_grpc import MoveServiceStub
from netagent.api.types.v1 import types_pb2

SOURCE, DESTINATION, THIRD, HOLDER = "host-a", "host-b", "host-c", "host-d"
PREPARING = types_pb2.MOVE_PHASE_PREPARING
READY = types_pb2.MOVE_PHASE_READY
COMMITTED = types_pb2.MOVE_PHASE_COMMITTED
SETTLED = types_pb2.MOVE_PHASE_SETTLED
ABORTED = types_pb2.MOVE_PHASE_ABORTED

LIMIT_S = 60
LASTS_S = {"kill": 1, "cut": 7}
"""Long enough for what is killed to be missed; for a cut, past the bound of preparing."""

pytestmark = [pytest.mark.long, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def fleet() -> Iterator[Lab]:
    """Return four hosts, with a machine of the network on the two that a move does not touch."""
    with Lab(hosts=4) as made:
        made.network("shop")
        made.machine("shop/db", THIRD)
        made.machine("shop/far", HOLDER)
        yield made


@pytest.fixture(scope="module")
def locators(fleet: Lab) -> dict[str, int]:
    """Return the locator of each host, which a host without an agent could not tell."""
    return {name: int(locator_of(host)) for name, host in fleet.hosts.items()}


@pytest.fixture(scope="module")
def outcomes() -> Iterator[dict[tuple[str, str, str], str]]:
    """Return a table to fill; it is printed in the end."""
    rows: dict[tuple[str, str, str], str] = {}
    yield rows
    print("\n| fault | victim | phase | outcome |\n|---|---|---|---|")
    for (fault, victim, phase), outcome in sorted(rows.items()):
        print(f"| {fault} | {victim} | {phase} | {outcome} |")


class Faults:
    """What can befall a fleet, and its end."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab

    @contextmanager
    def befall(self, fault: str, victim: str) -> Iterator[None]:
        """Let a fault happen; what it took away comes back at the end of the block."""
        begin, end = self._pair(fault, victim)
        begin()
        try:
            yield
        finally:
            end()

    def _pair(self, fault: str, victim: str) -> tuple[Callable[[], None], Callable[[], None]]:
        lab = self._lab
        if victim == "control":
            if fault == "kill":
                return lab.kill_control, lab.start_control
            return lambda: self._cable("down"), lambda: self._cable("up")
        names = {"source": SOURCE, "destination": DESTINATION, "third": THIRD}
        host = lab.hosts[names[victim]]
        if fault == "kill":
            return host.kill_agent, host.start_agent
        return host.partition, host.heal

    def _cable(self, state: str) -> None:
        self._lab.fabric.run("ip", "link", "set", "control", state)


def _stub(lab: Lab) -> MoveServiceStub:
    return MoveServiceStub(lab.channel)


def _phase(lab: Lab, move_id: str) -> int:
    try:
        request = pb.GetMoveRequest(move_id=move_id)
        return int(_stub(lab).GetMove(request, timeout=10).move.phase)
    except grpc.RpcError as error:
        raise AssertionError(str(error)) from error


def _begin(lab: Lab, machine: Machine, phase: str) -> str:
    """Bring a move into a phase in which the fourth host, paused, holds it; return its id."""
    holder = lab.hosts[HOLDER].agent
    request = pb.MoveAddressRequest(
        machine=machine.path, destination=DESTINATION, trigger=types_pb2.MOVE_TRIGGER_CALL
    )
    if phase == "preparing":
        holder.pause()
    steps = _stub(lab).MoveAddress(request, timeout=LIMIT_S)
    move_id = next(steps).move.move_id
    if phase != "preparing":
        assert next(steps).move.phase == READY
    if phase == "committed":
        holder.pause()
        _stub(lab).CommitMove(pb.CommitMoveRequest(move_id=move_id), timeout=LIMIT_S)
    return move_id


def _call(lab: Lab, move_id: str) -> None:
    """Say that the machine is there, as its orchestrator would, again until it is heard."""

    def is_heard() -> bool:
        try:
            _stub(lab).CommitMove(pb.CommitMoveRequest(move_id=move_id), timeout=10)
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.FAILED_PRECONDITION:
                raise AssertionError(str(error)) from error
        return True

    wait_until("control hears the call", is_heard, timeout_s=LIMIT_S)


def _live_at(lab: Lab, machine: Machine) -> list[str]:
    return [
        name
        for name, host in lab.hosts.items()
        for endpoint in host.status().endpoints
        if endpoint.machine == machine.path and endpoint.state == agent_pb.ENDPOINT_STATE_LIVE
    ]


def _all_agree(lab: Lab, machine: Machine, place: str, wanted: int) -> bool:
    """Whether all hosts that need the machine's network have it at one place, and no transition."""
    for host in lab.hosts.values():
        with table(host, LOCATION) as locations, table(host, TRANSITION) as transitions:
            row = locations.get(id_of(machine.address))
            needs = host.name in (place, THIRD, HOLDER)
            if transitions.items() or (needs and (row is None or row.locator != wanted)):
                return False
            if row is not None and row.locator != wanted:
                return False
    return True


@pytest.mark.parametrize("phase", ["preparing", "ready", "committed"])
@pytest.mark.parametrize("victim", ["source", "destination", "third", "control"])
@pytest.mark.parametrize("fault", ["kill", "cut"])
def test_a_move_ends_by_itself_at_one_host(
    fleet: Lab,
    locators: dict[str, int],
    outcomes: dict[tuple[str, str, str], str],
    fault: str,
    victim: str,
    phase: str,
) -> None:
    machine = fleet.machine(f"shop/{fault}-{victim}-{phase}", SOURCE)
    machine.attach(fleet.hosts[DESTINATION])
    db, far = fleet.machines["shop/db"], fleet.machines["shop/far"]
    db.wait_reaches(machine)
    began_s = time.monotonic()
    try:
        move_id = _begin(fleet, machine, phase)
        with Faults(fleet).befall(fault, victim):
            until = time.monotonic() + LASTS_S[fault]
            wait_until("it lasts a while", lambda: time.monotonic() > until)
            speaking = _speaking(fleet, machine, locators)
            if phase == "committed":
                # A source that is cut off speaks on where nobody can hear it; a destination that
                # was killed before it heard of the commit speaks when its agent is back.
                assert set(speaking) <= {SOURCE, DESTINATION}
            else:
                assert speaking == [SOURCE]
    finally:
        fleet.hosts[HOLDER].agent.resume()
    _call(fleet, move_id)

    wait_until(
        "the move has ended",
        lambda: _phase(fleet, move_id) in (SETTLED, ABORTED),
        timeout_s=LIMIT_S,
    )
    for host in fleet.hosts.values():
        host.wait_in_step()
    has_moved = _phase(fleet, move_id) == SETTLED
    place = DESTINATION if has_moved else SOURCE
    assert fleet.locate(machine) == place
    wait_until("all agree", lambda: _all_agree(fleet, machine, place, locators[place]), LIMIT_S)
    wait_until("one host has it", lambda: _live_at(fleet, machine) == [place], LIMIT_S)
    for peer in (db, far):
        peer.wait_reaches(machine, timeout_s=LIMIT_S)
        assert can_talk(place_of(machine), place_of(peer))
    ended = "moved" if has_moved else "undone"
    outcomes[fault, victim, phase] = f"{ended} in {time.monotonic() - began_s:.1f} s"
    machine.namespace.kill()


def _speaking(lab: Lab, machine: Machine, locators: dict[str, int]) -> list[str]:
    """Return the hosts whose kernels let the machine speak."""
    speaking = []
    for name, host in lab.hosts.items():
        with table(host, LOCATION) as locations:
            row = locations.get(id_of(machine.address))
            if row is not None and row.locator == locators[name]:
                speaking.append(name)
    return speaking
