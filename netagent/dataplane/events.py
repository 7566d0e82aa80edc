"""What the programs report: drops, audited answers and new flows, from the ring buffer.

There is one ring and it hands each event to one reader; an agent that reads it shares it out. What
programs could not report is counted by them, not here.
"""

from __future__ import annotations

import ctypes as c
import errno
import os
from pathlib import Path

from netagent.dataplane import bpf_map, libbpf
from netagent.dataplane.abi_flows import EventLosses, EventRow, unpack_event
from netagent.dataplane.pinned import PinnedProcessorArray

_SAMPLE = c.CFUNCTYPE(c.c_int, c.c_void_p, c.c_void_p, c.c_size_t)

_BUCKET_BYTES = 40


class Events:
    """The reader of one host's ring buffer. One thread at a time.

    unreadable: events that another release's program has sent and this one does not know.
    """

    def __init__(self, pin_dir: Path) -> None:
        """Open what is pinned at `pin_dir`. Events that nobody has read yet are still there."""
        self._bucket = PinnedProcessorArray(pin_dir / "event_bucket", _BUCKET_BYTES)
        self._fd = libbpf.open_pinned(pin_dir / "events")
        self.map_ids = [self._bucket.map_id, bpf_map.map_info(self._fd).map_id]
        self.unreadable = 0
        self._raw: list[bytes] = []
        self._limit = 0
        self._callback = _SAMPLE(self._receive)
        self._lib = libbpf.library()
        self._ring = self._lib.ring_buffer__new(self._fd, self._callback, None, None)
        if not self._ring:
            code = c.get_errno()
            self._bucket.close()
            os.close(self._fd)
            raise libbpf.fail("open", "ring buffer events", code)

    def fileno(self) -> int:
        """Return a descriptor that is readable while events wait; it stays ours."""
        return int(self._lib.ring_buffer__epoll_fd(c.c_void_p(self._ring)))

    def take(self, most: int = 1024) -> list[EventRow]:
        """Return events that wait, oldest first, and take them out; never blocks.

        most: how many at most, from 1; the descriptor stays readable while more wait.
        """
        self._limit = most
        result = self._lib.ring_buffer__consume(c.c_void_p(self._ring))
        raw, self._raw = self._raw, []
        if result < 0 and result != -errno.ECANCELED:
            raise libbpf.fail("read", "ring buffer events", -result)
        rows = []
        for one in raw:
            try:
                rows.append(unpack_event(one))
            except ValueError:
                self.unreadable += 1
        return rows

    def losses(self) -> EventLosses:
        """Return what became of events since the maps were made, over all processors."""
        _, _, sent, suppressed, lost = self._bucket.sum(0)
        return EventLosses(sent, suppressed, lost)

    def close(self) -> None:
        """Let go of the buffer; the map stays pinned, and programs go on."""
        self._lib.ring_buffer__free(c.c_void_p(self._ring))
        self._bucket.close()
        os.close(self._fd)

    def _receive(self, context: int | None, data: int, size: int) -> int:
        """Keep one event; a negative answer stops libbpf behind it."""
        self._raw.append(c.string_at(data, size))
        return -errno.ECANCELED if len(self._raw) >= self._limit else 0
