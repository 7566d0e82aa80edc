"""One host's real maps and programs, filled from a World and run packet by packet."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fleet_of_three import SECOND_NS, Clocks
from gains import Gains
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
from netagent.dataplane.abi_policy import PolicyNetworkRow, RuleRow, pack_state
from netagent.dataplane.datapath import Datapath
from netagent.dataplane.pinned import PinnedArray, PinnedProcessorArray
from netagent.dataplane.policy_tables import POLICY_NETWORK
from netagent.dataplane.tables import Table

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
        self.networks = Table(POLICY_NETWORK, pin_dir / "policy_network")
        self._state = PinnedArray(pin_dir / "policy_state", _STATE_BYTES)
        self._bucket = PinnedProcessorArray(pin_dir / "event_bucket", _BUCKET_BYTES)
        self._counters = PinnedProcessorArray(pin_dir / "counters", _COUNTER_BYTES)
        self._rule_counters = PinnedProcessorArray(pin_dir / "rule_counters", _RULE_COUNTER_BYTES)
        self._verdicts = Gains(self._counters, max(Verdict) + 1)
        self._rules = Gains(self._rule_counters, 2)
        self._enforced: Policies = {}
        self._indices: dict[RuleRow, int] = {}
        self._held: dict[str, Mapping[Any, Any]] = {}

    def enforce(self, policies: Policies) -> dict[RuleRow, int]:
        """Bring exactly these policies in force; return the places of their rules' counters."""
        if policies is not self._enforced:
            maps = self.datapath.policies
            for network in maps.held().networks.keys() - policies.keys():
                maps.drop(network)
            for compiled in policies.values():
                maps.apply(compiled)
            self._enforce_under_any_generation()
            self._enforced = policies
            self._indices = {
                RuleRow(network, number): index
                for network, held in maps.held().networks.items()
                for number, index in held.rules.items()
            }
            entries = 2 * (max(self._indices.values(), default=0) + 1)
            self._rules = Gains(self._rule_counters, entries)
        return self._indices

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
            held = self._held.get(table.name)
            if held is None:
                held = table.items()
            table.delete(held.keys() - wanted.keys())
            table.update({key: row for key, row in wanted.items() if held.get(key) != row})
            self._held[table.name] = wanted
        self.set_generation(world.generation)
        return replace(world, rule_indices=indices)

    def _enforce_under_any_generation(self) -> None:
        """Make what is in force be so from the first generation on: worlds choose their own."""
        rows = {
            network: PolicyNetworkRow(0, row.new, row.new)
            for network, row in self.networks.items().items()
        }
        self.networks.update(rows)

    def set_generation(self, generation: int) -> None:
        self._state.write(0, pack_state(generation))

    def set_event_tokens(self, tokens: int = FULL_BUCKET, earning_s: float = 0.0) -> None:
        """Say how many events may still be sent, and for how long more have been earned."""
        refilled_ns = read_clocks().coarse_ns - int(earning_s * SECOND_NS)
        bucket = struct.pack("=5Q", refilled_ns, tokens, 0, 0, 0)
        self._bucket.put(bytes(4), bucket * self._bucket.processors, 1)

    def event_losses(self) -> tuple[int, int, int]:
        """Return how many events were sent, suppressed and lost since tokens were set."""
        _, _, sent, suppressed, lost = self._bucket.sum(0)
        return sent, suppressed, lost

    def run(
        self,
        program: str,
        arrival: Arrival,
        repeat: int = 1,
        tokens: int = FULL_BUCKET,
        earning_s: float = 0.0,
    ) -> Result:
        """Run a program on one packet. tokens, earning_s: as in `set_event_tokens`."""
        flows, fragments = self.datapath.conntrack, self.datapath.fragments
        self.set_event_tokens(tokens, earning_s)
        result = self._run(program, arrival, repeat)
        result = replace(result, flows=flows.items(), fragments=fragments.items())
        self._held |= {flows.name: result.flows, fragments.name: result.fragments}
        return result

    def run_and_forget(self, program: str, arrival: Arrival, flows: Iterable[FlowRow]) -> Result:
        """Run a program on one packet of no known flow; forget these flows afterwards.

        The result has what became of these flows only.
        """
        table = self.datapath.conntrack
        self.set_event_tokens()
        result = self._run(program, arrival, 1)
        left = {flow: state for flow in flows if (state := table.get(flow))}
        table.delete(left)
        return replace(result, flows=left)

    def _run(self, program: str, arrival: Arrival, repeat: int) -> Result:
        self._verdicts.take()
        self._rules.take()
        self._take_events()
        ran = libbpf.run_program(
            self.datapath.program(program), arrival.data, ctx=_sk_buff(arrival), repeat=repeat
        )
        counted = self._verdicts.take()
        return Result(
            action=Action(ran.action),
            data=ran.data,
            mark=struct.unpack_from("=I", ran.ctx, _MARK)[0],
            counted={Verdict(index): Counter(*gain) for index, gain in counted.items()},
            rules=self._take_rules(),
            events=self._take_events(),
            flows={},
            fragments={},
        )

    def _take_events(self) -> list[EventRow]:
        taken = []
        while some := self.datapath.events.take():
            taken += some
        return taken

    def _take_rules(self) -> RuleCounts:
        return {
            (index // 2, Side(index % 2), tally): Counter(*gain[2 * at : 2 * at + 2])
            for index, gain in self._rules.take().items()
            for at, tally in enumerate(Tally)
            if gain[2 * at]
        }

    def close(self) -> None:
        arrays = self.networks, self._state, self._bucket, self._counters, self._rule_counters
        for opened in (*arrays, self.datapath):
            opened.close()


def read_clocks() -> Clocks:
    """Return the clocks of the programs."""
    return Clocks(
        time.clock_gettime_ns(time.CLOCK_BOOTTIME), time.clock_gettime_ns(_CLOCK_MONOTONIC_COARSE)
    )


def _sk_buff(arrival: Arrival) -> bytes:
    """Return the context of a test run."""
    ctx = bytearray(_SK_BUFF_BYTES)
    struct.pack_into("=I", ctx, _MARK, arrival.mark)
    struct.pack_into("=I", ctx, _IFINDEX, arrival.ifindex)
    if arrival.gso_size:
        struct.pack_into("=I", ctx, _GSO_SEGS, -(-len(arrival.data) // arrival.gso_size))
        struct.pack_into("=I", ctx, _GSO_SIZE, arrival.gso_size)
    return bytes(ctx)
