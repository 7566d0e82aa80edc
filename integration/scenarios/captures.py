"""What is on a wire of the fabric: tcpdump for a block, its packets read without any library."""

from __future__ import annotations

import contextlib
import os
import signal
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from integration.lab.namespace import Namespace, child_of
from integration.lab.wait import wait_until

_FILE_HEADER_BYTES = 24
_RECORD = struct.Struct("=IIII")


@dataclass
class Capture:
    """A capture under way, or done."""

    path: Path

    @property
    def frames(self) -> list[bytes]:
        """Whole Ethernet frames in order, as far as tcpdump has written them."""
        return list(_read_frames(self.path.read_bytes()))


@contextlib.contextmanager
def capturing(fabric: Namespace, port: str) -> Iterator[Capture]:
    """Capture everything on one port of the fabric, both ways, for the block."""
    capture = Capture(fabric.log_dir / f"{port}.pcap")
    log = fabric.log_dir / f"{port}-tcpdump.log"
    log.unlink(missing_ok=True)
    options = ("--immediate-mode", "-U", "-n", "-s", "0", "-B", "32768")
    process = fabric.start(
        "tcpdump", *options, "-Z", "root", "-i", port, "-w", str(capture.path), log=log.name
    )
    try:
        wait_until("tcpdump listens", lambda: log.exists() and "listening on" in log.read_text())
        yield capture
    finally:
        os.kill(child_of(process.pid), signal.SIGINT)
        process.wait(timeout=10)
    assert "0 packets dropped by kernel" in log.read_text(), log.read_text()


def _read_frames(raw: bytes) -> Iterator[bytes]:
    at = _FILE_HEADER_BYTES
    while at + _RECORD.size <= len(raw):
        _, _, captured_bytes, frame_bytes = _RECORD.unpack_from(raw, at)
        assert captured_bytes == frame_bytes, "a frame was cut"
        at += _RECORD.size
        if at + frame_bytes > len(raw):
            return
        yield raw[at : at + frame_bytes]
        at += frame_bytes
