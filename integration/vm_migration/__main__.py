"""Migrates a live guest to and fro between two hosts and prints what another machine saw of it.

    python -m integration.vm_migration [--migrations 10] [--json FILE]

Needs root, QEMU, busybox and a Debian archive. Once with netagent under a policy that lets nobody
but the observer begin anything, once over plain WireGuard with `wg set` of /128 AllowedIPs on every
host.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from integration.bench.figures import spread
from integration.lab.lab import Lab
from integration.lab.policies import apply_policy
from integration.lab.wait import wait_until
from integration.scenarios.traffic import place_of
from integration.vm_migration.guest import (
    ECHO_PORT,
    SINK_PORT,
    TAP,
    Guest,
    build_image,
    environment,
)
from integration.vm_migration.observer import observing, quiet
from netagent.api.agent.v1 import agent_service_pb2 as agent_pb

HOOK = Path(__file__).parents[2] / "contrib/hooks/qemu_migrate.py"
POLICY = f"""\
network: shop
rules:
  - name: observer
    from: {{labels: {{app: observer}}}}
    to: {{labels: {{app: guest}}}}
    allow: [tcp/{ECHO_PORT}, tcp/{SINK_PORT}, icmp6/echo]
"""
_FIGURES = re.compile(r"downtime_ms=(\d+) total_ms=(\d+)")
SETTLE_S = 1.0


@dataclass(frozen=True, slots=True)
class Migration:
    """downtime_ms, total_ms: as QEMU says. gap_ms: longest time without an answer around it."""

    downtime_ms: float
    total_ms: float
    gap_ms: float
    is_connected: bool

    @property
    def stall_ms(self) -> float:
        """What the gap has beyond QEMU's own downtime."""
        return self.gap_ms - self.downtime_ms


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of all migrations, the first one first. quiet_gap_ms: the gap while nothing happened."""

    migrations: list[Migration]
    sent: int
    lost: int
    quiet_gap_ms: float


def migrate_with_netagent(count: int) -> Outcome:
    """Migrate a guest between host-a and host-b while a machine of host-c observes it."""
    image = build_image()
    with Lab(hosts=3) as lab:
        lab.network("shop")
        observer = lab.machine("shop/observer", "host-c", {"app": "observer"})
        machine = lab.machine("shop/guest", "host-a", {"app": "guest"}, attach=False)
        apply_policy(lab, POLICY)
        first = lab.hosts["host-a"]
        first.run("ip", "tuntap", "add", "dev", TAP, "mode", "tap")
        request = agent_pb.AttachRequest(machine=machine.path, interface=TAP)
        mac = first.attach(request).mac
        guest = Guest(image, "guest", machine.address, mac, lab.directory)
        guest.start(first.name, first.namespace, is_awaited=False)
        wait_until("the guest answers", lambda: observer.reaches(machine.address), 60)
        spans: list[tuple[float, float, float, float, bool]] = []
        with observing(place_of(observer), machine.address) as (echo, stream, pinging):
            quiet_began = time.time()
            wait_until("it is quiet for a while", lambda: time.time() > quiet_began + 3)
            quiet_ended = time.time()
            for number in range(count):
                source, destination = (
                    lab.hosts[name]
                    for name in (("host-a", "host-b"), ("host-b", "host-a"))[number % 2]
                )
                guest.make_tap(destination.namespace)
                destination.attach(request)
                guest.start(destination.name, destination.namespace, is_awaited=True)
                began = time.time()
                moved = quiet(
                    [
                        *("env", *_pairs(environment(lab.directory, "guest", lab.control_socket))),
                        *(str(Path(sys.executable).parent / "netagent"), "move", machine.path),
                        *("--to", destination.name, "--hook", str(HOOK)),
                    ]
                )
                figures = _FIGURES.search(moved.stdout + moved.stderr)
                if moved.returncode or figures is None:
                    raise AssertionError(f"the move failed:\n{moved.stdout}{moved.stderr}")
                is_connected = echo.works() and stream.goes_on()
                spans.append((began, time.time(), *map(float, figures.groups()), is_connected))
                guest.stop(source.name, source.namespace)
                print(".", end="", file=sys.stderr, flush=True)
            answers = pinging.stop()
    migrations = [
        Migration(downtime, total, answers.gap_ms(began, ended), is_connected)
        for began, ended, downtime, total, is_connected in spans
    ]
    gap_ms = answers.gap_ms(quiet_began, quiet_ended)
    return Outcome(migrations, answers.sent, answers.lost, gap_ms)


def _pairs(variables: dict[str, str]) -> list[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{variables['PATH']}"
    return [f"{name}={value}" for name, value in (variables | {"PATH": path}).items()]


def show(name: str, outcome: Outcome) -> None:
    """Print one way's figures."""
    first, *others = outcome.migrations
    print(f"\n{name}: {len(outcome.migrations)} migrations, {outcome.sent} pings")
    print(f"  pings lost                               {outcome.lost}")
    broken = sum(not each.is_connected for each in outcome.migrations)
    print(f"  migrations after which TCP was dead      {broken}")
    print(f"  longest gap without a migration, ms      {outcome.quiet_gap_ms:.0f}")
    print(
        f"  the first: downtime {first.downtime_ms:.0f}, gap {first.gap_ms:.0f},"
        f" stall beyond downtime {first.stall_ms:.0f} ms"
    )
    if others:
        print("  the others, median (minimum to maximum)")
        print(f"    QEMU's downtime, ms                    {spread(m.downtime_ms for m in others)}")
        print(f"    whole migration, ms                    {spread(m.total_ms for m in others)}")
        print(f"    longest gap around it, ms              {spread(m.gap_ms for m in others)}")
        print(f"    stall beyond downtime, ms              {spread(m.stall_ms for m in others)}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--migrations", type=int, default=10)
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    outcomes = {"netagent": migrate_with_netagent(options.migrations)}
    for name, outcome in outcomes.items():
        show(name, outcome)
    if options.json:
        document = {name: asdict(outcome) for name, outcome in outcomes.items()}
        options.json.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
