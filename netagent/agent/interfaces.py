"""The interfaces of attached machines: made, filtered, bound to their ids, taken away."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from ipaddress import IPv6Address

from netagent.agent.attached import AttachedMachine
from netagent.agent.kernel import Kernel
from netagent.agent.ports import LinksPort
from netagent.dataplane.datapath import Attachment
from netagent.dataplane.link import Link
from netagent.model.addresses import GATEWAY_MAC, Fleet, StableId, stable_address
from netagent.model.errors import DataplaneError
from netagent.reconcile.operations import EndpointBinding, RemoveEndpoints, SetEndpoints


class Interfaces:
    """Keeps an interface, a filter and an endpoint row for each of `attached`.

    trouble: machine -> why, for those for which something could not be done.
    """

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self.attached: dict[StableId, AttachedMachine] = {}
        self.trouble: dict[str, str] = {}

    @property
    def links(self) -> LinksPort:
        """All interfaces of this host."""
        return self._kernel.links

    def find_attached(self, name: str) -> list[AttachedMachine]:
        """Return the attachments that NETWORK/NAME or NAME may mean, by machine."""
        found = [
            machine
            for machine in self.attached.values()
            if name in (machine.machine, machine.machine.rpartition("/")[2])
        ]
        return sorted(found, key=lambda machine: machine.machine)

    def is_taken(self, name: str) -> bool:
        """Whether an interface has that name, or is to have it again."""
        names = {machine.interface for machine in self.attached.values()}
        return name in names or self.links.find(name) is not None

    @contextmanager
    def bearing(self, stable_id: StableId) -> Iterator[None]:
        """Note what fails with one machine: one whose namespace is odd must not stop the others."""
        try:
            yield
        except (DataplaneError, OSError) as error:
            self.trouble[self.attached[stable_id].machine] = str(error)

    def attach(
        self, machine: AttachedMachine, address: IPv6Address, mtu_bytes: int
    ) -> EndpointBinding:
        """Attach one machine now; idempotent.

        The filter comes before the row: nothing is delivered to an interface that is not watched.
        """
        link = self._make(machine, address, mtu_bytes)
        binding = self._bind(machine, link)
        if self._kernel.observe_endpoint(machine.stable_id) != binding:
            self._kernel.apply((SetEndpoints({machine.stable_id: binding}),), self)
        self.attached[machine.stable_id] = machine
        return binding

    def detach(self, stable_id: StableId, *, give_back: bool) -> None:
        """Take the row away, and the interface if we made it.

        give_back: make an interface that was there before what it was. Otherwise our filter stays
        and drops what the machine still sends, which would else reach the host's own stack.
        """
        machine = self.attached.get(stable_id)
        if machine is None:
            return
        self.clear(machine, give_back=give_back)
        del self.attached[stable_id]

    def clear(self, machine: AttachedMachine, *, give_back: bool) -> None:
        """Leave nothing of an attachment in the kernel; as detach, whether it is known or not."""
        self._kernel.apply((RemoveEndpoints((machine.stable_id,)),), self)
        if machine.netns is not None:
            self._kernel.writes += self._kernel.links.remove(machine.interface)
        elif give_back and (link := self._kernel.links.find(machine.interface)):
            if machine.former is not None:
                # Before the filter goes: an interface that was down is to let nothing in.
                self._kernel.writes += self._kernel.links.give_back(
                    machine.interface, machine.former.mac, is_up=machine.former.is_up
                )
            self._kernel.writes += self._kernel.datapath.detach(link.ifindex)

    def ensure(self, fleet: Fleet, mtu_bytes: int) -> dict[StableId, EndpointBinding]:
        """Bring every attachment's interface and filter back.

        Returns the bindings of those that have an interface; `trouble` says why others have none.
        """
        bindings: dict[StableId, EndpointBinding] = {}
        for stable_id, machine in sorted(self.attached.items()):
            with self.bearing(stable_id):
                address = stable_address(fleet, stable_id)
                link = self._kernel.links.find(machine.interface)
                if link is None or link.mac != GATEWAY_MAC or not link.is_up:
                    link = self._make(machine, address, mtu_bytes)
                    self._kernel.writes += 1
                bindings[stable_id] = self._bind(machine, link)
                if machine.netns is not None:
                    self._kernel.writes += self._kernel.links.mend_machine_interface(
                        machine.interface, machine.netns, address, machine.mac, mtu_bytes
                    )
        return bindings

    def activate(self, stable_id: StableId) -> bool:
        """Lead the machine's default route through its interface here; False when so already.

        An interface that was there before is the machine's only one and needs nothing.
        """
        machine = self.attached[stable_id]
        if machine.netns is None:
            return False
        return self._kernel.links.activate_machine_interface(machine.interface, machine.netns)

    def prepare(self, stable_id: StableId) -> None:
        """Do ahead what `activate` would take time for; where that fails, it takes the time."""
        machine = self.attached[stable_id]
        if machine.netns is not None:
            self._kernel.links.prepare_machine_route(machine.interface, machine.netns)

    def leads_elsewhere(self, stable_id: StableId) -> bool:
        """Whether another host leads the machine's default route."""
        machine = self.attached[stable_id]
        if machine.netns is None:
            return False
        return self._kernel.links.leads_elsewhere(machine.interface, machine.netns)

    def is_way_out(self, stable_id: StableId) -> bool:
        """Whether no other host has taken the machine's default route over from our interface."""
        machine = self.attached.get(stable_id)
        if machine is not None and machine.netns is not None:
            with suppress(DataplaneError, OSError):
                return self._kernel.links.is_way_out(machine.interface, machine.netns)
        return False

    def release(self, stable_id: StableId) -> None:
        """Let go of what was prepared."""
        self._kernel.links.release_machine_route(self.attached[stable_id].interface)

    def ifindex(self, machine: AttachedMachine) -> int:
        """Return the index of a machine's interface; 0 while it is missing."""
        link = self._kernel.links.find(machine.interface)
        return link.ifindex if link else 0

    def _make(self, machine: AttachedMachine, address: IPv6Address, mtu_bytes: int) -> Link:
        if machine.netns is None:
            return self._kernel.links.prepare_existing_interface(machine.interface, self._filter)
        return self._kernel.links.make_machine_interface(
            machine.interface, machine.netns, address, machine.mac, mtu_bytes, self._filter
        )

    def _filter(self, ifindex: int) -> None:
        """Attach our programs; before an interface is up, or a machine reaches the host itself."""
        self._kernel.writes += self._kernel.datapath.attach(ifindex, Attachment.MACHINE)

    def _bind(self, machine: AttachedMachine, link: Link) -> EndpointBinding:
        self._filter(link.ifindex)
        return EndpointBinding(link.ifindex, machine.mac, is_peer=machine.netns is not None)
