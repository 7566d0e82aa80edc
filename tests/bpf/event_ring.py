"""The ring buffer of events, read through libbpf."""

from __future__ import annotations

import ctypes as c
import os
from pathlib import Path

from netagent.dataplane import libbpf
from netagent.dataplane.abi_flows import EventRow, unpack_event

_SAMPLE = c.CFUNCTYPE(c.c_int, c.c_void_p, c.c_void_p, c.c_size_t)


class EventRing:
    """Takes what programs have put into the ring."""

    def __init__(self, path: Path) -> None:
        """Open the ring pinned at `path`."""
        self._lib = libbpf.library()
        self._lib.ring_buffer__new.restype = c.c_void_p
        self._taken: list[bytes] = []
        self._sample = _SAMPLE(self._take)  # Kept: libbpf holds no reference.
        self._fd = libbpf.open_pinned(path)
        self._ring = c.c_void_p(self._lib.ring_buffer__new(self._fd, self._sample, None, None))
        assert self._ring, "libbpf refuses the ring buffer"

    def take(self) -> list[EventRow]:
        """Return and remove what is there, oldest first."""
        taken = self._lib.ring_buffer__consume(self._ring)
        assert taken >= 0, f"libbpf cannot read the ring buffer: {taken}"
        rows = [unpack_event(raw) for raw in self._taken]
        self._taken.clear()
        return rows

    def close(self) -> None:
        self._lib.ring_buffer__free(self._ring)
        os.close(self._fd)

    def _take(self, _context: int, data: int, size: int) -> int:
        self._taken.append(c.string_at(data, size))
        return 0
