"""One move from its first phase to the one that is waited for, with the hook in between."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc

from netagent.api.control.v1 import move_service_pb2 as pb
from netagent.api.types.v1 import types_pb2
from netagent.cli.channel import is_of_deadline
from netagent.cli.failures import ExitCode, Failure
from netagent.cli.hooks import Outcome, run_hook

READY = types_pb2.MOVE_PHASE_READY
COMMITTED = types_pb2.MOVE_PHASE_COMMITTED
SETTLED = types_pb2.MOVE_PHASE_SETTLED
ABORTED = types_pb2.MOVE_PHASE_ABORTED

_ORDER = (types_pb2.MOVE_PHASE_PREPARING, READY, COMMITTED, SETTLED)


def follow_move(
    stub: Any,
    responses: Any,
    *,
    until: types_pb2.MovePhase,
    hook: Path | None,
    limit_s: float,
    call_timeout_s: float,
    on_phase: Callable[[Any], None],
) -> types_pb2.Move:
    """Follow the phases of a move; return it once it has reached the phase `until`.

    stub: of MoveService. responses: a stream of its MoveAddress or WatchMove; cancelled in the end.
    hook: run when the move is ready. limit_s: the time that the stream was given, for the message
    when it has passed. call_timeout_s: of a call that commits or aborts.
    on_phase: told each response.
    Raises Failure with what became of the move, and RpcError when none was begun.
    """
    latest: types_pb2.Move | None = None
    try:
        for response in responses:
            latest = response.move
            on_phase(response)
            if latest.phase == READY and hook is not None and until != READY:
                _move_machine(stub, latest, hook, call_timeout_s)
            if latest.phase == ABORTED:
                raise Failure(_describe_abort(latest))
            if _ORDER.index(latest.phase) >= _ORDER.index(until):
                return latest
    except KeyboardInterrupt:
        message = f"interrupted; {how_to_follow(latest)}"
        raise Failure(message, ExitCode.INTERRUPTED) from None
    except grpc.RpcError as error:
        is_late = is_of_deadline(error)
        if latest is None and not is_late:
            raise
        problem = f"not done within {limit_s:g} s" if is_late else "lost sight of the move"
        raise Failure(f"{problem}; {how_to_follow(latest)}", ExitCode.UNREACHABLE) from error
    finally:
        responses.cancel()
    if latest is None:
        raise Failure("control ended the stream before the first phase; look at its log")
    raise Failure(f"control ended the stream early; {how_to_follow(latest)}")


def how_to_follow(latest: types_pb2.Move | None) -> str:
    """Return what a person can do about a move that is out of sight."""
    if latest is None:
        return "if the move was recorded it goes on; see `netagent moves list --active`"
    if latest.phase == READY:
        return (
            f"the move is ready; end it with `netagent moves commit {latest.move_id}` or"
            f" `netagent moves abort {latest.move_id}`"
        )
    return f"the move goes on; see `netagent moves get {latest.move_id}`"


def _move_machine(stub: Any, move: types_pb2.Move, hook: Path, timeout_s: float) -> None:
    """Run the hook and tell control what it says; Failure when it does not know."""
    outcome, reason = run_hook(hook, move)
    match outcome:
        case Outcome.MOVED:
            stub.CommitMove(pb.CommitMoveRequest(move_id=move.move_id), timeout=timeout_s)
        case Outcome.STAYED:
            request = pb.AbortMoveRequest(move_id=move.move_id, reason=reason[:200])
            stub.AbortMove(request, timeout=timeout_s)
        case _:
            raise Failure(
                f"{reason}, so it is not known where {move.machine} is; {how_to_follow(move)}"
            )


def _describe_abort(move: types_pb2.Move) -> str:
    where = f"at {move.source}" if move.source else "without a host"
    return (
        f"move {move.move_id} was aborted: {move.abort_reason or 'control does not say why'};"
        f" {move.machine} is {where}"
    )
