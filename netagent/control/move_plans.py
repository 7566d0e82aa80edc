"""The transactions of a move once it has begun: ready, call, commit, settle, abort. Without I/O.

Each names the revisions of machine and move that it was planned on: of two that would leave the
same phase one fails, is planned anew and finds that there is nothing left to do.
"""

from __future__ import annotations

from dataclasses import replace

from netagent.control import keys
from netagent.control.records import (
    MachineRecord,
    MoveRecord,
    encode_machine,
    encode_move,
)
from netagent.control.view import Stored, View
from netagent.control.writer import Plan
from netagent.model.errors import NotFoundError, StateError
from netagent.model.fleet import ENDED_PHASES, MovePhase
from netagent.moves.actions import Abort, Action, Commit, MakeReady, Settle
from netagent.store.contract import Delete, Operation, Put, Unchanged

ENDED_MOVES_MAX = 1_024
"""How many ended moves are kept."""

_FORGET_AT_ONCE = 8
_BEFORE_COMMIT = frozenset({MovePhase.PREPARING, MovePhase.READY})
_NOTHING = Plan((), ())


def plan_action(view: View, action: Action) -> Plan:
    """Return the transaction that records what a state machine decided; nothing if it is late."""
    move_id = action.move.move_id
    match action:
        case MakeReady(_, lagging, carried, warning):
            return _plan_ready(view, move_id, lagging, carried, warning)
        case Commit(_, lagging, carried, warning):
            return plan_commit(view, move_id, lagging, carried, warning)
        case Settle(_, lagging, carried, warning):
            return _plan_settle(view, move_id, lagging, carried, warning)
        case Abort(_, reason):
            return _plan_undo(view, move_id, reason)


def plan_call(view: View, move_id: str, lagging: tuple[str, ...], carried: int | None) -> Plan:
    """Commit a move that is ready, and remember the call for one that is still being prepared.

    lagging, carried: as of now, should it commit. Raises NotFoundError, and StateError for a move
    that was undone. Nothing for one that has committed.
    """
    stored = _get(view, move_id)
    phase = stored.value.move.phase
    if phase is MovePhase.ABORTED:
        raise StateError(f"move_id: {move_id} was aborted: {stored.value.reason}")
    if phase is MovePhase.READY:
        return plan_commit(view, move_id, lagging, carried)
    if phase is not MovePhase.PREPARING or stored.value.is_called:
        return _NOTHING
    called = encode_move(replace(stored.value, is_called=True))
    return Plan(
        (Unchanged(keys.move_key(move_id), stored.revision),),
        (Put(keys.move_key(move_id), called),),
    )


def plan_abort(view: View, move_id: str, reason: str) -> Plan:
    """Undo a move that has not committed; nothing for one that was undone already.

    Raises NotFoundError, and StateError for one that has committed: it is finished forward.
    """
    move = _get(view, move_id).value.move
    if move.phase in (MovePhase.COMMITTED, MovePhase.SETTLED):
        raise StateError(
            f"move_id: {move_id} has committed: {move.machine} is at {move.destination}; move it"
            " back instead"
        )
    return _plan_undo(view, move_id, reason)


def plan_commit(
    view: View,
    move_id: str,
    lagging: tuple[str, ...],
    carried: int | None = None,
    warning: str = "",
) -> Plan:
    """Flip the machine to its destination and the move to committed; nothing if it is past that."""
    found = _find(view, move_id, _BEFORE_COMMIT)
    if found is None:
        return _NOTHING
    stored, machine = found
    move = stored.value.move
    moved = replace(machine.value.machine, host=move.destination, epoch=move.epoch)
    committed = _step(stored.value, MovePhase.COMMITTED, carried, warning)
    return _plan_step(
        stored,
        machine,
        replace(machine.value, machine=moved),
        replace(committed, prepare_lagging=lagging),
    )


