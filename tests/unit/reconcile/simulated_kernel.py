"""The kernel's tables in memory: operations go in, tables come out, every step can be watched."""

from collections.abc import Callable, Iterable

from netagent.model.addresses import StableId
from netagent.model.fleet import Host, Location
from netagent.policy.entries import CompiledPolicy
from netagent.reconcile.operations import (
    Activate,
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

LIFETIME_NS = 60_000_000_000


class SimulatedKernel:
    def __init__(self, now_ns: int = 1_000) -> None:
        self.now_ns = now_ns
        self.locations: dict[StableId, Location] = {}
        self.transitions: dict[StableId, HeldTransition] = {}
        self.endpoints: dict[StableId, EndpointBinding] = {}
        self.peers: tuple[Host, ...] = ()
        self.activated: list[StableId] = []
        self.prepared: set[StableId] = set()
        self.policies: dict[int, CompiledPolicy] = {}
        self.generation = 0
        self.writes = 0

    def observe(self) -> ObservedTables:
        return ObservedTables(dict(self.locations), dict(self.transitions), dict(self.endpoints))

    def apply(
        self, operations: Iterable[Operation], after_each: Callable[[], None] = lambda: None
    ) -> None:
        for operation in operations:
            self._apply(operation)
            self.writes += 1
            after_each()

    def _apply(self, operation: Operation) -> None:
        match operation:
            case SetLocations(rows=rows):
                self.locations.update(rows)
            case SetTransitions(rows=moving):
                deadline_ns = self.now_ns + LIFETIME_NS
                self.transitions.update(
                    {i: HeldTransition(row, deadline_ns) for i, row in moving.items()}
                )
            case SetEndpoints(rows=bindings):
                self.endpoints.update(bindings)
            case SetPeers(hosts=hosts):
                self.peers = hosts
            case RemoveLocations(ids=ids):
                for stable_id in ids:
                    self.locations.pop(stable_id, None)
            case RemoveTransitions(ids=ids):
                for stable_id in ids:
                    self.transitions.pop(stable_id, None)
            case RemoveEndpoints(ids=ids):
                for stable_id in ids:
                    self.endpoints.pop(stable_id, None)
            case SetPolicies(policies=policies):
                self.policies.update({policy.number: policy for policy in policies})
            case RemovePolicies(networks=networks):
                for number in networks:
                    self.policies.pop(number, None)
            case RaiseGeneration():
                self.generation += 1
            case Prepare(ids=ids):
                self.prepared |= set(ids)
            case Release(ids=ids):
                self.prepared -= set(ids)
            case Activate(ids=ids):
                self.activated += ids
