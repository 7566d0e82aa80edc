"""Nanoseconds a packet of from_machine and from_mesh by the size of the policy, without a network.

    python -m integration.bench.policy_programs [--rounds 10] [--packets 10000]

Two ways, both by BPF_PROG_TEST_RUN. Repeated: the kernel runs from_machine many times over, a
little program before it puts back what it has rewritten, and the cost of that is taken off: what
the program takes with everything in the caches. One by one: a system call for each packet, timed by
the kernel's run-time statistics, and held against an empty program: with what a system call
leaves of the caches, which is nearer to a network. Sizes are measured in turn, and ratios
are those within a round. No pairs: the built-in policy, as isolation alone would decide.
"""

from __future__ import annotations

import argparse
import itertools
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from integration.bench.bench_host import (
    CONTEXT,
    FROM_MACHINE,
    FROM_MESH,
    BenchHost,
    bench_host,
    make_packets,
    time_program,
)
from integration.bench.compile import EMPTY, compile_program
from integration.bench.figures import ratios, spread
from integration.bench.repeat import Repeater, repeater
from netagent.dataplane import libbpf

PAIRS = (0, 10, 1_000, 100_000)
PROGRAMS = (FROM_MACHINE, FROM_MESH)
ESTABLISHED, IN_TURN, FIRST = "established", "established, 10,000 in turn", "first packet"
KINDS = (ESTABLISHED, IN_TURN, FIRST)
FLOWS_IN_TURN = 10_000
REPEATED = "from_machine, repeated"
RUNS = 100_000


@dataclass(frozen=True, slots=True)
class Case:
    """A program, or EMPTY, with a policy of so many pairs, on packets of a kind."""

    program: str
    pairs: int
    kind: str


Figures = dict[Case, list[float]]


def measure_policies(rounds: int, packets: int) -> Figures:
    """Return ns a packet in each round. packets: of each case in each round. Needs root."""
    found: Figures = {}
    with ExitStack() as stack:
        directory = stack.enter_context(_bpf_file_system())
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        hosts = [stack.enter_context(bench_host(directory / str(pairs), pairs)) for pairs in PAIRS]
        empty = stack.enter_context(libbpf.BpfObject(compile_program(EMPTY, scratch), directory))
        empty.load()
        program = empty.program(EMPTY)
        stack.callback(os.close, program)
        repeating = stack.enter_context(repeater(directory, scratch))
        for number in range(rounds):
            for host in hosts if number % 2 else hosts[::-1]:
                for case, ns in _repeat_host(repeating, host, number):
                    found.setdefault(case, []).append(ns)
        stack.callback(os.close, libbpf.enable_statistics())
        for number in range(rounds):
            for host in hosts if number % 2 else hosts[::-1]:
                for case, ns in _measure_host(host, number, packets):
                    found.setdefault(case, []).append(ns)
                on = make_packets(FROM_MACHINE, 0, 1) * packets
                case = Case(EMPTY, host.pairs, ESTABLISHED)
                found.setdefault(case, []).append(time_program(program, on))
    return found


def _repeat_host(repeating: Repeater, host: BenchHost, number: int) -> Iterator[tuple[Case, float]]:
    """Yield ns of from_machine alone."""
    (packet,) = make_packets(FROM_MACHINE, 0, 1)
    ways = {
        ESTABLISHED: (0, 1),
        IN_TURN: (100_000, FLOWS_IN_TURN),
        FIRST: (10_000_000 + number * RUNS, RUNS),
    }
    for kind, (first, flows) in ways.items():
        repeating.put(None)
        without = repeating.time(packet, CONTEXT, first, flows, RUNS)
        repeating.put(host.pinned(FROM_MACHINE))
        if kind is not FIRST:
            repeating.time(packet, CONTEXT, first, flows, flows)
        with host.passing(FROM_MACHINE, RUNS):
            ns = repeating.time(packet, CONTEXT, first, flows, RUNS)
        yield Case(REPEATED, host.pairs, kind), ns - without


def _measure_host(host: BenchHost, number: int, packets: int) -> Iterator[tuple[Case, float]]:
    for at, program in enumerate(PROGRAMS):
        one = make_packets(program, at, 1)
        host.time(program, one)
        yield Case(program, host.pairs, ESTABLISHED), host.time(program, one * packets)
        many = make_packets(program, 100_000 + at * FLOWS_IN_TURN, FLOWS_IN_TURN)
        host.time(program, many)
        in_turn = list(itertools.islice(itertools.cycle(many), packets))
        yield Case(program, host.pairs, IN_TURN), host.time(program, in_turn)
        new = make_packets(program, 1_000_000 + (2 * number + at) * packets, packets)
        yield Case(program, host.pairs, FIRST), host.time(program, new)


@contextmanager
def _bpf_file_system() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as directory:
        subprocess.run(["mount", "-t", "bpf", "bpf", directory], check=True)
        try:
            yield Path(directory)
        finally:
            subprocess.run(["umount", directory], check=True)


def describe(figures: Figures) -> list[str]:
    """Return lines for people: ns above the empty program, and ratios to no pairs at all."""
    empty = {pairs: figures[Case(EMPTY, pairs, ESTABLISHED)] for pairs in PAIRS}
    lines = [f"empty program: {spread(itertools.chain(*empty.values()))} ns"]
    for kind in KINDS:
        lines.append(f"{REPEATED}, {kind}, the cost of repeating taken off:")
        for pairs in PAIRS:
            ns = figures[Case(REPEATED, pairs, kind)]
            ratio = ratios(ns, figures[Case(REPEATED, 0, kind)])
            lines.append(f"  {_name(pairs):<15} {spread(ns)} ns; ratio {ratio}")
    for program, kind in itertools.product(PROGRAMS, KINDS):
        lines.append(f"{program}, {kind}:")
        for pairs in PAIRS:
            ns = figures[Case(program, pairs, kind)]
            own = spread(a - b for a, b in zip(ns, empty[pairs], strict=True))
            ratio = ratios(ns, figures[Case(program, 0, kind)])
            lines.append(f"  {_name(pairs):<15} {spread(ns)} ns, {own} above empty; ratio {ratio}")
    return lines


def _name(pairs: int) -> str:
    return f"{pairs:,} pairs" if pairs else "no pairs"


def as_json(figures: Figures) -> dict[str, dict[str, float]]:
    """Return each case's spread by its name."""
    return {
        f"{case.program}, {case.pairs} pairs, {case.kind}": spread(ns).as_json()
        for case, ns in figures.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--packets", type=int, default=10_000)
    given = parser.parse_args()
    print("\n".join(describe(measure_policies(given.rounds, given.packets))))


if __name__ == "__main__":
    main()
