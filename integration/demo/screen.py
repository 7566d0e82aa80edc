"""What the demonstration prints: in colour on a terminal, plain text elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from integration.demo.fleet import MACHINES, network_of
from integration.demo.moves import MoveUnderTraffic, QuietTime
from integration.lab.host import Host
from integration.lab.lab import Lab
from integration.lab.process import NETAGENT

_ROW = "{:<4} {:<16} {:>10} {:>9} {:>9} {:>9} {:>10}  {:<5}"


class Screen:
    """A printer that numbers its chapters and knows how long it has been."""

    def __init__(self) -> None:
        is_terminal = sys.stdout.isatty()
        self._console = Console(
            highlight=False, soft_wrap=True, no_color=None if is_terminal else True
        )
        self._began = time.monotonic()
        self._chapter = 0

    def title(self, text: str) -> None:
        """Print the first line."""
        self._console.print(f"[bold]{text}[/]")

    def chapter(self, text: str) -> None:
        """Begin a chapter."""
        self._chapter += 1
        elapsed_s = time.monotonic() - self._began
        self._console.print(f"\n[bold cyan]{self._chapter}. {text}[/] [dim]({elapsed_s:.1f} s)[/]")

    def say(self, text: str) -> None:
        """Print a line of ours."""
        self._console.print(text)

    def file(self, text: str) -> None:
        """Print what is in a file."""
        self._console.print(f"[dim]{escape(text.rstrip())}[/]")

    def netagent(self, lab: Lab, *arguments: str) -> None:
        """Print a command of netagent's and what it answers."""
        self._command(" ".join(arguments))
        environment = {**os.environ, "NETAGENT_CONTROL": f"unix://{lab.control_socket}"}
        subprocess.run([NETAGENT, *arguments], check=True, env=environment)

    def last_line(self, host: Host, *arguments: str) -> str:
        """Print a command to a host's agent and the last line of its answer, and return that."""
        self._command(f"{' '.join(arguments)} | tail -n 1", f"(on {host.name})")
        environment = {**os.environ, "NETAGENT_AGENT_SOCKET": str(host.socket)}
        command = [NETAGENT, *arguments]
        done = subprocess.run(command, check=True, env=environment, capture_output=True, text=True)
        line = done.stdout.rstrip().rpartition("\n")[2]
        self._console.print(escape(line))
        return line

    def _command(self, text: str, note: str = "") -> None:
        self._console.print(f"[green]$ netagent {escape(text)}[/]{f' [dim]{note}[/]' * bool(note)}")
        sys.stdout.flush()

    def matrix(self, reachable: Mapping[str, bool]) -> None:
        """Print from whom (rows) to whom (columns)."""
        width = max(map(len, MACHINES)) + 1
        head = "".join(name.ljust(width) for name in MACHINES)
        self._console.print(f"[bold]{'from, to'.ljust(width)}{head}[/]")
        for source in MACHINES:
            cells = "".join(_cell(source, other, reachable, width) for other in MACHINES)
            self._console.print(f"{source.ljust(width)}{cells}".rstrip())

    def move_header(self, quiet: QuietTime) -> None:
        """Print the head of the table of moves, and the line of the time without one."""
        names = ("MOVE", "FROM, TO", "COMMITTED", "SETTLED", "LOST TO", "LOST BACK", "GAP", "TCP")
        self._console.print(f"[bold]{_ROW.format(*names)}[/]")
        gap = f"{quiet.gap_ms:.1f} ms"
        loss = quiet.loss
        self._console.print(
            f"[dim]{_ROW.format('none', 'stays', '', '', loss.lost_there, loss.lost_back, gap, '')}"
            f"[/] [dim]most: {quiet.gap_most_ms:.1f} ms[/]"
        )

    def move(self, number: int, move: MoveUnderTraffic) -> None:
        """Print the line of one move, and where its packets were lost."""
        row = _ROW.format(
            number,
            f"{move.source}, {move.destination}",
            _milliseconds(move.phases_ms.get("committed")),
            _milliseconds(move.phases_ms.get("settled")),
            move.loss.lost_there,
            move.loss.lost_back,
            _milliseconds(move.loss.gap_ms),
            "alive" if move.is_tcp_alive else "DEAD",
        )
        style = "red" if move.broken_promises else "yellow" if move.loss.lost else "green"
        self._console.print(f"[{style}]{row.rstrip()}[/]")
        if move.lost_at_ms is not None:
            first, last = move.lost_at_ms
            self.drops(f"     lost {first:.0f} to {last:.0f} ms after the call", move.drops)

    def drops(self, what: str, drops: Mapping[str, Mapping[str, int]]) -> None:
        """Print which host dropped how many packets for which reason."""
        counted = [
            f"{packets} {verdict} on {host}"
            for host, verdicts in drops.items()
            for verdict, packets in verdicts.items()
        ]
        self._console.print(f"[dim]{what}: {', '.join(counted) or 'no host counted a drop'}[/]")

    def end(self, broken: list[str], report: Path | None) -> None:
        """Print whether every promise was kept."""
        elapsed_s = time.monotonic() - self._began
        if report is not None:
            self._console.print(f"\nwritten: {escape(str(report))}")
        for promise in broken:
            self._console.print(f"[bold red]BROKEN[/] {escape(promise)}")
        if not broken:
            self._console.print(
                f"\n[bold green]Every promise was kept.[/] [dim]({elapsed_s:.1f} s)[/]"
            )


def _cell(source: str, other: str, reachable: Mapping[str, bool], width: int) -> str:
    if source == other:
        return "-".ljust(width)
    is_reachable = reachable[f"{source}>{other}"]
    is_promised = is_reachable is (network_of(source) == network_of(other))
    style = ("green" if is_reachable else "dim") if is_promised else "bold red"
    return f"[{style}]{('yes' if is_reachable else 'no').ljust(width)}[/]"


def _milliseconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} ms"
