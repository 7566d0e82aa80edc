"""How long the kernel's maps take to turn from one policy to the next. Needs root.

    PYTHONPATH=tests python -m integration.bench.policy_maps [--identities 340] [--rules 1000]

The fleet and the rules are those of policy_compile. Maps are real, on a BPF file system of its own
that ends with the process. Prints milliseconds and rows written.
"""

from __future__ import annotations

import argparse
import itertools
import random
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from kernel.namespaces import mount_bpffs, own_namespaces

from integration.bench.policy_compile import changed, make_fleet, make_policy_text
from netagent.dataplane.abi import pin_directory
from netagent.dataplane.datapath import Datapath
from netagent.dataplane.grace import wait_for_programs
from netagent.dataplane.policy_maps import PolicyMaps
from netagent.policy.capacity import measure
from netagent.policy.compiler import compile_policy
from netagent.policy.language import Traffic
from netagent.policy.reading import load_policy
from netagent.reconcile.policy_plan import plan_policy

CHANGES = 12
OTHER_NETWORKS = 1000


def timed(label: str, work: Callable[[], object]) -> None:
    start = time.perf_counter()
    result = work()
    lasted_ms = (time.perf_counter() - start) * 1e3
    rows = f"  {result:,} rows" if isinstance(result, int) else ""
    print(f"{label:<52} {lasted_ms:9.1f} ms{rows}")


def run(maps: PolicyMaps, identities: int, rules: int) -> None:
    rng = random.Random(7)
    fleet = make_fleet(rng, 10 * identities, identities)
    policy = load_policy(make_policy_text(rng, rules), "bench.yaml", fleet)
    compilation = compile_policy(policy, fleet, 1)
    print(measure([compilation.entries]).describe())

    timed("first policy", lambda: maps.apply(compilation.entries))
    timed("the same again", lambda: maps.apply(compilation.entries))
    for number in range(CHANGES):
        ports = (Traffic(6, 7000 + number, 7000 + number),)
        policy = changed(policy, 17 * number + 5, traffic=ports)
        compilation = compile_policy(policy, fleet, 2 + number, previous=compilation)
        which = {0: "first", 1: "second"}.get(number, "later")
        timed(f"{which} change of one rule", partial(maps.apply, compilation.entries))
    entries = compilation.entries
    timed("wait for programs, if changes follow within a second", wait_for_programs)
    timed("raise the generation", maps.raise_generation)
    timed("read everything from the kernel", maps.observe)
    maps.forget()
    timed("adopt after a restart: read, and compare with intent", lambda: maps.apply(entries))
    observed = maps.observe()
    timed("audit: compare with intent", lambda: plan_policy(observed, entries, maps.room))
    timed("rule counters", maps.rule_counters)
    few = make_fleet(rng, 10, 10)
    small = compile_policy(load_policy(SMALL, "small.yaml", few), few, 1).entries
    others = [replace(small, number=2 + number) for number in range(OTHER_NETWORKS)]
    timed(f"{OTHER_NETWORKS:,} small policies beside it", lambda: sum(map(maps.apply, others)))
    timed(f"{OTHER_NETWORKS:,} small policies again", lambda: sum(map(maps.apply, others)))
    timed("read everything from the kernel", maps.observe)
    timed("drop the first", lambda: maps.drop(1))


SMALL = """
network: shop
rules:
  - name: web
    from: any
    to: {labels: {app: app-1}}
    allow: [tcp/443]
"""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--identities", type=int, default=340)
    parser.add_argument("--rules", type=int, default=1_000)
    arguments = parser.parse_args()
    with own_namespaces(), tempfile.TemporaryDirectory() as directory:
        bpffs = mount_bpffs(Path(directory) / "bpffs")
        try:
            with Datapath.open(pin_directory(bpffs)):
                # Changes that are far apart: else each would wait for programs, which has its line.
                maps = PolicyMaps(pin_directory(bpffs), itertools.count(step=10).__next__)
                run(maps, arguments.identities, arguments.rules)
                maps.close()
        finally:
            subprocess.run(["umount", str(bpffs)], check=True)


if __name__ == "__main__":
    main()
