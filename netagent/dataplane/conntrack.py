"""The connection table by machine: what one machine's flows are, and those of another host.

Rows stay packed: a table holds a quarter of a million, a move takes those of one machine. Blocking;
any thread, the kernel's own updates go on meanwhile.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from netagent.dataplane.abi import pack_id
from netagent.dataplane.abi_flows import FlowFlag
from netagent.dataplane.pinned import PinnedMap
from netagent.model.addresses import StableId
from netagent.model.flows import FLOW_KEY_BYTES, CarriedFlow

STATE_BYTES = 32

_HEAD = struct.Struct("=qII")
"""Of `struct flow_state`: when seen, generation, flags."""

_NEVER_ASKED = struct.Struct("=qII16x")
"""`struct flow_state` without rules."""

_KEPT = ~int(FlowFlag.ASKED_EGRESS | FlowFlag.ASKED_INGRESS)
"""Whom the other host has asked means nothing here."""


class Connections:
    """The pinned map `conntrack` by machine. now_ns: reads CLOCK_MONOTONIC."""

    def __init__(self, path: Path, now_ns: Callable[[], int]) -> None:
        """Open the map pinned at `path`; AbiMismatchError when its layout is another."""
        self._map = PinnedMap(path, FLOW_KEY_BYTES, STATE_BYTES)
        self._now_ns = now_ns

    def flows_of(self, *ids: StableId) -> list[CarriedFlow]:
        """Return the flows that have one of the ids as an end, in no order; reads the table once.

        What begins or ends meanwhile may be missed. Raises DataplaneError.
        """
        now_ns = self._now_ns()
        return [
            CarriedFlow(key, max(now_ns - seen_ns, 0), flags & _KEPT)
            for key, (seen_ns, _, flags) in self._rows_of([pack_id(one) for one in ids])
        ]

    def take_over(self, flows: Iterable[CarriedFlow]) -> int:
        """Add the flows, save those that this host has seen later; return how many were added.

        They come with generation 0, which is never in force: on its first packet here each is asked
        about again, in the direction in which it began. Raises DataplaneError.
        """
        now_ns = self._now_ns()
        flows = tuple(flows)
        keys: list[bytes] = []
        states: list[bytes] = []
        for flow, held in zip(flows, self._map.get_each(flow.key for flow in flows), strict=True):
            seen_ns = now_ns - flow.age_ns
            if held is None or _HEAD.unpack_from(held)[0] < seen_ns:
                keys.append(flow.key)
                states.append(_NEVER_ASKED.pack(seen_ns, 0, flow.flags))
        self._map.put(b"".join(keys), b"".join(states), len(keys))
        return len(keys)

    def close(self) -> None:
        """Close the descriptor; the map stays pinned."""
        self._map.close()

    def _rows_of(self, ids_be: Sequence[bytes]) -> Iterator[tuple[bytes, tuple[int, int, int]]]:
        """Yield (key, head of the state)."""
        for keys, states in self._map.batches():
            for id_be in ids_be:
                yield from _find_rows(keys, states, id_be)


def _find_rows(
    keys: bytes, states: bytes, id_be: bytes
) -> Iterator[tuple[bytes, tuple[int, int, int]]]:
    """Yield (key, head of the state) within a batch; finds the id before it looks at rows."""
    at = keys.find(id_be)
    while at != -1:
        row, offset = divmod(at, FLOW_KEY_BYTES)
        # `low` and `high` are the first two words of a key.
        if offset in (0, 8):
            start = row * FLOW_KEY_BYTES
            end = start + FLOW_KEY_BYTES
            yield keys[start:end], _HEAD.unpack_from(states, row * STATE_BYTES)
            at = keys.find(id_be, end)
        else:
            at = keys.find(id_be, at + 1)
