"""Moves of a machine under a TCP stream and a probe, and what each of them cost."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from integration.lab.lab import Lab
from integration.lab.machine import Machine
from integration.lab.probe import Loss, probing
from integration.lab.stream import Connection, Stream, streaming
from netagent.api.types.v1 import types_pb2

AFTERWARDS_S = 1.0
"""How long traffic goes on after each move, so that late damage is seen too."""


@dataclass(frozen=True, slots=True)
class MoveUnderTraffic:
    """One move and what the traffic saw, from its start to the start of the next.

    phases_ms: since the call, by name. lost_at_ms: when the first and the last lost packet were
    sent, since the call; None when none was.
    """

    source: str
    destination: str
    phases_ms: dict[str, int]
    loss: Loss
    lost_at_ms: tuple[float, float] | None
    is_tcp_alive: bool

    @property
    def is_settled(self) -> bool:
        """Whether the move came to its end."""
        return "settled" in self.phases_ms


@dataclass(frozen=True, slots=True)
class _Call:
    source: str
    destination: str
    began_ns: int
    phases_ms: dict[str, int]
    is_tcp_alive: bool


def move_under_traffic(
    lab: Lab,
    machine: Machine,
    peer: Machine,
    destinations: Sequence[str],
    tell: Callable[[str], None],
) -> Iterator[MoveUnderTraffic]:
    """Move a machine from host to host while it streams to its peer and the peer probes it.

    tell: is called with the destination before each move.
    """
    calls = []
    with (
        streaming(machine.namespace, peer.namespace, peer.address) as stream,
        probing(peer, machine, lab.directory) as probe,
    ):
        time.sleep(AFTERWARDS_S)
        for destination in destinations:
            tell(destination)
            calls.append(_move(lab, machine, destination, stream))
            time.sleep(AFTERWARDS_S)
        end_ns = time.monotonic_ns()
        record = probe.stop()
    ends_ns = [call.began_ns for call in calls[1:]] + [end_ns]
    for call, until_ns in zip(calls, ends_ns, strict=True):
        lost = [
            sent
            for sent, _, back in record.packets
            if call.began_ns <= sent < until_ns and not back
        ]
        yield MoveUnderTraffic(
            source=call.source,
            destination=call.destination,
            phases_ms=call.phases_ms,
            loss=record.during(call.began_ns, until_ns),
            lost_at_ms=(
                ((lost[0] - call.began_ns) / 1e6, (lost[-1] - call.began_ns) / 1e6)
                if lost
                else None
            ),
            is_tcp_alive=call.is_tcp_alive,
        )


def _move(lab: Lab, machine: Machine, destination: str, stream: Stream) -> _Call:
    source = lab.locate(machine)
    machine.attach(lab.hosts[destination])
    before: Connection = stream.connection()
    began_ns = time.monotonic_ns()
    phases = {
        types_pb2.MovePhase.Name(each.move.phase).removeprefix("MOVE_PHASE_").lower(): int(
            each.elapsed.ToMilliseconds()
        )
        for each in lab.move(machine, destination, attach=False)
    }
    return _Call(source, destination, began_ns, phases, stream.is_alive_after(before))