def _plan_ready(
    view: View, move_id: str, lagging: tuple[str, ...], carried: int | None, warning: str
) -> Plan:
    found = _find(view, move_id, frozenset({MovePhase.PREPARING}))
    if found is None:
        return _NOTHING
    stored, machine = found
    if stored.value.is_called:
        # The call came while this was decided.
        return plan_commit(view, move_id, lagging, carried, warning)
    ready = replace(_step(stored.value, MovePhase.READY, carried, warning), prepare_lagging=lagging)
    return _plan_step(stored, machine, machine.value, ready)


def _plan_settle(
    view: View, move_id: str, lagging: tuple[str, ...], carried: int | None, warning: str
) -> Plan:
    """Let the source go and end the move; nothing if it has ended."""
    found = _find(view, move_id, frozenset({MovePhase.COMMITTED}))
    if found is None:
        return _NOTHING
    stored, machine = found
    move = stored.value.move
    settled = replace(
        _step(stored.value, MovePhase.SETTLED, carried, warning), settle_lagging=lagging
    )
    gone = (Delete(keys.at_key(move.source, move.machine)),) if move.source else ()
    return _plan_step(
        stored,
        machine,
        replace(machine.value, move_id=None),
        settled,
        (*gone, *(Delete(keys.move_key(old)) for old in _forgettable(view))),
    )


def _plan_undo(view: View, move_id: str, reason: str) -> Plan:
    """Let the destination go and end the move; nothing if it has committed or ended."""
    found = _find(view, move_id, _BEFORE_COMMIT)
    if found is None:
        return _NOTHING
    stored, machine = found
    move = stored.value.move
    aborted = replace(_step(stored.value, MovePhase.ABORTED, None, ""), reason=reason)
    return _plan_step(
        stored,
        machine,
        replace(machine.value, move_id=None),
        aborted,
        (
            Delete(keys.at_key(move.destination, move.machine)),
            *(Delete(keys.move_key(old)) for old in _forgettable(view)),
        ),
    )


def _step(record: MoveRecord, phase: MovePhase, carried: int | None, warning: str) -> MoveRecord:
    return replace(
        record,
        move=replace(record.move, phase=phase),
        carried=record.carried if carried is None else carried,
        warnings=(*record.warnings, warning) if warning else record.warnings,
    )


def _plan_step(
    stored: Stored[MoveRecord],
    machine: Stored[MachineRecord],
    machine_after: MachineRecord,
    move_after: MoveRecord,
    more: tuple[Operation, ...] = (),
) -> Plan:
    move = stored.value.move
    machine_key, move_key = keys.machine_key(move.machine), keys.move_key(move.move_id)
    puts = [Put(move_key, encode_move(move_after))]
    if machine_after != machine.value:
        puts.append(Put(machine_key, encode_machine(machine_after)))
    return Plan(
        (Unchanged(machine_key, machine.revision), Unchanged(move_key, stored.revision)),
        (*puts, *more),
    )


def _get(view: View, move_id: str) -> Stored[MoveRecord]:
    stored = view.moves.get(move_id)
    if stored is None:
        raise NotFoundError(f"move_id: there is no move {move_id!r}")
    return stored


def _find(
    view: View, move_id: str, phases: frozenset[MovePhase]
) -> tuple[Stored[MoveRecord], Stored[MachineRecord]] | None:
    """Return a move that is in one of some phases, and its machine."""
    stored = view.moves.get(move_id)
    if stored is None or stored.value.move.phase not in phases:
        return None
    return stored, view.machines[stored.value.move.machine]


def _forgettable(view: View) -> list[str]:
    """Return the oldest ended moves beyond those that are kept, a few at a time."""
    excess = min(len(view.moves) - ENDED_MOVES_MAX, _FORGET_AT_ONCE)
    if excess <= 0:
        return []
    oldest = []
    for move_id, stored in view.moves.items():
        if stored.value.move.phase in ENDED_PHASES:
            oldest.append(move_id)
            if len(oldest) == excess:
                break
    return oldest
