"""The hook that moves a machine itself: an executable, its environment, and its exit codes.

What it is told and what it answers is documented in docs/moves.md, "Hooks".
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping
from enum import Enum
from pathlib import Path

from netagent.api.types.v1 import types_pb2
from netagent.cli.views import trigger_word

EXIT_MOVED = 0
EXIT_STAYED = 10

_STANDARD_ERROR = 2


class Outcome(Enum):
    """Where the machine is, as far as its hook knows."""

    MOVED = "moved"
    STAYED = "stayed"
    UNKNOWN = "unknown"


def hook_environment(move: types_pb2.Move) -> Mapping[str, str]:
    """Return what a hook is told beyond the environment of the command."""
    return {
        "NETAGENT_HOOK": "move",
        "NETAGENT_MOVE_ID": move.move_id,
        "NETAGENT_MACHINE": move.machine,
        "NETAGENT_SOURCE": move.source,
        "NETAGENT_DESTINATION": move.destination,
        "NETAGENT_EPOCH": str(move.epoch),
        "NETAGENT_TRIGGER": trigger_word(move.trigger),
        "NETAGENT_FORCED": "1" if move.forced else "0",
    }


def run_hook(hook: Path, move: types_pb2.Move) -> tuple[Outcome, str]:
    """Run a hook for a move that is ready; return where the machine is, and why that is thought.

    Its standard output goes to standard error, for standard output is the command's. A hook that
    cannot be started has moved nothing.
    """
    try:
        code = subprocess.run(
            [hook.absolute()],
            env={**os.environ, **hook_environment(move)},
            stdin=subprocess.DEVNULL,
            stdout=_STANDARD_ERROR,
            check=False,
        ).returncode
    except OSError as error:
        return Outcome.STAYED, f"hook {hook} cannot be started: {error.strerror or error}"
    if code == EXIT_MOVED:
        return Outcome.MOVED, ""
    if code == EXIT_STAYED:
        return Outcome.STAYED, f"hook {hook} has not moved it"
    how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
    return Outcome.UNKNOWN, f"hook {hook} {how}"
