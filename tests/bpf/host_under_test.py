"""One host's real maps and programs, filled from a World and run packet by packet."""

from __future__ import annotations

import struct
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from oracle.world import Action, Arrival, World

from netagent.dataplane import libbpf
from netagent.dataplane.abi import Constants, Counter, FlowRow, Verdict
from netagent.dataplane.datapath import Datapath

_SK_BUFF_BYTES = 192
_MARK, _IFINDEX, _GSO_SEGS, _GSO_SIZE = 8, 40, 164, 176


@dataclass(frozen=True, slots=True)
class Result:
    """What a program did. counted: verdicts that gained packets, and packets and bytes gained."""

    action: Action
    data: bytes
    mark: int
    counted: dict[Verdict, Counter]
    flows: dict[FlowRow, int]


class HostUnderTest:
    """Maps and programs of a host with given constants, pinned in a directory of their own."""

    def __init__(self, pin_dir: Path, constants: Constants) -> None:
        self.constants = constants
        self.datapath = Datapath.open(pin_dir)
        self.datapath.load(constants)

    def fill(self, world: World) -> None:
        """Make the maps hold exactly what the world says."""
        tables: list[tuple[Any, Any]] = [
            (self.datapath.location, world.locations),
            (self.datapath.transition, world.transitions),
            (self.datapath.endpoint, world.endpoints),
            (self.datapath.conntrack, world.flows),
        ]
        for table, wanted in tables:
            table.delete(table.items().keys() - wanted.keys())
            table.update(wanted)

    def run(self, program: str, arrival: Arrival, repeat: int = 1) -> Result:
        """Run a program on one packet."""
        before = self.datapath.counters()
        ran = libbpf.run_program(
            self.datapath.program(program), arrival.data, ctx=_sk_buff(arrival), repeat=repeat
        )
        after = self.datapath.counters()
        return Result(
            action=Action(ran.action),
            data=ran.data,
            mark=struct.unpack_from("=I", ran.ctx, _MARK)[0],
            counted={
                verdict: Counter(
                    count.packets - before[verdict].packets, count.bytes - before[verdict].bytes
                )
                for verdict, count in after.items()
                if count != before[verdict]
            },
            flows=self.datapath.conntrack.items(),
        )

    def close(self) -> None:
        self.datapath.close()


def boot_clock_ns() -> int:
    """Return the clock of the programs."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def _sk_buff(arrival: Arrival) -> bytes:
    ctx = bytearray(_SK_BUFF_BYTES)
    struct.pack_into("=I", ctx, _MARK, arrival.mark)
    struct.pack_into("=I", ctx, _IFINDEX, arrival.ifindex)
    if arrival.gso_size:
        struct.pack_into("=I", ctx, _GSO_SEGS, -(-len(arrival.data) // arrival.gso_size))
        struct.pack_into("=I", ctx, _GSO_SIZE, arrival.gso_size)
    return bytes(ctx)
