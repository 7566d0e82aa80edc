"""From an event's numbers to what they stand for: addresses as the ends know them, and names."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv6Address

from netagent.agent.flow_log import NamedFlow
from netagent.dataplane.abi_flows import EventRow
from netagent.model.addresses import Fleet, StableId, stable_address
from netagent.reconcile.view import View

_LOCATOR_TOP_SHIFT = 48


@dataclass(frozen=True, slots=True)
class FlowNames:
    """What a fleet calls things now. boot_ns: Unix time at which CLOCK_BOOTTIME began."""

    fleet: Fleet
    view: View
    boot_ns: int

    def name_flow(self, event: EventRow) -> NamedFlow:
        """Return the event with names."""
        source = self._party(event.source_upper, event.source)
        destination = self._party(event.destination_upper, event.destination)
        return NamedFlow(
            event,
            self.boot_ns + event.time_ns,
            *source,
            *destination,
            network=self.view.network_name(event.network) if event.network else "",
            rule=self.view.rule_name(event.network, event.rule),
            audit_rule=self.view.rule_name(event.network, event.audit_rule),
        )

    def _party(self, upper: int, lower: StableId) -> tuple[str, str]:
        """Return (address, name); on the mesh the upper half is the locator of some host."""
        is_locator = upper >> _LOCATOR_TOP_SHIFT == self.fleet.locator_top
        if is_locator or upper == self.fleet.prefix_int:
            return str(stable_address(self.fleet, lower)), self.view.party_name(lower)
        return str(IPv6Address(upper << 64 | lower)), ""
