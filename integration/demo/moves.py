"""Moves of a machine under a TCP stream and a probe, and what each of them cost."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from integration.demo.fleet import count_drops, drops_since
from integration.lab.lab import Lab
from integration.lab.machine import Machine
from integration.lab.probe import Loss, Probe, probing
from integration.lab.stream import Stream, streaming
from netagent.api.types.v1 import types_pb2

QUIET_S = 3.0
AFTERWARDS_S = 0.7
"""How long traffic goes on after each move, so that late damage is seen too."""

SPAN_S = 0.3
"""Length of the spans in which the quiet time's gaps are measured; a move takes about as long."""


@dataclass(frozen=True, slots=True)
class QuietTime:
    """What the probe sees when nothing happens: the noise of this machine.

    gap_ms, gap_most_ms: median and most of the longest gaps of spans as long as a move.
    """

    loss: Loss
    gap_ms: float
    gap_most_ms: float


@dataclass(frozen=True, slots=True)
class MoveUnderTraffic:
    """One move and what the traffic saw, from the call until AFTERWARDS_S after the move's end.

    phases_ms: since the call, by name. lost_at_ms: when the first and the last lost packet were
    sent, since the call; None when none was. drops: by host and verdict.
    """

    source: str
    destination: str
    phases_ms: dict[str, float]
    loss: Loss
    lost_at_ms: tuple[float, float] | None
    drops: dict[str, dict[str, int]]
    is_tcp_alive: bool

    @property
    def broken_promises(self) -> list[str]:
        """Sentences about what did not hold."""
        broken = []
        way = f"the move from {self.source} to {self.destination}"
        if "settled" not in self.phases_ms:
            broken.append(f"{way} did not settle")
        if not self.is_tcp_alive:
            broken.append(f"{way}: the TCP connection died")
        return broken


class Traffic:
    """A stream from a machine to its peer, and a probe from the peer to the machine."""

    def __init__(self, lab: Lab, machine: Machine, stream: Stream, probe: Probe) -> None:
        self._lab = lab
        self._machine = machine
        self._stream = stream
        self._probe = probe

    def stay(self) -> QuietTime:
        """Measure for QUIET_S what happens when nothing does."""
        begin_ns = time.monotonic_ns()
        end_ns = begin_ns + int(QUIET_S * 1e9)
        loss = self._probe.during(begin_ns, end_ns)
        gaps = self._probe.read().gaps(begin_ns, end_ns, int(SPAN_S * 1e9))
        return QuietTime(loss, statistics.median(gaps), gaps[-1])

    def move(self, destination: str) -> MoveUnderTraffic:
        """Move the machine, and measure."""
        source = self._lab.locate(self._machine)
        before = count_drops(self._lab)
        connection = self._stream.connection()
        begin_ns = time.monotonic_ns()
        steps = self._lab.move(self._machine, destination)
        is_tcp_alive = self._is_same_connection(connection.local_port)
        end_ns = time.monotonic_ns() + int(AFTERWARDS_S * 1e9)
        loss = self._probe.during(begin_ns, end_ns)
        return MoveUnderTraffic(
            source=source,
            destination=destination,
            phases_ms={
                _phase_name(step.move.phase): step.elapsed.ToMicroseconds() / 1e3 for step in steps
            },
            loss=loss,
            lost_at_ms=self._probe.read().lost_between_ms(begin_ns, end_ns),
            drops=drops_since(before, count_drops(self._lab)),
            is_tcp_alive=is_tcp_alive,
        )

    def _is_same_connection(self, local_port: int) -> bool:
        """Whether the connection of before the move carries data that is sent now."""
        try:
            now = self._stream.connection()
        except AssertionError:
            return False
        return now.local_port == local_port and self._stream.is_alive_after(now)


@contextmanager
def traffic(lab: Lab, machine: Machine, peer: Machine) -> Iterator[Traffic]:
    """Have traffic between two machines, for the block."""
    with (
        streaming(machine.namespace, peer.namespace, peer.address) as stream,
        probing(peer, machine, lab.directory) as probe,
    ):
        yield Traffic(lab, machine, stream, probe)


def as_json(
    quiet: QuietTime, moves: Sequence[MoveUnderTraffic], reachable: dict[str, bool]
) -> dict[str, object]:
    """Return the document that --json writes; all times in ms."""
    return {
        "moves": [
            {
                "lost": move.loss.lost,
                "gap_ms": move.loss.gap_ms,
                "tcp_alive": move.is_tcp_alive,
                "source": move.source,
                "destination": move.destination,
                "sent": move.loss.sent,
                "lost_there": move.loss.lost_there,
                "lost_back": move.loss.lost_back,
                "pause_ms": move.loss.pause_ms,
                "phases_ms": move.phases_ms,
                "drops": move.drops,
            }
            for move in moves
        ],
        "quiet": {
            "sent": quiet.loss.sent,
            "lost": quiet.loss.lost,
            "gap_ms": quiet.gap_ms,
            "gap_most_ms": quiet.gap_most_ms,
        },
        "reachable": reachable,
    }


def _phase_name(phase: int) -> str:
    return str(types_pb2.MovePhase.Name(phase)).removeprefix("MOVE_PHASE_").lower()
