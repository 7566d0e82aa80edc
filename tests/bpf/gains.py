"""What counters gained since they were last looked at: read at once, for many short runs."""

from __future__ import annotations

from netagent.dataplane import bpf_map
from netagent.dataplane.pinned import PinnedProcessorArray


class Gains:
    """The first entries of a per-CPU array, as words of 64 bits."""

    def __init__(self, array: PinnedProcessorArray, entries: int) -> None:
        self._array = array
        self._entries = entries
        self._before = self._read()

    def take(self) -> dict[int, tuple[int, ...]]:
        """Return by index what was gained since the last look, summed over processors."""
        before, after = self._before, self._read()
        if before == after:
            return {}
        self._before = after
        size, width = len(after) // self._entries, self._array.value_bytes // 8
        found = {}
        for index in range(self._entries):
            part = slice(index * size, (index + 1) * size)
            if before[part] != after[part]:
                old, new = (memoryview(raw[part]).cast("Q") for raw in (before, after))
                found[index] = tuple(
                    sum(new[at::width]) - sum(old[at::width]) for at in range(width)
                )
        return found

    def _read(self) -> bytes:
        array = self._array
        size = array.value_bytes * array.processors
        return bpf_map.array_read(array.fd, array.subject, 0, self._entries, size)
