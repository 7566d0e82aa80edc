"""Endpoint rows of floating addresses: each has that of its holder, where that is attached here.

What changes with a batch, and in what order, is netagent.reconcile.handover; this is the rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Set

from netagent.agent.interfaces import Interfaces
from netagent.agent.kernel import Kernel
from netagent.model.addresses import StableId
from netagent.model.fleet import Location
from netagent.reconcile.operations import EndpointBinding, RemoveEndpoints, SetEndpoints, order
from netagent.reconcile.plan import ObservedTables
from netagent.reconcile.view import Delta, View


def count_endpoints(attached: Set[StableId], holders: Mapping[StableId, StableId]) -> int:
    """Return how many rows machines and floating addresses have. holders: of all addresses."""
    return len(attached) + sum(holder in attached for holder in holders.values())


class FloatingEndpoints:
    """Reads and writes them; runs on the kernel's thread. Raises DataplaneError."""

    def __init__(self, kernel: Kernel, interfaces: Interfaces) -> None:
        self._kernel = kernel
        self._interfaces = interfaces

    def bindings(
        self, view: View, bindings: Mapping[StableId, EndpointBinding]
    ) -> dict[StableId, EndpointBinding]:
        """Return what the rows should be. bindings: of the machines here."""
        return {i: bindings[one] for i, one in view.floating().items() if one in bindings}

    def observe_holders(
        self, delta: Delta, attached: Set[StableId]
    ) -> dict[StableId, EndpointBinding]:
        """Return the endpoints of machines here to which `delta` gives addresses."""
        holders = {row.holder for row in delta.locations.values() if row.holder is not None}
        found = ((one, self._kernel.observe_endpoint(one)) for one in holders & attached)
        return {one: binding for one, binding in found if binding is not None}

    def observe_near(
        self, view: View, bindings: Mapping[StableId, EndpointBinding], observed: ObservedTables
    ) -> tuple[dict[StableId, Location], dict[StableId, Location]]:
        """Return the locations, desired and held, with which endpoints and transitions turn.

        For a comparison without locations otherwise. bindings: what endpoints should be.
        """
        strays = observed.endpoints.keys() - bindings.keys()
        moving = observed.transitions.keys() | view.transitions().keys()
        near = strays | (view.floating().keys() & (bindings.keys() | moving))
        table = self._kernel.datapath.location
        desired = {i: row for i in near if (row := view.location(i)) is not None}
        return desired, {i: row for i in near if (row := table.get(i)) is not None}

    def bind(self, view: View, machine: StableId, binding: EndpointBinding) -> None:
        """Give a machine's addresses its endpoint.

        Not where the kernel has another location than we know of: that may be another holder's.
        """
        location, observe = self._kernel.datapath.location, self._kernel.observe_endpoint
        rows = {
            stable_id: binding
            for stable_id in view.held_by(machine)
            if location.get(stable_id) == view.location(stable_id) and observe(stable_id) != binding
        }
        self._kernel.apply(order((SetEndpoints(rows),)), self._interfaces)

    def free(self, view: View, machine: StableId) -> None:
        """Take the endpoint of a machine away from its addresses."""
        self._kernel.apply(order((RemoveEndpoints(view.held_by(machine)),)), self._interfaces)
