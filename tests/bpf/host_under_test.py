"""One host's real maps and programs, filled from a World and run packet by packet."""

from __future__ import annotations

import struct
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fleet_of_three import Clocks
from oracle.policies import EntriesJudge
from oracle.world import Action, Arrival, Side, Tally, World
from policy_books import Policies

from netagent.dataplane import libbpf
from netagent.dataplane.abi import Constants, Counter, Verdict
from netagent.dataplane.abi_flows import (
    EventRow,
    FlowRow,
    FlowStateRow,
    FragmentRow,
    FragmentStateRow,
)
from netagent.dataplane.abi_policy import RuleRow, pack_state
from netagent.dataplane.datapath import Datapath
from netagent.dataplane.pinned import PinnedArray, PinnedProcessorArray

_SK_BUFF_BYTES = 192
_MARK, _IFINDEX, _GSO_SEGS, _GSO_SIZE = 8, 40, 164, 176
_CLOCK_MONOTONIC_COARSE = 6
_STATE_BYTES, _BUCKET_BYTES, _COUNTER_BYTES, _RULE_COUNTER_BYTES = 8, 40, 16, 48
FULL_BUCKET = 1000

RuleCounts = dict[tuple[int, Side, Tally], Counter]


@dataclass(frozen=True, slots=True)
class Result:
    """What a program did.

    counted, rules: what gained packets, and packets and bytes gained. events: in order.
    """

    action: Action
    data: bytes
    mark: int
    counted: dict[Verdict, Counter]
    rules: RuleCounts
    events: list[EventRow]
    flows: dict[FlowRow, FlowStateRow]
    fragments: dict[FragmentRow, FragmentStateRow]


class HostUnderTest:
    """Maps and programs of a host with given constants, pinned in a directory of their own."""

    def __init__(self, pin_dir: Path, constants: Constants) -> None:
        self.constants = constants
        self.datapath = Datapath.open(pin_dir)
        self.datapath.load(constants)
        self._state = PinnedArray(pin_dir / "policy_state", _STATE_BYTES)
        self._bucket = PinnedProcessorArray(pin_dir / "event_bucket", _BUCKET_BYTES)
        self.verdict_counters = PinnedProcessorArray(pin_dir / "counters", _COUNTER_BYTES)
        self.rule_counters = PinnedProcessorArray(pin_dir / "rule_counters", _RULE_COUNTER_BYTES)
        self.indices: dict[RuleRow, int] = {}
        self._enforced: Policies = {}

    def enforce(self, policies: Policies) -> dict[RuleRow, int]:
        """Bring exactly these policies in force; return the places of their rules' counters."""
        if policies is not self._enforced:
            maps = self.datapath.policies
            for network in maps.held().networks.keys() - policies.keys():
                maps.drop(network)
            for compiled in policies.values():
                maps.apply(compiled)
            maps.raise_generation()
            self._enforced = policies
            self.indices = {
                RuleRow(network, number): index
                for network, held in maps.held().networks.items()
                for number, index in held.rules.items()
            }
        return self.indices

    def fill(self, world: World) -> World:
        """Make the maps hold exactly what the world says, but for the places of rules' counters.

        Returns the world with these places as they are. Its judge must be one of entries.
        """
        assert isinstance(world.judge, EntriesJudge)
        indices = self.enforce(world.judge.policies)
        tables: list[tuple[Any, Any]] = [
            (self.datapath.location, world.locations),
            (self.datapath.transition, world.transitions),
            (self.datapath.endpoint, world.endpoints),
            (self.datapath.conntrack, world.flows),
            (self.datapath.fragments, world.fragments),
        ]
        for table, wanted in tables:
            table.delete(table.items().keys() - wanted.keys())
            table.update(wanted)
        self.set_generation(world.generation)
        return replace(world, rule_indices=indices)

    def set_generation(self, generation: int) -> None:
        self._state.write(0, pack_state(generation))

    def set_event_tokens(self, tokens: int = FULL_BUCKET) -> None:
        """Say how many events may still be sent, none being earned for a while."""
        refilled_ns = read_clocks().coarse_ns
        bucket = struct.pack("=5Q", refilled_ns, tokens, 0, 0, 0)
        self._bucket.put(bytes(4), bucket * self._bucket.processors, 1)

    def event_losses(self) -> tuple[int, int, int]:
        """Return how many events were sent, suppressed and lost since tokens were set."""
        _, _, sent, suppressed, lost = self._bucket.sum(0)
        return sent, suppressed, lost

    def run(
        self, program: str, arrival: Arrival, repeat: int = 1, tokens: int = FULL_BUCKET
    ) -> Result:
        """Run a program on one packet."""
        before, rules_before = self.datapath.counters(), self._rule_counts()
        self.set_event_tokens(tokens)
        self.datapath.events.take()
        ran = libbpf.run_program(
            self.datapath.program(program), arrival.data, ctx=sk_buff(arrival), repeat=repeat
        )
        after, rules_after = self.datapath.counters(), self._rule_counts()
        return Result(
            action=Action(ran.action),
            data=ran.data,
            mark=struct.unpack_from("=I", ran.ctx, _MARK)[0],
            counted=_gained(before, after),
            rules=_gained(rules_before, rules_after),
            events=self.datapath.events.take(),
            flows=self.datapath.conntrack.items(),
            fragments=self.datapath.fragments.items(),
        )

    def _rule_counts(self) -> RuleCounts:
        counts: RuleCounts = {}
        for index in (0, *self.indices.values()):
            for side in Side:
                words = self.rule_counters.sum(2 * index + side)
                for at, tally in enumerate(Tally):
                    counts[index, side, tally] = Counter(*words[2 * at : 2 * at + 2])
        return counts

    def close(self) -> None:
        arrays = self._state, self._bucket, self.verdict_counters, self.rule_counters
        for opened in (*arrays, self.datapath):
            opened.close()


def _gained(before: dict[Any, Counter], after: dict[Any, Counter]) -> dict[Any, Counter]:
    return {
        key: Counter(count.packets - before[key].packets, count.bytes - before[key].bytes)
        for key, count in after.items()
        if count != before[key]
    }


def read_clocks() -> Clocks:
    """Return the clocks of the programs."""
    return Clocks(
        time.clock_gettime_ns(time.CLOCK_BOOTTIME), time.clock_gettime_ns(_CLOCK_MONOTONIC_COARSE)
    )


def sk_buff(arrival: Arrival) -> bytes:
    """Return the context of a test run."""
    ctx = bytearray(_SK_BUFF_BYTES)
    struct.pack_into("=I", ctx, _MARK, arrival.mark)
    struct.pack_into("=I", ctx, _IFINDEX, arrival.ifindex)
    if arrival.gso_size:
        struct.pack_into("=I", ctx, _GSO_SEGS, -(-len(arrival.data) // arrival.gso_size))
        struct.pack_into("=I", ctx, _GSO_SIZE, arrival.gso_size)
    return bytes(ctx)
