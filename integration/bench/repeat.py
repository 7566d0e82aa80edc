"""A program run again and again by the kernel itself, on packets of many flows in turn."""

from __future__ import annotations

import os
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from integration.bench.compile import AGAIN, compile_program
from netagent.dataplane import libbpf

_HEAD_BYTES = 54


class Repeater:
    """Runs whichever program was put in place."""

    def __init__(self, program: int, pins: Path) -> None:
        self._program = program
        self._pins = pins

    def put(self, pinned: Path | None) -> None:
        """Put a pinned program in place; None: none, so that the cost of repeating is left."""
        place = ["pinned", str(self._pins / "again_program"), "key", "0", "0", "0", "0"]
        if pinned is None:
            command = ["bpftool", "map", "delete", *place]
            subprocess.run(command, check=False, capture_output=True)
        else:
            command = ["bpftool", "map", "update", *place, "value", "pinned", str(pinned)]
            subprocess.run(command, check=True)

    def time(self, packet: bytes, context: bytes, first: int, flows: int, runs: int) -> float:
        """Return ns a run on the packet with the ports of flows first, first + 1, … in turn."""
        value = packet[:_HEAD_BYTES] + bytes(2) + struct.pack("=3I", first, flows, 0)
        place = ["pinned", str(self._pins / "again_packet"), "key", "0", "0", "0", "0"]
        words = [str(byte) for byte in value]
        subprocess.run(["bpftool", "map", "update", *place, "value", *words], check=True)
        return libbpf.run_program(self._program, packet, ctx=context, repeat=runs).duration_ns


@contextmanager
def repeater(bpf_file_system: Path, scratch: Path) -> Iterator[Repeater]:
    """Load what repeats, for the block. scratch: a directory for the object."""
    pins = bpf_file_system / AGAIN
    pins.mkdir()
    with libbpf.BpfObject(compile_program(AGAIN, scratch), pins) as loaded:
        loaded.load()
        program = loaded.program(AGAIN)
        try:
            yield Repeater(program, pins)
        finally:
            os.close(program)
