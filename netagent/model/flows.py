"""Flows of the connection table, as far as they concern more than one host."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from netagent.model.addresses import StableId

FLOW_KEY_BYTES = 32
"""Of `struct flow` (bpf/lib/abi.h), whose first two words are its ends, in network order."""

FLOW_FLAGS_MAX = 127

FLOWS_CARRIED_MAX = 131_072
"""Most flows of one machine that are carried: half a connection table, so that no machine that
moves pushes those of all others out. Of more, the ones that were quiet longest stay behind."""

RENEWED_NS = 1_000_000_000
"""A flow that had a packet this much later than was said is carried anew: the shortest time-out is
30 s, so one that lives at the source lives at the destination too."""


@dataclass(frozen=True, slots=True)
class CarriedFlow:
    """A flow on its way to another host.

    key: `struct flow`, the same on every host. age_ns: since its last packet.
    flags: as `enum flow_flags` (bpf/lib/abi.h), without who was asked.
    """

    key: bytes
    age_ns: int
    flags: int

    def has_end(self, stable_id: StableId) -> bool:
        """Whether the machine is one of the flow's ends."""
        id_be = stable_id.to_bytes(8, "big")
        return id_be in (self.key[:8], self.key[8:16])


class SentFlows:
    """What the other host has been told of one machine's flows, so that only the rest is sent."""

    def __init__(self) -> None:
        self._told: dict[bytes, tuple[int, int]] = {}

    def __len__(self) -> int:
        """Return how many flows have been sent."""
        return len(self._told)

    def find_changed(self, flows: Iterable[CarriedFlow], now_ns: int) -> list[CarriedFlow]:
        """Return those that are new, had a packet since, or whose flags are others.

        now_ns: the time, of one clock, at which the flows' ages were read. Of more than
        FLOWS_CARRIED_MAX the newest.
        """
        changed = [flow for flow in flows if self._has_changed(flow, now_ns)]
        if len(changed) > FLOWS_CARRIED_MAX:
            changed = sorted(changed, key=lambda flow: flow.age_ns)[:FLOWS_CARRIED_MAX]
        return changed

    def note(self, flows: Iterable[CarriedFlow], now_ns: int) -> None:
        """Remember that these have arrived; now_ns as in find_changed."""
        self._told |= {flow.key: (flow.flags, now_ns - flow.age_ns) for flow in flows}

    def _has_changed(self, flow: CarriedFlow, now_ns: int) -> bool:
        told = self._told.get(flow.key)
        if told is None or told[0] != flow.flags:
            return True
        return now_ns - flow.age_ns - told[1] > RENEWED_NS
