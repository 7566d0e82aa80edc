"""Signs of life on a terminal, and the progress of a move: a line for each phase reached."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import click

from netagent.cli.failures import printable

if TYPE_CHECKING:
    from rich.status import Status

_NEXT = {
    "preparing": "every host learns both places",
    "ready": "the machine is at its destination",
    "committed": "every host follows",
}
"""What is waited for once a phase has been reached."""


class Spinner:
    """Turns on standard error, if that is a terminal, and is gone at the end of the block."""

    def __init__(self) -> None:
        self._status: Status | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def show(self, text: str) -> None:
        """Turn, beside a text, which may be another than before."""
        if not sys.stderr.isatty():
            return
        from rich.console import Console
        from rich.text import Text

        if self._status is None:
            self._status = Console(stderr=True).status(Text(printable(text)))
            self._status.start()
        else:
            self._status.update(Text(printable(text)))

    def stop(self) -> None:
        """Vanish."""
        if self._status is not None:
            self._status.stop()
            self._status = None


class PhaseProgress(Spinner):
    """Reports the phases of one move within a block."""

    def __init__(self) -> None:
        super().__init__()
        self._warned = 0

    def report(self, move: Mapping[str, Any], elapsed_s: float, lagging: Sequence[str]) -> None:
        """Print that a phase has been reached. elapsed_s: since the move was asked for."""
        self.stop()
        phase = move["phase"]
        click.echo(f"{elapsed_s:8.3f} s  {phase.ljust(9)}  {printable(_describe(move))}")
        if lagging:
            names = printable(", ".join(lagging))
            click.echo(f"{'':12}not yet applied by: {names} (they catch up when they can)")
        for warning in move["warnings"][self._warned :]:
            click.echo(f"{'':12}warning: {printable(warning)}")
        self._warned = len(move["warnings"])
        if phase in _NEXT:
            self.show(f"until {_NEXT[phase]}")


def _describe(move: Mapping[str, Any]) -> str:
    machine, source, destination = move["machine"], move["source"], move["destination"]
    begins = f"moves from {source} to" if source else "is placed on"
    carried = move["carried_connections"]
    with_it = f", with {carried} connections" if carried else ""
    waits = "a call" if move["trigger"] == "call" else "life, or a call,"
    stays = f"{machine} stays at {source}" if source else f"{machine} stays without a host"
    said: dict[str, str] = {
        "preparing": f"{machine} {begins} {destination} (move {move['move_id']})",
        "ready": f"all is prepared; waits for {waits} that {machine} is at {destination}",
        "committed": f"{machine} is at {destination}{with_it}; other hosts follow as they learn",
        "settled": f"{machine} has moved to {destination}" if source else f"{machine} is placed",
        "aborted": f"{stays}: {move['abort_reason']}",
    }
    return said.get(str(move["phase"]), str(machine))
