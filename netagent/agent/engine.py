"""The agent's state and the kernel under one owner: every method runs on the one worker thread.

Two ways lead to the kernel. `take_batch` writes what a batch changes, at once: for the commit of a
move that is one map write and, where the machine arrives, its route. `reconcile` compares all of it
with intent; it brings the data path up at the start, mends what failed or drifted, and is what the
auditor runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from types import MappingProxyType

from netagent.agent.attached import AttachedMachine, EndpointState, endpoint_state
from netagent.agent.config import AgentConfig
from netagent.agent.facts import (
    EndpointStatus,
    EngineStatus,
    OwnHost,
    Reconciled,
    TakenMachine,
)
from netagent.agent.floating import FloatingEndpoints, count_endpoints
from netagent.agent.interfaces import Interfaces
from netagent.agent.kernel import TRANSITION_LIFETIME_NS, Kernel
from netagent.agent.own_links import OwnLinks
from netagent.model.addresses import StableId, stable_address
from netagent.model.errors import DataplaneError
from netagent.model.fleet import Host, Location
from netagent.reconcile.batch import Batch
from netagent.reconcile.delta import check_capacity, plan_delta
from netagent.reconcile.handover import holders_after
from netagent.reconcile.moving import Taking, find_taken
from netagent.reconcile.operations import EndpointBinding, Operation, order
from netagent.reconcile.plan import (
    ObservedTables,
    Tables,
    find_departed,
    find_differing,
    plan_changes,
    plan_tables,
)
from netagent.reconcile.policy_audit import (
    PolicyIntent,
    find_differing_policies,
    plan_held_policies,
)
from netagent.reconcile.view import Delta, View

REFRESH_BELOW_NS = TRANSITION_LIFETIME_NS * 2 // 3
"""A transition with less time left than this is written again."""


class Engine:
    """Holds the view and the attachments, and keeps the kernel in step with them.

    applied_revision: the newest that the kernel is known to hold.
    unwritten: deltas that the replica does not hold yet, the oldest first.
    taken: attached machines that were taken away while this host did not know; they stay attached,
    fenced, until somebody detaches them.
    """

    def __init__(self, config: AgentConfig, kernel: Kernel) -> None:
        self._kernel = kernel
        self._own: OwnHost | None = None
        self._is_whole = False
        self._departed: dict[StableId, int] = {}
        self._missing: set[str] = set()
        self.own_links = OwnLinks(config, kernel)
        self.view = View()
        self.interfaces = Interfaces(kernel)
        self._floating = FloatingEndpoints(kernel, self.interfaces)
        self.applied_revision = 0
        self.unwritten: list[Delta] = []
        self.taken: dict[StableId, Taking] = {}

    def restore(
        self,
        view: View,
        attached: dict[StableId, AttachedMachine],
        taken: Mapping[StableId, Taking] = MappingProxyType({}),
    ) -> None:
        """Start from what the replica holds; it may be behind the kernel, so nothing is pruned."""
        self.view = view
        self.interfaces.attached = attached
        self.taken = dict(taken)
        self.applied_revision = view.revision

    def take_place(self, own: OwnHost) -> None:
        """Learn who this host is; `reconcile` does what follows from it."""
        self._own = own

    def take_batch(self, batch: Batch, *, was_away: bool = False) -> bool:
        """Take a batch into the view and write what it changes.

        was_away: whether it is the first after a time without control.
        Returns whether a machine here has made trouble with it: the kernel holds the batch, and
        `reconcile` will tell of the machine and try again.

        Raises InvalidError or ExhaustedError, with nothing changed, when it cannot be taken; and
        DataplaneError when the kernel refused: the view holds the batch then, and `reconcile` will
        bring the kernel there.
        """
        own = self._require_own()
        trouble = dict(self.interfaces.trouble)
        delta = plan_delta(self.view, batch)
        attached = set(self.interfaces.attached)
        endpoint_count = count_endpoints(attached, holders_after(self.view, delta)) + 1
        check_capacity(self.view, delta, endpoint_count, self._kernel.capacities())
        self._check_policies(delta)
        operations = plan_changes(
            *(self.view, delta, own.host.name, own.host.locator, attached),
            self._floating.observe_holders(delta, attached),
            is_kernel_known=self._is_whole,
        )
        departed = find_departed(self.view, delta, own.host.locator, attached)
        self.taken |= find_taken(self.view, delta, own.host.locator, attached, was_away=was_away)
        self.view.apply(delta)
        self.unwritten.append(delta)
        self._departed.update(departed)
        is_first, self._is_whole = not self._is_whole, True
        self._kernel.apply(operations, self.interfaces)
        if is_first:
            self.reconcile()
        self.applied_revision = self.view.revision
        return self.interfaces.trouble != trouble

    def reconcile(self, *, with_large: bool = True) -> Reconciled:
        """Bring links, programs, peers and tables in step with intent; a second run writes nothing.

        with_large: whether to compare what may be large as well, locations and policies; without,
        see mend_locations and mend_policies. DataplaneError at the first thing that fails, save
        where that is one machine's; what came before it stays.
        """
        own = self._require_own()
        before = self._kernel.writes
        self.interfaces.trouble.clear()
        is_new = self.own_links.ensure_mesh(own)
        host_binding = self.own_links.ensure_host_interface(own)
        bindings = self.interfaces.ensure(own.fleet, self.own_links.mtu_bytes)
        bindings[own.host.stable_id] = host_binding
        others = [host for host in self.view.hosts.values() if host.name != own.host.name]
        self.own_links.ensure_peers(others, is_new=is_new, is_whole=self._is_whole)
        self._ensure_tables(bindings, with_large=with_large)
        for stable_id in sorted(self.interfaces.attached.keys() & bindings):
            if not self._is_leaving(stable_id):
                with self.interfaces.bearing(stable_id):
                    self._lead_route(stable_id)
        missing = dict(self.interfaces.trouble)
        self._missing = {
            machine.interface
            for machine in self.interfaces.attached.values()
            if machine.machine in missing
        }
        self._kernel.datapath.prune()
        if with_large:
            self.applied_revision = self.view.revision
        return Reconciled(self._kernel.writes - before, missing)

    def desired_locations(self) -> dict[StableId, Location]:
        """Return the whole location table as it should be now."""
        return self.view.locations()

    def find_suspects(self, desired: dict[StableId, Location]) -> tuple[StableId, ...]:
        """Return the ids whose location in the kernel is not the desired one, ascending.

        Any thread may call: reading the whole table takes long, and no commit should wait for it.
        So a suspect may be only a row that has changed meanwhile; mend_locations looks again.
        """
        return find_differing(desired, self._kernel.datapath.location.items())

    def mend_locations(self, suspects: tuple[StableId, ...]) -> int:
        """Compare these rows with intent as it is now, mend them; return how many were wrong."""
        before = self._kernel.writes
        table = self._kernel.datapath.location
        desired = {i: row for i in suspects if (row := self.view.location(i)) is not None}
        observed = {i: row for i in suspects if (row := table.get(i)) is not None}
        self._apply_tables(Tables(locations=desired), ObservedTables(locations=observed))
        return self._kernel.writes - before

    def policy_intent(self) -> PolicyIntent:
        """Return what policies there should be now, and what is believed to be in the kernel."""
        desired = {number: held.compiled for number, held in self.view.policies.items()}
        return PolicyIntent(desired, self._kernel.datapath.policies.held(), self._is_whole)

    def find_policy_suspects(self, intent: PolicyIntent) -> tuple[int, ...]:
        """Return the networks whose policy in the kernel is not as intended, ascending.

        Any thread may call, as find_suspects.
        """
        policies = self._kernel.datapath.policies
        return find_differing_policies(intent, policies.observe(), policies.room)

    def mend_policies(self, suspects: tuple[int, ...]) -> int:
        """Read the kernel again if there are suspects, mend what is wrong; return rows written."""
        before = self._kernel.writes
        if suspects:
            self._kernel.apply(self._plan_policies(), self.interfaces)
            self._kernel.settle_generation()
        return self._kernel.writes - before

    def attach(self, machine: AttachedMachine) -> EndpointStatus:
        """Make a machine's interface, filter and endpoint row; idempotent."""
        own = self._require_own()
        self._departed.pop(machine.stable_id, None)
        address = stable_address(own.fleet, machine.stable_id)
        binding = self.interfaces.attach(machine, address, self.own_links.mtu_bytes)
        self._floating.bind(self.view, machine.stable_id, binding)
        self._lead_route(machine.stable_id)
        return EndpointStatus(machine, binding.ifindex, self.state(machine.stable_id))

    def abandon(self, machine: AttachedMachine) -> None:
        """Leave nothing of an attachment that failed half-way."""
        self._floating.free(self.view, machine.stable_id)
        self.interfaces.clear(machine, give_back=True)

    def detach(self, stable_id: StableId) -> None:
        """Undo an attachment; nothing happens when there is none."""
        self._departed.pop(stable_id, None)
        self._floating.free(self.view, stable_id)
        self.interfaces.detach(stable_id, give_back=True)

    def retire(self) -> tuple[StableId, ...]:
        """Undo the attachments of machines that moved away, and return their ids.

        A machine that is here again, or on its way, is left alone; so is one attached anew. One
        that no other host has taken over keeps its interface, fenced, until one has: it may come
        back, and has nothing else.
        """
        own = self._require_own()
        taken = self.find_taken()
        retired = []
        for stable_id, epoch in sorted(self._departed.items()):
            location, moving = self.view.location(stable_id), self.view.transition(stable_id)
            is_here = location is not None and location.locator == own.host.locator
            returns = moving is not None and moving.epoch > epoch
            if not is_here and not returns:
                is_kept = location is not None and self.interfaces.is_way_out(stable_id)
                if is_kept or stable_id in taken:
                    continue
                self._floating.free(self.view, stable_id)
                self.interfaces.detach(stable_id, give_back=False)
                retired.append(stable_id)
            del self._departed[stable_id]
        return tuple(retired)

    def find_taken(self) -> dict[StableId, TakenMachine]:
        """Return the machines that were taken away and are still attached here.

        One whose way out leads through another host's interface by now has moved there as any
        other: nothing of it is left here.
        """
        own = self._require_own().host.locator
        found = {}
        for stable_id, taking in self.taken.items():
            # This host may hear no more of a network that has no machine here.
            location = self.view.location(stable_id)
            machine = self.interfaces.attached.get(stable_id)
            if machine is None or (location is not None and location.locator == own):
                continue
            if machine.netns is None or self.interfaces.is_way_out(stable_id):
                found[stable_id] = TakenMachine(machine, taking)
        self.taken = {stable_id: one.taking for stable_id, one in found.items()}
        return found

    def state(self, stable_id: StableId) -> EndpointState:
        """Return what an attached machine may do now."""
        own = self._require_own()
        return endpoint_state(
            self.view.location(stable_id), self.view.transition(stable_id), own.host.locator
        )

    def position(self) -> tuple[int, tuple[int, ...], dict[int, bytes]]:
        """Return the newest revision that the kernel holds, the networks and the policies held.

        Policies: network number to what control calls the content.
        """
        policies = {number: held.content for number, held in self.view.policies.items()}
        return self.applied_revision, tuple(sorted(self.view.networks)), policies

    def hand_over_unwritten(self, receiver: list[Delta]) -> None:
        """Append the deltas that the replica does not hold yet, so that none is lost on the way."""
        receiver += self.unwritten
        self.unwritten = []

    def endpoints(self) -> tuple[EndpointStatus, ...]:
        """Return every attachment, by machine."""
        found = (
            EndpointStatus(machine, self.interfaces.ifindex(machine), self.state(stable_id))
            for stable_id, machine in self.interfaces.attached.items()
        )
        return tuple(sorted(found, key=lambda status: status.attached.machine))

    def status(self) -> EngineStatus:
        """Return what the engine knows of itself, with the kernel's counters."""
        capacities = self._kernel.capacities()
        is_up = self._own is not None
        endpoint_count = count_endpoints(set(self.interfaces.attached), self.view.floating())
        return EngineStatus(
            own=self._own,
            wireguard=self.own_links.wireguard,
            mtu_bytes=self.own_links.mtu_bytes,
            endpoints=self.endpoints() if is_up else (),
            counters=self._kernel.datapath.counters() if is_up else {},
            misdirected=self._kernel.datapath.misdirected() if is_up else {},
            maps={
                "location": (self.view.count_locations(), capacities.locations),
                "transition": (self.view.count_transitions(), capacities.transitions),
                "endpoint": (endpoint_count + is_up, capacities.endpoints),
            },
            kernel_writes=self._kernel.writes,
        )

    def find_silent_peers(self, now_s: float) -> dict[str, str]:
        """Return the hosts that WireGuard cannot reach, with a sentence for people."""
        return self.own_links.find_silent_peers(self.view.hosts.values(), now_s)

    def hosts_by_key(self) -> dict[bytes, Host]:
        """Return the hosts of the fleet by public key."""
        return {host.public_key: host for host in self.view.hosts.values()}

    def concerns(self, interface: str, *, is_gone: bool) -> bool:
        """Whether an event of that interface may need mending. Any thread may ask."""
        if not interface:
            return True
        if is_gone and interface in self.own_links.names:
            return True
        machines = {machine.interface for machine in tuple(self.interfaces.attached.values())}
        return interface in machines and is_gone is not (interface in self._missing)

    def _require_own(self) -> OwnHost:
        assert self._own is not None, "take_place comes first"
        return self._own

    def _is_leaving(self, stable_id: StableId) -> bool:
        """Whether a machine moves away.

        Its destination, which hears of the commit first, may have its route already; taking that
        back would leave the machine mute from the moment at which we hear of it.
        """
        moving = self.view.transition(stable_id)
        return moving is not None and moving.source == self._require_own().host.locator

    def _lead_route(self, stable_id: StableId) -> None:
        match self.state(stable_id):
            case EndpointState.LIVE:
                # The replica may be behind: a machine may have moved while nobody was here.
                if self._is_whole or not self.interfaces.leads_elsewhere(stable_id):
                    self._kernel.writes += self.interfaces.activate(stable_id)
            case EndpointState.STAGED:
                self.interfaces.prepare(stable_id)
            case EndpointState.FENCED:
                self.interfaces.release(stable_id)

    def _ensure_tables(
        self, bindings: dict[StableId, EndpointBinding], *, with_large: bool
    ) -> None:
        bindings = bindings | self._floating.bindings(self.view, bindings)
        observed = self._kernel.observe(with_locations=with_large)
        locations = self.view.locations() if with_large else {}
        if not with_large:
            locations, held = self._floating.observe_near(self.view, bindings, observed)
            observed = replace(observed, locations=held)
        self._apply_tables(
            Tables(locations, self.view.transitions(), bindings, self.view.floating().keys()),
            observed,
            self._plan_policies() if with_large else (),
        )
        self._kernel.settle_generation()

    def _apply_tables(
        self, desired: Tables, observed: ObservedTables, policies: tuple[Operation, ...] = ()
    ) -> None:
        operations = plan_tables(
            desired,
            observed,
            may_prune=self._is_whole,
            now_ns=self._kernel.boottime_ns(),
            refresh_below_ns=REFRESH_BELOW_NS,
        )
        self._kernel.apply(order((*operations, *policies)), self.interfaces)

    def _plan_policies(self) -> tuple[Operation, ...]:
        """Plan from what the kernel holds in truth, whatever was believed."""
        self._kernel.datapath.policies.forget()
        intent = self.policy_intent()
        return plan_held_policies(intent, intent.believed)

    def _check_policies(self, delta: Delta) -> None:
        if delta.policies:
            # A kernel that cannot be read now will say so again when it is written.
            with suppress(DataplaneError):
                self._kernel.check_policies(held.compiled for held in delta.policies.values())
