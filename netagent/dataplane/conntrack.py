"""The connection table as a whole: what one machine's flows are, and taking over those of another
host.

Rows stay packed: a table holds a quarter of a million, a move takes those of one machine. Blocking;
any thread, the kernel's own updates go on meanwhile.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator

from netagent.dataplane import bpf_map
from netagent.dataplane.abi import pack_id
from netagent.dataplane.abi_flows import FlowFlag, FlowStateRow, pack_flow_state
from netagent.model.addresses import StableId
from netagent.model.flows import FLOW_KEY_BYTES, CarriedFlow

STATE_BYTES = 32

_HEAD = struct.Struct("=qII")
"""Of `struct flow_state`: when seen, generation, flags."""

_KEPT = ~(FlowFlag.ASKED_EGRESS | FlowFlag.ASKED_INGRESS)
"""Whom the other host has asked means nothing here."""


class ConnectionTable:
    """The pinned map `conntrack` by machine. now_ns: reads CLOCK_MONOTONIC."""

    def __init__(self, fd: int, now_ns: Callable[[], int]) -> None:
        self._fd = fd
        self._now_ns = now_ns

    def flows_of(self, stable_id: StableId) -> list[CarriedFlow]:
        """Return the flows that have the machine as an end, in no order."""
        now_ns = self._now_ns()
        return [
            CarriedFlow(key, max(now_ns - seen_ns, 0), flags & _KEPT)
            for key, state in self._rows_of(pack_id(stable_id))
            for seen_ns, _, flags in (_HEAD.unpack_from(state),)
        ]

    def take_over(self, flows: Iterable[CarriedFlow]) -> int:
        """Add the flows, save those that this host has seen later; return how many were added.

        They come with generation 0, which is never in force: on its first packet here each is asked
        about again, in the direction in which it began.
        """
        now_ns = self._now_ns()
        keys: list[bytes] = []
        states: list[bytes] = []
        for flow in flows:
            seen_ns = now_ns - flow.age_ns
            held = bpf_map.map_lookup(self._fd, "map conntrack", flow.key, STATE_BYTES)
            if held is None or _HEAD.unpack_from(held)[0] < seen_ns:
                keys.append(flow.key)
                states.append(pack_flow_state(FlowStateRow(seen_ns, 0, FlowFlag(flow.flags))))
        if keys:
            bpf_map.map_update_batch(
                self._fd, "map conntrack", b"".join(keys), b"".join(states), len(keys)
            )
        return len(keys)

    def _rows_of(self, id_be: bytes) -> Iterator[tuple[bytes, bytes]]:
        for keys, states, count in bpf_map.map_chunks(self._fd, "map conntrack"):
            end = count * FLOW_KEY_BYTES
            at = keys.find(id_be, 0, end)
            while at != -1:
                row, offset = divmod(at, FLOW_KEY_BYTES)
                # `low` and `high` are the first two words of a key.
                if offset in (0, 8):
                    start = row * FLOW_KEY_BYTES
                    yield keys[start : start + FLOW_KEY_BYTES], states[start : start + STATE_BYTES]
                    at = keys.find(id_be, start + FLOW_KEY_BYTES, end)
                else:
                    at = keys.find(id_be, at + 1, end)
