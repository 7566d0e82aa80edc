"""Flows of the connection table, as far as they concern more than one host."""

from __future__ import annotations

from dataclasses import dataclass

from netagent.model.addresses import StableId

FLOW_KEY_BYTES = 32
"""Of `struct flow` (bpf/lib/abi.h), whose first two words are its ends, in network order."""

FLOW_FLAGS_MAX = 127


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


def changed_flows(sent: dict[bytes, int], now: list[CarriedFlow]) -> list[CarriedFlow]:
    """Return the flows that are new, or whose flags are others, since they were sent.

    sent: key to flags.
    """
    return [flow for flow in now if sent.get(flow.key) != flow.flags]
