"""How long a policy takes to compile, from scratch and after one change.

    python integration/bench/policy_compile.py [--machines 10000] [--identities 500] [--rules 1000]

The fleet is made from a fixed seed: label sets over app, env, team and zone; rules between them,
one in twenty to or from everybody, one in ten a deny, some in audit mode, a few with prefixes.
Prints the median and the worst of the repetitions, and the processor's time, which a busy machine
disturbs less. The last lines are changes that touch every pair.
"""

from __future__ import annotations

import argparse
import gc
import random
import statistics
import time
from collections.abc import Callable
from dataclasses import replace

from netagent.model.fleet import Identity
from netagent.policy.capacity import measure
from netagent.policy.compiler import Compilation, compile_policy
from netagent.policy.fleet import FIRST_MACHINE_IDENTITY, FleetSnapshot, Member, make_snapshot
from netagent.policy.language import AnySelector, Policy, Rule, Traffic, Verdict
from netagent.policy.reading import load_policy

APPS = 50
TEAMS = 10


def make_fleet(rng: random.Random, machines: int, identities: int) -> FleetSnapshot:
    label_sets: list[dict[str, str]] = []
    seen = set()
    while len(label_sets) < identities:
        labels = {
            "app": f"app-{rng.randrange(APPS)}",
            "env": rng.choice(["prod", "canary", "test"]),
            "team": f"team-{rng.randrange(TEAMS)}",
            "zone": rng.choice(["a", "b", "c"]),
        }
        if tuple(labels.values()) not in seen:
            seen.add(tuple(labels.values()))
            label_sets.append(labels)
    members = (
        Member(
            "shop",
            f"m-{n}",
            Identity(n % identities + FIRST_MACHINE_IDENTITY),
            label_sets[n % identities],
        )
        for n in range(machines)
    )
    return make_snapshot(None, {"shop": 1}, members)


def make_policy_text(rng: random.Random, rules: int) -> str:
    def selector() -> str:
        kind = rng.random()
        if kind < 0.05:
            return rng.choice(["any", "{labels: {}}"])
        if kind < 0.07:
            return f"{{cidr: ['2001:db8:{rng.randrange(100):x}::/48']}}"
        app = f"app: app-{rng.randrange(APPS)}"
        if kind < 0.6:
            return f"{{labels: {{{app}}}}}"
        if kind < 0.9:
            return f"{{labels: {{{app}, env: [prod, canary]}}}}"
        return f"{{labels: {{team: team-{rng.randrange(TEAMS)}, zone: {{not: c}}, env: prod}}}}"

    lines = ["network: shop", "rules:"]
    for number in range(rules):
        ports = ", ".join(
            rng.choice([f"tcp/{p}", f"tcp/{p}-{p + 10}", f"udp/{p}"])
            for p in (rng.randrange(1, 60000) for _ in range(rng.randrange(1, 4)))
        )
        lines += [
            f"  - name: rule-{number}",
            f"    from: {selector()}",
            f"    to: {selector()}",
            f"    {'deny' if rng.random() < 0.1 else 'allow'}: [{ports}]",
            *(["    mode: audit"] if rng.random() < 0.05 else []),
        ]
    return "\n".join(lines)


def timed(label: str, work: Callable[[], object], repeat: int) -> None:
    times: list[float] = []
    busy: list[float] = []
    for _ in range(repeat):
        gc.collect()  # of what the last one left, not of this one
        start, start_busy = time.perf_counter(), time.process_time()
        work()
        busy.append((time.process_time() - start_busy) * 1e3)
        times.append((time.perf_counter() - start) * 1e3)
    print(
        f"{label:<40} median {statistics.median(times):8.1f} ms  worst {max(times):8.1f} ms  "
        f"processor {statistics.median(busy):8.1f} ms"
    )


def changed(policy: Policy, index: int, **fields: object) -> Policy:
    rules = list(policy.rules)
    rules[index] = replace(rules[index], **fields)
    return replace(policy, rules=tuple(rules))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--machines", type=int, default=10_000)
    parser.add_argument("--identities", type=int, default=500)
    parser.add_argument("--rules", type=int, default=1_000)
    parser.add_argument("--repeat", type=int, default=7)
    arguments = parser.parse_args()
    rng = random.Random(7)
    fleet = make_fleet(rng, arguments.machines, arguments.identities)
    text = make_policy_text(rng, arguments.rules)
    policy = load_policy(text, "bench.yaml", fleet)
    base = compile_policy(policy, fleet)
    print(measure([base.entries]).describe())

    def again(new: Policy, where: FleetSnapshot = fleet) -> Callable[[], Compilation]:
        return lambda: compile_policy(new, where, previous=base)

    repeat = arguments.repeat
    timed("read and check the file", lambda: load_policy(text, "bench.yaml", fleet), repeat)
    timed("full", lambda: compile_policy(policy, fleet), repeat)
    rules = policy.rules
    ports = (Traffic(6, 7777, 7777),)
    sample = range(0, len(rules), max(1, len(rules) // 50))
    timed("nothing changed", again(policy), repeat)

    def each(label: str, change: Callable[[int], Policy]) -> None:
        """Time one change at each rule of the sample, wide rules among them."""
        policies = iter([change(index) for index in sample])
        timed(label, lambda: again(next(policies))(), len(sample))

    def other_side(index: int) -> Policy:
        return changed(policy, index, source=rules[(index + 7) % len(rules)].source)

    def opposite(index: int) -> Policy:
        return changed(policy, index, verdict=rules[index].verdict.opposite)

    def added(index: int) -> Policy:
        new = replace(rules[index], name="new-rule", traffic=ports)
        return replace(policy, rules=(new, *rules))

    def removed(index: int) -> Policy:
        return replace(policy, rules=rules[:index] + rules[index + 1 :])

    each("one rule: other ports", lambda index: changed(policy, index, traffic=ports))
    each("one rule: other source", other_side)
    each("one rule: deny for allow, or back", opposite)
    each("one rule removed", removed)
    each("one rule added in front", added)
    labels = {"app": "app-1", "env": "prod", "team": "team-1", "zone": "new"}
    newcomer = Member("shop", "m-new", Identity(arguments.identities + 100), labels)
    timed("one new label set", lambda: again(policy, fleet.with_member(newcomer))(), repeat)
    member = next(iter(fleet.members.values()))
    twin = Member("shop", "m-0", newcomer.identity, labels)
    timed(
        "one machine gets a new label set", lambda: again(policy, fleet.with_member(twin))(), repeat
    )
    joined = Member("shop", "m-join", member.identity, member.labels)
    timed(
        "one more machine of a known label set",
        lambda: again(policy, fleet.with_member(joined))(),
        repeat,
    )
    everybody = (AnySelector(),)
    wide = Rule("wide", everybody, everybody, Verdict.ALLOW, ports)
    timed("wide: a rule from any to any", again(replace(policy, rules=(*rules, wide))), repeat)
    timed("wide: another default", again(replace(policy, default=Verdict.ALLOW)), repeat)


if __name__ == "__main__":
    main()
