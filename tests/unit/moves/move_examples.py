"""A move from a to b, in each of its phases, and its state machine."""

from __future__ import annotations

from dataclasses import replace

from netagent.model.addresses import make_id
from netagent.model.fleet import Move, MovePhase, MoveTrigger
from netagent.moves.events import PhaseRecorded
from netagent.moves.machine import MoveMachine

MOVE = Move("m1", "blue/web", make_id(1, 1, 1), "a", "b", 2, MovePhase.PREPARING)
COMMITTED = replace(MOVE, phase=MovePhase.COMMITTED)
SETTLED = replace(MOVE, phase=MovePhase.SETTLED)
CALLED = replace(MOVE, trigger=MoveTrigger.CALL)
LIVELY = replace(MOVE, trigger=MoveTrigger.LIFE)
BY_CALL = replace(CALLED, phase=MovePhase.READY)
BY_LIFE = replace(LIVELY, phase=MovePhase.READY)


def make_machine() -> MoveMachine:
    """Return one with bounds of 5 s to prepare and 10 s to settle, and a drain of 1 s."""
    return MoveMachine(prepare_bound_s=5, settle_bound_s=10, drain_s=1)


def prepared(**hosts: int) -> MoveMachine:
    """Return one whose move was recorded at revision 7, at time 100, with these hosts."""
    machine = make_machine()
    machine.handle(PhaseRecorded(MOVE, 7, hosts), 100)
    return machine
