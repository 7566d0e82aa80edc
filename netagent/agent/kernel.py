"""Applies planned operations to the kernel, and counts what it writes.

The count is how "running it twice changes nothing" is seen: an agent that adopts everything after a
restart ends with the count it began with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial

from netagent.agent.ports import DatapathPort, LinksPort, MeshPort, RoutesPort
from netagent.dataplane.abi import EndpointRow, TransitionRow
from netagent.dataplane.wireguard import PeerConfig
from netagent.model.addresses import StableId, locator_network
from netagent.model.errors import DataplaneError, ExhaustedError
from netagent.model.fleet import Host, Transition
from netagent.policy.entries import CompiledPolicy
from netagent.reconcile.delta import Capacities
from netagent.reconcile.operations import (
    Activate,
    AwaitPrograms,
    EndpointBinding,
    Operation,
    Prepare,
    RaiseGeneration,
    Release,
    RemoveEndpoints,
    RemoveLocations,
    RemovePolicies,
    RemoveTransitions,
    SetEndpoints,
    SetLocations,
    SetPeers,
    SetPolicies,
    SetTransitions,
)
from netagent.reconcile.plan import HeldTransition, ObservedTables
from netagent.reconcile.policy_plan import plan_policy

TRANSITION_LIFETIME_NS = 60_000_000_000
"""How long a transition holds when nobody refreshes it."""


class Kernel:
    """The three handles of the data path. Every method runs on the thread that owns them.

    boottime_ns: reads CLOCK_BOOTTIME. writes: rows, filters, links and peer lists written so far;
    a deadline that is only moved on does not count, nor does the generation.
    is_generation_due: whether flows may have been judged by what is no longer so; at first nobody
    knows what the last agent left undone.
    """

    def __init__(
        self,
        datapath: DatapathPort,
        links: LinksPort,
        mesh: MeshPort,
        boottime_ns: Callable[[], int],
    ) -> None:
        self.datapath = datapath
        self.links = links
        self.mesh = mesh
        self.boottime_ns = boottime_ns
        self.writes = 0
        self.is_generation_due = True

    def close(self) -> None:
        """Let go of the handles; what is attached stays attached."""
        self.datapath.close()
        self.links.close()

    def capacities(self) -> Capacities:
        """Return how many rows each table takes."""
        return Capacities(
            locations=self.datapath.location.capacity,
            transitions=self.datapath.transition.capacity,
            endpoints=self.datapath.endpoint.capacity,
        )

    def observe(self, *, with_locations: bool = True) -> ObservedTables:
        """Read the three tables whole, or the two small ones."""
        return ObservedTables(
            locations=self.datapath.location.items() if with_locations else {},
            transitions={
                stable_id: HeldTransition(
                    Transition(row.source, row.destination, row.epoch), row.deadline_ns
                )
                for stable_id, row in self.datapath.transition.items().items()
            },
            endpoints={
                stable_id: EndpointBinding(row.ifindex, row.mac, row.is_peer)
                for stable_id, row in self.datapath.endpoint.items().items()
            },
        )

    def apply(self, operations: Iterable[Operation], routes: RoutesPort) -> None:
        """Apply operations in the order given; DataplaneError at the first that fails.

        A machine whose way out cannot be changed is noted by `routes`, and the others go on.
        Whatever fails, what is in force by then holds for known flows too.
        """
        operations = tuple(operations)
        self.is_generation_due |= any(isinstance(one, RaiseGeneration) for one in operations)
        try:
            for operation in operations:
                self._apply(operation, routes)
        except DataplaneError:
            if self.is_generation_due:
                # It stays due: what is still to come may change verdicts again.
                with suppress(DataplaneError):
                    self.datapath.policies.raise_generation()
            raise

    def settle_generation(self) -> None:
        """Raise the generation if that is due: after a failure had come in between, or a start."""
        if self.is_generation_due:
            self.datapath.policies.raise_generation()
            self.is_generation_due = False

    def check_policies(self, policies: Iterable[CompiledPolicy]) -> None:
        """Raise ExhaustedError, before anything is written, when these do not fit one by one.

        Beside what is in force, which stays until its successor is complete.
        """
        room = self.datapath.policies.room
        held = self.datapath.policies.held()
        for compiled in policies:
            held = plan_policy(held, compiled, room).after

    def observe_endpoint(self, stable_id: StableId) -> EndpointBinding | None:
        """Read one row of the endpoint table."""
        row = self.datapath.endpoint.get(stable_id)
        return EndpointBinding(row.ifindex, row.mac, row.is_peer) if row else None

    def ensure_peers(self, hosts: Iterable[Host], *, is_new: bool) -> None:
        """Compare WireGuard's own list with `hosts`, and make it that.

        is_new: the interface has just been made and has not even a key.
        """
        peers = _peers(hosts)
        if is_new or not self.mesh.is_applied(peers):
            self.mesh.forget()
            self.writes += self.mesh.apply(peers)

    def _apply(self, operation: Operation, routes: RoutesPort) -> None:
        datapath = self.datapath
        match operation:
            case SetLocations(rows=locations):
                datapath.location.update(locations)
                self.writes += len(locations)
            case Activate(ids=ids):
                for stable_id in ids:
                    with routes.bearing(stable_id):
                        self.writes += routes.activate(stable_id)
            case Prepare(ids=ids):
                for stable_id in ids:
                    with routes.bearing(stable_id):
                        routes.prepare(stable_id)
            case Release(ids=ids):
                for stable_id in ids:
                    with routes.bearing(stable_id):
                        routes.release(stable_id)
            case SetTransitions(rows=transitions, is_refresh=is_refresh):
                datapath.transition.update(self._with_deadline(transitions.items()))
                self.writes += 0 if is_refresh else len(transitions)
            case SetEndpoints(rows=endpoints):
                datapath.endpoint.update(
                    {
                        stable_id: EndpointRow(row.ifindex, row.mac, row.is_peer)
                        for stable_id, row in endpoints.items()
                    }
                )
                self.writes += len(endpoints)
            case SetPeers(hosts=hosts):
                self.writes += self.mesh.apply(_peers(hosts))
            case RemoveLocations(ids=ids):
                datapath.location.delete(ids)
                self.writes += len(ids)
            case SetPolicies(policies=policies):
                for compiled in policies:
                    self._change_policies(partial(datapath.policies.apply, compiled))
            case RemovePolicies(networks=networks):
                for network in networks:
                    self._change_policies(partial(datapath.policies.drop, network))
            case RaiseGeneration():
                self.settle_generation()
            case RemoveTransitions(ids=ids):
                datapath.transition.delete(ids)
                self.writes += len(ids)
            case RemoveEndpoints(ids=ids):
                datapath.endpoint.delete(ids)
                self.writes += len(ids)
            case AwaitPrograms():
                datapath.await_programs()

    def _change_policies(self, change: Callable[[], int]) -> None:
        was_due, self.is_generation_due = self.is_generation_due, True
        try:
            rows = change()
        except ExhaustedError as error:
            # Checked before; so it holds what we did not write, or a failure has left too much.
            raise DataplaneError("write", "the maps of policies", str(error)) from error
        self.writes += rows
        self.is_generation_due = was_due or rows > 0

    def _with_deadline(
        self, rows: Iterable[tuple[StableId, Transition]]
    ) -> dict[StableId, TransitionRow]:
        deadline_ns = self.boottime_ns() + TRANSITION_LIFETIME_NS
        return {
            stable_id: TransitionRow(row.source, row.destination, deadline_ns, row.epoch)
            for stable_id, row in rows
        }


def _peers(hosts: Iterable[Host]) -> list[PeerConfig]:
    return [
        PeerConfig(host.public_key, host.endpoint, locator_network(host.locator)) for host in hosts
    ]
