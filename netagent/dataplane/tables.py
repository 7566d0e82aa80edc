"""The pinned maps as typed tables of rows."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from netagent.dataplane import abi, abi_flows, bpf_map, libbpf
from netagent.dataplane.abi import Counter, EndpointRow, TransitionRow, Verdict
from netagent.dataplane.abi_flows import FlowRow, FlowStateRow, FragmentRow, FragmentStateRow
from netagent.model.addresses import StableId
from netagent.model.errors import AbiMismatchError
from netagent.model.fleet import Location

K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Layout(Generic[K, V]):
    """How the rows of one map are packed; sizes in bytes."""

    name: str
    key_bytes: int
    value_bytes: int
    pack_key: Callable[[K], bytes]
    unpack_key: Callable[[bytes], K]
    pack_value: Callable[[V], bytes]
    unpack_value: Callable[[bytes], V]


LOCATION: Layout[StableId, Location] = Layout(
    "location", 8, 24, abi.pack_id, abi.unpack_id, abi.pack_location, abi.unpack_location
)
TRANSITION: Layout[StableId, TransitionRow] = Layout(
    "transition", 8, 32, abi.pack_id, abi.unpack_id, abi.pack_transition, abi.unpack_transition
)
ENDPOINT: Layout[StableId, EndpointRow] = Layout(
    "endpoint", 8, 16, abi.pack_id, abi.unpack_id, abi.pack_endpoint, abi.unpack_endpoint
)
CONNTRACK: Layout[FlowRow, FlowStateRow] = Layout(
    "conntrack",
    32,
    32,
    abi_flows.pack_flow,
    abi_flows.unpack_flow,
    abi_flows.pack_flow_state,
    abi_flows.unpack_flow_state,
)
FRAGMENTS: Layout[FragmentRow, FragmentStateRow] = Layout(
    "fragments",
    32,
    24,
    abi_flows.pack_fragment,
    abi_flows.unpack_fragment,
    abi_flows.pack_fragment_state,
    abi_flows.unpack_fragment_state,
)


class Table(Generic[K, V]):
    """A pinned hash map; every change is one entry or one batch, never a swap of the whole."""

    def __init__(self, layout: Layout[K, V], path: Path) -> None:
        """Open the map pinned at `path`; AbiMismatchError when its layout is another."""
        self._layout = layout
        self._fd = libbpf.open_pinned(path)
        info = bpf_map.map_info(self._fd)
        found = info.key_bytes, info.value_bytes
        if found != (layout.key_bytes, layout.value_bytes):
            self.close()
            wanted = f"{layout.key_bytes} and {layout.value_bytes}"
            problem = f"its keys and values have {found[0]} and {found[1]} bytes, not {wanted}"
            raise AbiMismatchError("adopt", f"map {path}", problem)
        self.name = layout.name
        self.map_id = info.map_id
        self.capacity = info.capacity
        self._subject = f"map {layout.name}"

    def get(self, key: K) -> V | None:
        """Return one row, or None."""
        raw = bpf_map.map_lookup(
            self._fd, self._subject, self._layout.pack_key(key), self._layout.value_bytes
        )
        return None if raw is None else self._layout.unpack_value(raw)

    def items(self) -> dict[K, V]:
        """Return all rows."""
        unpack_key, unpack_value = self._layout.unpack_key, self._layout.unpack_value
        return {
            unpack_key(key): unpack_value(value)
            for key, value in bpf_map.map_rows(self._fd, self._subject)
        }

    def update(self, rows: Mapping[K, V]) -> None:
        """Add or replace rows; each is atomic, the batch is not."""
        packed = [
            (self._layout.pack_key(key), self._layout.pack_value(value))
            for key, value in rows.items()
        ]
        if len(packed) == 1:
            bpf_map.map_update(self._fd, self._subject, *packed[0])
        elif packed:
            keys, values = b"".join(k for k, _ in packed), b"".join(v for _, v in packed)
            bpf_map.map_update_batch(self._fd, self._subject, keys, values, len(packed))

    def delete(self, keys: Iterable[K]) -> None:
        """Delete rows; one that is absent is deleted already."""
        for key in keys:
            bpf_map.map_delete(self._fd, self._subject, self._layout.pack_key(key))

    def close(self) -> None:
        """Close the descriptor; the map stays pinned."""
        os.close(self._fd)


class Counters:
    """The pinned per-CPU counters by verdict."""

    def __init__(self, path: Path) -> None:
        """Open the counters; AbiMismatchError when there are fewer than verdicts."""
        self._fd = libbpf.open_pinned(path)
        self._processors = _possible_processors()
        info = bpf_map.map_info(self._fd)
        self.map_id = info.map_id
        if info.capacity <= max(Verdict):
            self.close()
            problem = f"it has {info.capacity} entries, fewer than verdicts"
            raise AbiMismatchError("adopt", f"map {path}", problem)

    def read(self) -> dict[Verdict, Counter]:
        """Return every verdict's counter, summed over processors."""
        counters = {}
        for verdict in Verdict:
            key = int(verdict).to_bytes(4, sys.byteorder)
            raw = bpf_map.map_lookup(self._fd, "map counters", key, 16 * self._processors) or b""
            words = [
                int.from_bytes(raw[at : at + 8], sys.byteorder) for at in range(0, len(raw), 8)
            ]
            counters[verdict] = Counter(sum(words[::2]), sum(words[1::2]))
        return counters

    def close(self) -> None:
        """Close the descriptor; the map stays pinned."""
        os.close(self._fd)


def _possible_processors() -> int:
    """Return how many values a per-CPU entry has: possible processors, not those online."""
    text = Path("/sys/devices/system/cpu/possible").read_text().strip()
    return int(text.rpartition(",")[2].rpartition("-")[2]) + 1
