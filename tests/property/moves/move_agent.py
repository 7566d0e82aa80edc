"""One agent without I/O: its view, its kernel, its attachments, and what it reports of moves.

A crash may come after any kernel write; the view is then what the replica has, the state before the
batch, and the kernel keeps what was written.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from netagent.agent.facts import OwnHost
from netagent.agent.session import read_batch
from netagent.api.control.v1 import sync_service_pb2 as pb
from netagent.model.addresses import StableId, stable_address
from netagent.model.fleet import Location, MoveTrigger, Transition
from netagent.moves.reports import Alive, Carried, Report
from netagent.reconcile.batch import Batch
from netagent.reconcile.delta import plan_delta
from netagent.reconcile.moving import find_arrivals
from netagent.reconcile.operations import (
    Operation,
    RemoveLocations,
    RemoveTransitions,
    SetLocations,
    SetTransitions,
)
from netagent.reconcile.plan import (
    HeldTransition,
    ObservedTables,
    Tables,
    find_departed,
    plan_changes,
    plan_tables,
)
from netagent.reconcile.view import View

FOR_EVER_NS = 1 << 62


class Crashed(Exception):
    """The agent was killed between two writes."""


@dataclass(frozen=True)
class Said:
    """A report, as it goes to control."""

    host: str
    stable_id: StableId
    epoch: int
    report: Report


class Agent:
    """`on_write` is called after each kernel write."""

    def __init__(self, own: OwnHost, on_write: Callable[[], None]) -> None:
        self.own = own
        self.name = own.host.name
        self.locator = own.host.locator
        self.view = View()
        self.locations: dict[StableId, Location] = {}
        self.transitions: dict[StableId, Transition] = {}
        self.attached: set[StableId] = set()
        self.detached: set[StableId] = set()
        self.alive: set[tuple[StableId, int]] = set()
        self.crash_after: int | None = None
        self.rejects_next = False
        self.past: list[Batch] = []
        self.is_whole = False
        self._on_write = on_write

    def read(self, parts: Sequence[pb.Update], *, is_snapshot: bool) -> Batch:
        batch = read_batch(self.own, parts, is_snapshot=is_snapshot)
        # Policies have no part in moves.
        return replace(batch, policies=(), dropped_policies=())

    def take(self, batch: Batch) -> list[Said]:
        """Apply a batch; return what there is to report. Raises Crashed."""
        delta = plan_delta(self.view, batch)
        operations = plan_changes(
            *(self.view, delta, self.name, self.locator, self.attached),
            is_kernel_known=self.is_whole,
        )
        departed = find_departed(self.view, delta, self.locator, self.attached)
        self._apply(operations)
        self.view.apply(delta)
        for stable_id in departed:
            location = self.view.location(stable_id)
            assert location is None or location.locator != self.locator, "prunes its own machine"
            self.attached.discard(stable_id)
        if not self.is_whole:
            self.is_whole = True
            self._reconcile(may_prune=True)
        if not batch.is_snapshot:
            self.past.append(batch)
        # The orchestrator attaches a machine here once this host knows that it comes.
        for stable_id, transition in self.view.transitions().items():
            if transition.destination == self.locator:
                self.attach(stable_id)
        for stable_id, location in self.view.locations().items():
            if location.locator == self.locator:
                self.attach(stable_id)
        self.attached -= self.view.floating().keys()
        return self.reports()

    def attach(self, stable_id: StableId) -> None:
        self.attached.add(stable_id)
        self.detached.discard(stable_id)

    def detach(self, stable_id: StableId) -> None:
        self.attached.discard(stable_id)
        self.detached.add(stable_id)

    def takes_flows(self, stable_id: StableId, epoch: int, sender: OwnHost) -> bool:
        """Whether it accepts connections that another host carries under an epoch."""
        source = stable_address(sender.fleet, sender.host.stable_id)
        return any(
            arrival.key == (stable_id, epoch) and arrival.source == source
            for arrival in find_arrivals(self.view, self.own.fleet, self.locator)
        )

    def restart(self) -> None:
        """Come back from the replica: nothing is removed before control has said everything."""
        self.is_whole = False
        self.crash_after = None
        self._reconcile(may_prune=False)

    def show_life(self) -> None:
        """Have all machines that are awaited here show life."""
        for stable_id, moving in self.view.transitions().items():
            if moving.destination == self.locator and moving.trigger is MoveTrigger.LIFE:
                self.alive.add((stable_id, moving.epoch))

    def reports(self) -> list[Said]:
        """Return everything that holds now of the moves that this host knows."""
        said: list[Said] = []
        for stable_id, moving in self.view.transitions().items():
            if self.view.holder(stable_id) is not None:
                continue  # it goes with its holder
            location = self.view.location(stable_id)
            has_committed = location is not None and location.epoch == moving.epoch
            if moving.source == self.locator:
                carried = Carried(5, is_final=has_committed)
                said.append(Said(self.name, stable_id, moving.epoch, carried))
            elif (stable_id, moving.epoch) in self.alive:
                said.append(Said(self.name, stable_id, moving.epoch, Alive()))
        return said

    def speaks(self, stable_id: StableId) -> bool:
        """Whether the kernel here lets the machine send and receive (docs/architecture.md)."""
        row = self.locations.get(stable_id)
        is_here = row is not None and row.locator == self.locator
        # A floating address has the endpoint of a machine, which tests/unit/reconcile is about.
        return is_here and stable_id in self.attached | self.view.floating().keys()

    def accepts(self, stable_id: StableId, sender: Agent) -> bool:
        """Whether the kernel here accepts the machine's packets from another host."""
        row = self.locations.get(stable_id)
        if row is None:
            return False
        moving = self.transitions.get(stable_id)
        if moving is None or moving.epoch < row.epoch:
            return sender.locator == row.locator
        return sender.locator in (row.locator, moving.source, moving.destination)

    def _reconcile(self, *, may_prune: bool) -> None:
        rows = self.view.locations(), self.view.transitions()
        desired = Tables(*rows, {}, self.view.floating().keys())
        held = {i: HeldTransition(row, FOR_EVER_NS) for i, row in self.transitions.items()}
        observed = ObservedTables(dict(self.locations), held, {})
        self._apply(
            plan_tables(desired, observed, may_prune=may_prune, now_ns=0, refresh_below_ns=0)
        )

    def _apply(self, operations: Sequence[Operation]) -> None:
        for operation in operations:
            match operation:
                case SetLocations(rows=rows):
                    self.locations.update(rows)
                case SetTransitions(rows=moving):
                    self.transitions.update(moving)
                case RemoveLocations(ids=ids):
                    for stable_id in ids:
                        self.locations.pop(stable_id, None)
                case RemoveTransitions(ids=ids):
                    for stable_id in ids:
                        self.transitions.pop(stable_id, None)
                case _:
                    continue
            self._on_write()
            if self.crash_after is not None:
                self.crash_after -= 1
                if self.crash_after < 0:
                    raise Crashed
