"""Policies in the kernel: brought in force by one write each, adopted, asked and counted.

What is held is remembered, so that a revision costs what differs from the one that its slot held
last; after a failure it is read from the kernel again. One thread writes; `observe`, `ask` and
`rule_counters` only read the kernel, from any thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv6Address
from pathlib import Path

from netagent.dataplane import abi_policy
from netagent.dataplane.abi import Counter
from netagent.dataplane.abi_policy import (
    RuleCounter,
    RuleRow,
)
from netagent.dataplane.grace import wait_for_programs
from netagent.dataplane.policy_lookup import PolicyAnswer, ask_policy
from netagent.dataplane.policy_reading import read_policies
from netagent.dataplane.policy_tables import PolicyTables
from netagent.dataplane.policy_writing import write_policies
from netagent.model.errors import ExhaustedError
from netagent.model.fleet import Identity
from netagent.policy.entries import CompiledPolicy, Direction
from netagent.reconcile.held_policies import (
    EndPolicy,
    HeldPolicies,
    PolicyOperation,
    PolicyPlan,
    RemovePairs,
    RemovePrefixes,
    Room,
    SetPairs,
    SetPrefixes,
    TurnTo,
)
from netagent.reconcile.policy_plan import plan_drop, plan_policy

SETTLED_S = 1.0
"""How long after a turn a program may still be reading what was in force before, at most.

Programs run for microseconds; it is a virtual processor that may stand still in the middle of one.
"""


class PolicyMaps:
    """The maps of policies of one host, pinned at a directory."""

    def __init__(self, pin_dir: Path, now: Callable[[], float] = time.monotonic) -> None:
        """Adopt the maps pinned at `pin_dir`; AbiMismatchError when one has another layout.

        now: reads a monotonic clock, in seconds.
        """
        self._tables = PolicyTables(pin_dir)
        self._held: HeldPolicies | None = None
        self._now = now
        self._turned: dict[int, float] = {}
        """Networks whose programs may still be reading what was in force, and since when."""

    @property
    def room(self) -> Room:
        """How many entries the maps take, both slots together."""
        return self._tables.room

    @property
    def map_ids(self) -> list[int]:
        """What the kernel calls these maps."""
        return self._tables.map_ids

    def observe(self) -> HeldPolicies:
        """Read everything from the kernel. What is written meanwhile is seen in part."""
        return read_policies(self._tables)

    def held(self) -> HeldPolicies:
        """Return what the kernel holds, read from it only if that is not known already.

        A revision that somebody wrote, and was killed before its turn, is put in force.
        """
        if self._held is None:
            generation = self.generation()
            rows = self._tables.network.items()
            if not all(row.is_turned(generation) for row in rows.values()):
                self.raise_generation()
                self._settle()
            self._held = self.observe()
        return self._held

    def forget(self) -> None:
        """Doubt what is held: the next call reads it from the kernel, and so mends damage."""
        self._held = None

    def apply(self, compiled: CompiledPolicy) -> int:
        """Bring a network's policy in force; return how many rows were written, 0 when it was.

        Until the very last write, which raises the generation, the revision before is in force,
        whole; from then on the new one is, also for flows that are open.
        Two revisions of one network within a second wait some 15 ms for programs in between.
        Raises ExhaustedError, with nothing written, when it does not fit; DataplaneError when the
        kernel refuses: then nothing of it is in force, and a later call goes on from what is there.
        """
        held = self.held()
        self._forget_settled()
        try:
            plan = plan_policy(held, compiled, self.room, may_collect=not self._turned)
        except ExhaustedError:
            if not self._turned:
                raise
            self._settle()
            plan = plan_policy(held, compiled, self.room)
        if any(_slot_written(operation) in self._turned for operation in plan.operations):
            self._settle()
        return self._carry_out(plan)

    def drop(self, network: int) -> int:
        """Take away a network's policy, then all that it had; return how many rows were written."""
        return self._carry_out(plan_drop(self.held(), network))

    def generation(self) -> int:
        """Return the generation of all policies together."""
        return abi_policy.unpack_state(self._tables.state.read(0, 1))

    def raise_generation(self) -> int:
        """Have every flow asked again on its next packet; return the new generation."""
        generation = (self.generation() + 1) % abi_policy.GENERATIONS
        self._tables.state.write(0, abi_policy.pack_state(generation))
        if self._held is not None:
            self._held = replace(self._held, retired=frozenset())
        return generation

    def ask(
        self,
        network: int,
        direction: Direction,
        source: Identity | IPv6Address,
        destination: Identity | IPv6Address,
        protocol: int,
        port: int,
    ) -> PolicyAnswer | None:
        """Return what the kernel's entries say to a flow's first packet, found as programs do.

        source, destination: an outside peer by its address. port: ICMPv6: `type << 8 | code`.
        None when the host does not have that network's policy. DataplaneError when entries refer to
        what is not there.
        """
        return ask_policy(self._tables, network, direction, source, destination, protocol, port)

    def rule_counters(self) -> dict[tuple[RuleRow, bool], RuleCounter]:
        """Return counters by rule, and by whether the receiver's policy was asked; sorted."""
        found = {}
        indices = sorted(self._tables.rule_index.items().items(), key=_by_rule)
        for rule, index in indices:
            if not 1 <= index <= self.room.rules:
                continue
            for is_receiver in (False, True):
                words = self._tables.rule_counters.sum(2 * index + is_receiver)
                counters = [Counter(*words[at : at + 2]) for at in range(0, 6, 2)]
                found[rule, is_receiver] = RuleCounter(*counters)
        return found

    def close(self) -> None:
        """Close all descriptors; everything stays pinned."""
        self._tables.close()

    def _forget_settled(self) -> None:
        before = self._now() - SETTLED_S
        self._turned = {number: at for number, at in self._turned.items() if at > before}

    def _settle(self) -> None:
        wait_for_programs()
        self._turned = {}

    def _carry_out(self, plan: PolicyPlan) -> int:
        """Write the operations in order; return their rows."""
        before = self.held().networks
        self._held = None
        writes = 0
        for operation in plan.operations:
            writes += write_policies(self._tables, operation)
            if isinstance(operation, TurnTo):
                self.raise_generation()
            if isinstance(operation, TurnTo | EndPolicy):
                was = before.get(operation.network)
                if was is not None and was.active is not None:
                    self._turned[operation.network] = self._now()
        self._held = plan.after
        return writes


def _slot_written(operation: PolicyOperation) -> int | None:
    """Return the network whose slot an operation writes."""
    if isinstance(operation, SetPairs | RemovePairs | SetPrefixes | RemovePrefixes):
        return operation.network
    return None


def _by_rule(item: tuple[RuleRow, int]) -> tuple[int, int]:
    return item[0].network, item[0].number
