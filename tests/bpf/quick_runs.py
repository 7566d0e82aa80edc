"""Many runs one after the other: all counters are read at once, and flows are taken away again."""

from __future__ import annotations

import struct
from collections.abc import Iterable

from host_under_test import HostUnderTest, Result, RuleCounts, sk_buff
from oracle.world import Action, Arrival, Side, Tally

from netagent.dataplane import bpf_map, libbpf
from netagent.dataplane.abi import Counter, Verdict
from netagent.dataplane.abi_flows import FlowRow
from netagent.dataplane.pinned import PinnedProcessorArray

REFILL_RUNS = 100
"""Runs for which a full bucket is enough: it tells of new flows while it is half full."""


class QuickRuns:
    """Runs of one host under policies that do not change meanwhile."""

    def __init__(self, host: HostUnderTest) -> None:
        self._host = host
        indices = host.indices.values()
        self._verdicts = _Counters(host.verdict_counters, max(Verdict) + 1)
        self._rules = _Counters(host.rule_counters, 2 * (max(indices, default=0) + 1))
        self._runs = 0
        host.datapath.events.take()

    def run(self, program: str, arrival: Arrival, flows: Iterable[FlowRow]) -> Result:
        """Run a program on one packet; of the flows that it left, return these, and forget them."""
        if self._runs % REFILL_RUNS == 0:
            self._host.set_event_tokens()
        self._runs += 1
        datapath = self._host.datapath
        ran = libbpf.run_program(datapath.program(program), arrival.data, ctx=sk_buff(arrival))
        counted = {
            Verdict(index): Counter(*words) for index, words in self._verdicts.gained().items()
        }
        rules: RuleCounts = {}
        for index, words in self._rules.gained().items():
            for at, tally in enumerate(Tally):
                if words[2 * at]:
                    counter = Counter(*words[2 * at : 2 * at + 2])
                    rules[index // 2, Side(index % 2), tally] = counter
        left = {flow: state for flow in flows if (state := datapath.conntrack.get(flow))}
        datapath.conntrack.delete(left)
        return Result(
            action=Action(ran.action),
            data=ran.data,
            mark=struct.unpack_from("=I", ran.ctx, 8)[0],
            counted=counted,
            rules=rules,
            events=datapath.events.take(),
            flows=left,
            fragments={},
        )


class _Counters:
    """The first entries of a per-CPU array, and what they have gained since they were read."""

    def __init__(self, array: PinnedProcessorArray, entries: int) -> None:
        self._array = array
        self._entries = entries
        self._before = self._read()

    def _read(self) -> bytes:
        array = self._array
        size = array.value_bytes * array.processors
        return bpf_map.array_read(array.fd, array.subject, 0, self._entries, size)

    def gained(self) -> dict[int, tuple[int, ...]]:
        before, after = self._before, self._read()
        if before == after:
            return {}
        self._before = after
        size, width = len(after) // self._entries, self._array.value_bytes // 8
        found = {}
        for index in range(self._entries):
            part = slice(index * size, (index + 1) * size)
            if before[part] != after[part]:
                old, new = (memoryview(raw[part]).cast("Q") for raw in (before, after))
                found[index] = tuple(
                    sum(new[at::width]) - sum(old[at::width]) for at in range(width)
                )
        return found
