"""The three transactions of a move: begin, commit, settle. Planned on a view, without I/O."""

from __future__ import annotations

from dataclasses import replace

from netagent.control import keys
from netagent.control.paging import check_etag
from netagent.control.records import (
    MachineRecord,
    MoveRecord,
    encode_machine,
    encode_move,
    encode_number,
)
from netagent.control.validation import find_host, resolve_machine
from netagent.control.view import Stored, View
from netagent.control.writer import Plan
from netagent.model.addresses import network_of
from netagent.model.errors import InvalidError, StateError
from netagent.model.fleet import Move, MovePhase
from netagent.store.contract import Compare, Delete, Exists, Operation, Put, Unchanged

ENDED_MOVES_MAX = 1_024
"""How many ended moves are kept."""

_FORGET_AT_ONCE = 8
_ENDED = (MovePhase.SETTLED, MovePhase.ABORTED)


def plan_begin(view: View, move_id: str, machine: str, destination: str, etag: str) -> Plan:
    """Record a move in its first phase and tie the machine to its destination.

    Raises InvalidError, NotFoundError, ConflictError (etag) and StateError (moves already).
    """
    path = resolve_machine(view, machine)
    host = find_host(view, "destination", destination)
    old = view.machines[path]
    check_etag(etag, old.revision, f"machine {path}")
    record = old.value
    if record.move_id is not None:
        raise StateError(
            f"machine: {path} is on move {record.move_id} already; wait until that has settled"
        )
    if record.machine.host == destination:
        raise InvalidError("destination", f"{path} is on host {destination} already")
    move = Move(
        move_id=move_id,
        machine=path,
        stable_id=record.machine.stable_id,
        source=record.machine.host or "",
        destination=host.value.name,
        epoch=record.machine.epoch + 1,
        phase=MovePhase.PREPARING,
    )
    network = network_of(record.machine.stable_id)
    return Plan(
        (
            Unchanged(keys.machine_key(path), old.revision),
            Unchanged(keys.move_key(move_id), 0),
            Exists(keys.host_key(destination)),
        ),
        (
            Put(keys.machine_key(path), encode_machine(replace(record, move_id=move_id))),
            Put(keys.move_key(move_id), encode_move(MoveRecord(move))),
            Put(keys.at_key(destination, path), encode_number(network)),
        ),
    )


def plan_commit(view: View, move_id: str, lagging: tuple[str, ...]) -> Plan:
    """Flip the machine to its destination and the move to committed; nothing if it is past that."""
    stored, machine = _find(view, move_id, MovePhase.PREPARING)
    if stored is None or machine is None:
        return Plan((), ())
    move = stored.value.move
    moved = replace(machine.value.machine, host=move.destination, epoch=move.epoch)
    committed = replace(
        stored.value, move=replace(move, phase=MovePhase.COMMITTED), prepare_lagging=lagging
    )
    return Plan(
        _unchanged(move, stored, machine),
        (
            Put(keys.machine_key(move.machine), encode_machine(MachineRecord(moved, move_id))),
            Put(keys.move_key(move_id), encode_move(committed)),
        ),
    )


def plan_settle(view: View, move_id: str, lagging: tuple[str, ...]) -> Plan:
    """Let the source go and end the move; nothing if it has ended."""
    stored, machine = _find(view, move_id, MovePhase.COMMITTED)
    if stored is None or machine is None:
        return Plan((), ())
    move = stored.value.move
    settled = replace(
        stored.value, move=replace(move, phase=MovePhase.SETTLED), settle_lagging=lagging
    )
    operations: list[Operation] = [
        Put(keys.machine_key(move.machine), encode_machine(replace(machine.value, move_id=None))),
        Put(keys.move_key(move_id), encode_move(settled)),
        *(Delete(keys.move_key(old)) for old in _forgettable(view)),
    ]
    if move.source:
        operations.append(Delete(keys.at_key(move.source, move.machine)))
    return Plan(_unchanged(move, stored, machine), tuple(operations))


def _find(
    view: View, move_id: str, phase: MovePhase
) -> tuple[Stored[MoveRecord] | None, Stored[MachineRecord] | None]:
    stored = view.moves.get(move_id)
    if stored is None or stored.value.move.phase is not phase:
        return None, None
    return stored, view.machines[stored.value.move.machine]


def _unchanged(
    move: Move, stored: Stored[MoveRecord], machine: Stored[MachineRecord]
) -> tuple[Compare, ...]:
    return (
        Unchanged(keys.machine_key(move.machine), machine.revision),
        Unchanged(keys.move_key(move.move_id), stored.revision),
    )


def _forgettable(view: View) -> list[str]:
    """Return the oldest ended moves beyond those that are kept, a few at a time."""
    excess = min(len(view.moves) - ENDED_MOVES_MAX, _FORGET_AT_ONCE)
    if excess <= 0:
        return []
    oldest = []
    for move_id, stored in view.moves.items():
        if stored.value.move.phase in _ENDED:
            oldest.append(move_id)
            if len(oldest) == excess:
                break
    return oldest
