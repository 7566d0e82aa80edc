"""One pinned map as bytes: opened, checked against the layout that this release knows, closed."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from netagent.dataplane import bpf_map, libbpf
from netagent.model.errors import AbiMismatchError


class PinnedMap:
    """A descriptor of a pinned map. Keys and values are bytes, as in bpf_map.

    map_id, capacity: as the kernel says.
    """

    def __init__(self, path: Path, key_bytes: int, value_bytes: int) -> None:
        """Open the map pinned at `path`; AbiMismatchError when its layout is another."""
        self.name = path.name
        self.subject = f"map {path.name}"
        self.value_bytes = value_bytes
        self.fd = libbpf.open_pinned(path)
        info = bpf_map.map_info(self.fd)
        found = info.key_bytes, info.value_bytes
        if found != (key_bytes, value_bytes):
            self.close()
            wanted = f"{key_bytes} and {value_bytes}"
            problem = f"its keys and values have {found[0]} and {found[1]} bytes, not {wanted}"
            raise AbiMismatchError("adopt", f"map {path}", problem)
        self.map_id = info.map_id
        self.capacity = info.capacity

    def get(self, key: bytes) -> bytes | None:
        """Return one value, or None."""
        return bpf_map.map_lookup(self.fd, self.subject, key, self.value_bytes)

    def get_each(self, keys: Iterable[bytes]) -> Iterator[bytes | None]:
        """Yield the value of each key, or None."""
        return bpf_map.map_lookup_each(self.fd, self.subject, keys, self.value_bytes)

    def put(self, keys: bytes, values: bytes, rows: int) -> None:
        """Add or replace entries, given one behind the other; each is atomic, the batch is not."""
        if rows == 1:
            bpf_map.map_update(self.fd, self.subject, keys, values)
        elif rows:
            bpf_map.map_update_batch(self.fd, self.subject, keys, values, rows)

    def remove(self, keys: bytes, rows: int) -> None:
        """Delete entries, given one behind the other; one that is absent is deleted already."""
        if rows:
            bpf_map.map_delete_batch(self.fd, self.subject, keys, rows)

    def rows(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield all (key, value), in no order; what changes meanwhile may be missed."""
        return bpf_map.map_rows(self.fd, self.subject)

    def batches(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield keys and values of many entries at once, one behind the other."""
        return bpf_map.map_batches(self.fd, self.subject)

    def close(self) -> None:
        """Close the descriptor; the map stays pinned."""
        os.close(self.fd)


class PinnedArray(PinnedMap):
    """A pinned array with one value an entry."""

    def __init__(self, path: Path, value_bytes: int) -> None:
        """Open the array pinned at `path`; AbiMismatchError when its layout is another."""
        super().__init__(path, 4, value_bytes)

    def read(self, first: int, count: int) -> bytes:
        """Return entries side by side."""
        return bpf_map.array_read(self.fd, self.subject, first, count, self.value_bytes)

    def write(self, first: int, values: bytes) -> None:
        """Replace entries side by side; each is atomic, all together are not."""
        count = len(values) // self.value_bytes
        bpf_map.array_write(self.fd, self.subject, first, values, count)


class PinnedProcessorArray(PinnedMap):
    """A pinned array with one value an entry and processor, in which programs count."""

    def __init__(self, path: Path, value_bytes: int) -> None:
        """Open the array pinned at `path`; AbiMismatchError when its layout is another.

        value_bytes: of one processor's value, a multiple of 8.
        """
        super().__init__(path, 4, value_bytes)
        self.processors = _possible_processors()

    def sum(self, index: int) -> tuple[int, ...]:
        """Return an entry's words of 64 bits, summed over processors."""
        size = self.value_bytes * self.processors
        raw = bpf_map.map_lookup(self.fd, self.subject, _index(index), size) or bytes(size)
        words = memoryview(raw).cast("Q")
        width = self.value_bytes // 8
        return tuple(sum(words[at::width]) for at in range(width))

    def reset(self, index: int) -> None:
        """Set an entry to 0 on all processors."""
        zeros = bytes(self.value_bytes * self.processors)
        bpf_map.map_update(self.fd, self.subject, _index(index), zeros)


def _index(index: int) -> bytes:
    return index.to_bytes(4, sys.byteorder)


def _possible_processors() -> int:
    """Return how many values a per-CPU entry has: possible processors, not those online."""
    text = Path("/sys/devices/system/cpu/possible").read_text().strip()
    return int(text.rpartition(",")[2].rpartition("-")[2]) + 1
