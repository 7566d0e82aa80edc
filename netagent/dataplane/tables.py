"""The pinned maps as typed tables of rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from netagent.dataplane import abi, abi_flows
from netagent.dataplane.abi import Counter, EndpointRow, Misdirected, TransitionRow, Verdict
from netagent.dataplane.abi_flows import FlowRow, FlowStateRow, FragmentRow, FragmentStateRow
from netagent.dataplane.pinned import PinnedMap, PinnedProcessorArray
from netagent.model.addresses import Locator, StableId
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
MISDIRECTED: Layout[Locator, Misdirected] = Layout(
    "misdirected",
    8,
    16,
    abi.pack_locator,
    abi.unpack_locator,
    abi.pack_misdirected,
    abi.unpack_misdirected,
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
        self._map = PinnedMap(path, layout.key_bytes, layout.value_bytes)
        self.name = layout.name
        self.map_id = self._map.map_id
        self.capacity = self._map.capacity

    def get(self, key: K) -> V | None:
        """Return one row, or None."""
        raw = self._map.get(self._layout.pack_key(key))
        return None if raw is None else self._layout.unpack_value(raw)

    def items(self) -> dict[K, V]:
        """Return all rows."""
        unpack_key, unpack_value = self._layout.unpack_key, self._layout.unpack_value
        return {unpack_key(key): unpack_value(value) for key, value in self._map.rows()}

    def update(self, rows: Mapping[K, V]) -> None:
        """Add or replace rows; each is atomic, the batch is not."""
        keys = b"".join(map(self._layout.pack_key, rows))
        values = b"".join(map(self._layout.pack_value, rows.values()))
        self._map.put(keys, values, len(rows))

    def delete(self, keys: Iterable[K]) -> None:
        """Delete rows; one that is absent is deleted already."""
        packed = [self._layout.pack_key(key) for key in keys]
        self._map.remove(b"".join(packed), len(packed))

    def close(self) -> None:
        """Close the descriptor; the map stays pinned."""
        self._map.close()


class Counters:
    """The pinned per-CPU counters by verdict."""

    def __init__(self, path: Path) -> None:
        """Open the counters; AbiMismatchError when there are fewer than verdicts."""
        self._map = PinnedProcessorArray(path, 16)
        self.map_id = self._map.map_id
        if self._map.capacity <= max(Verdict):
            self.close()
            problem = f"it has {self._map.capacity} entries, fewer than verdicts"
            raise AbiMismatchError("adopt", f"map {path}", problem)

    def read(self) -> dict[Verdict, Counter]:
        """Return every verdict's counter, summed over processors."""
        return {verdict: Counter(*self._map.sum(verdict)) for verdict in Verdict}

    def close(self) -> None:
        """Close the descriptor; the map stays pinned."""
        self._map.close()
