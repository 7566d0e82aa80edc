"""What a policy costs real packets, by its size, and what nftables costs the same packets.

    python -m integration.bench.policy_traffic [--rounds 6] [--packets 20000]

From namespace to namespace: 64-byte UDP over the host between them, in processor time of the
sender, which does all of it: sending, forwarding, nftables or our programs, receiving. On the way
to another host: from_machine and from_mesh by the kernel's own statistics. Everything is measured
in turn. Without pairs, the default decides.
"""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass

from integration.bench.compile import EMPTY
from integration.bench.figures import ratios, spread
from integration.bench.frames import Road, open_receivers
from integration.bench.policy_nftables import routed, write_rules, write_set
from integration.bench.programs import attach_empty, read_statistics
from integration.lab.lab import Lab
from integration.lab.machine import Machine
from integration.lab.policies import apply_policy
from netagent.api.control.v1 import machine_service_pb2 as machine_pb
from netagent.api.control.v1.machine_service_pb2_grpc import MachineServiceStub
from netagent.dataplane import libbpf
from netagent.model.addresses import GATEWAY_MAC

SIDES = {10: 3, 1_000: 32, 100_000: 317}
"""Pairs, about, and how many label sets make them."""
SIZES = (0, *SIDES)
ESTABLISHED, FIRST = "established", "first packet"
FORWARDING = "forwarding alone"
RULES_MAX = 1_000
"""Of nftables one after the other; 100,000 take milliseconds for a packet."""

_CROWD = 250
_NAMED = ("sender", "near", "far")


@dataclass(frozen=True, slots=True)
class Case:
    """A way or a program with so many pairs, elements or rules, on packets of a kind."""

    name: str
    size: int
    kind: str


Figures = dict[Case, list[float]]


class _Fleet:
    """Two hosts, three machines and hundreds of label sets."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        lab.network("bench")
        hosts = ("host-a", "host-a", "host-b")
        self.machines = [
            lab.machine(f"bench/{name}", host, _labels(number))
            for number, (name, host) in enumerate(zip(_NAMED, hosts, strict=True))
        ]
        stub = MachineServiceStub(lab.channel)
        for number in range(len(_NAMED), max(SIDES.values())):
            request = machine_pb.CreateMachineRequest(
                network="bench", name=f"m-{number}", labels=_labels(number), host="host-b"
            )
            stub.CreateMachine(request)
        sender, near, far = self.machines
        sender.wait_reaches(near)
        sender.wait_reaches(far)
        attach_empty(sender)
        self.local, self.remote = self._road(near), self._road(far)

    def turn_to(self, size: int) -> None:
        """Bring the policy of a size in force."""
        apply_policy(self._lab, _write_policy(size))

    def time_programs(self, frames: list[bytes]) -> dict[str, float]:
        """Return ns a run of each program while frames go to the other host."""
        hosts = [host.namespace for host in self._lab.hosts.values()]
        before = read_statistics(hosts)
        for at in range(0, len(frames), _CROWD):
            with suppress(AssertionError):  # encryption in user space loses some: no matter here
                self.remote.time(frames[at : at + _CROWD], timeout_s=0.5)
        found = {}
        for name, (runs, ns) in read_statistics(hosts).items():
            runs_before, ns_before = before.get(name, (0, 0))
            if runs - runs_before > len(frames) // 2:
                found[name] = (ns - ns_before) / (runs - runs_before)
        return found

    def _road(self, to: Machine) -> Road:
        sender = self.machines[0]
        return Road(sender.namespace, sender.address, GATEWAY_MAC, to.namespace, to.address)


def measure_traffic(rounds: int, packets: int) -> Figures:
    """Return ns a packet in each round, by case. Needs root; nftables only where `nft` is."""
    found: Figures = {}
    with ExitStack() as stack:
        fleet = _Fleet(stack.enter_context(Lab(hosts=2)))
        for machine in fleet.machines[1:]:
            for receiver in open_receivers(machine.namespace, machine.address):
                stack.callback(receiver.close)
        alternatives = {FORWARDING: stack.enter_context(routed(None))}
        if shutil.which("nft"):
            for size in SIDES:
                alternatives[f"nftables set {size}"] = stack.enter_context(routed(write_set(size)))
                if size <= RULES_MAX:
                    road = stack.enter_context(routed(write_rules(size)))
                    alternatives[f"nftables rules {size}"] = road
        for number in range(rounds):
            for name, road in alternatives.items():
                way, _, size_text = name.rpartition(" ")
                key = (way, int(size_text)) if size_text.isdigit() else (name, 0)
                _add(found, key, lambda frames, road=road: road.time(frames), road, number, packets)
            for size in SIZES:
                fleet.turn_to(size)
                local = fleet.local
                _add(found, ("netagent", size), local.time, local, number, packets)
                _add_programs(found, fleet, size, number, packets // 4)
    return found


def _add(
    found: Figures,
    key: tuple[str, int],
    time: Callable[[list[bytes]], float],
    road: Road,
    number: int,
    packets: int,
) -> None:
    """Add the figures of a way in a round. Flow 0 is established; no other was used before."""
    established = road.frames(0, 1)
    time(established)
    found.setdefault(Case(*key, ESTABLISHED), []).append(time(established * packets))
    new = road.frames(1 + (number * len(SIZES) + _place(key[1])) * packets, packets)
    found.setdefault(Case(*key, FIRST), []).append(time(new))


def _add_programs(found: Figures, fleet: _Fleet, size: int, number: int, packets: int) -> None:
    first = 1 + (number * len(SIZES) + _place(size)) * packets
    kinds = {
        ESTABLISHED: fleet.remote.frames(0, 1) * packets,
        FIRST: fleet.remote.frames(first, packets),
    }
    fleet.time_programs(fleet.remote.frames(0, 1))
    statistics = libbpf.enable_statistics()
    try:
        for kind, frames in kinds.items():
            for name, ns in fleet.time_programs(frames).items():
                found.setdefault(Case(name, size, kind), []).append(ns)
    finally:
        os.close(statistics)


def _place(size: int) -> int:
    return SIZES.index(size)


def _labels(number: int) -> dict[str, str]:
    sizes = {f"of-{pairs}": "yes" for pairs, side in SIDES.items() if number < side}
    return {"number": f"n-{number}", **sizes}


def _write_policy(size: int) -> str:
    if not size:
        return "network: bench\ndefault: allow\n"
    selector = f"{{labels: {{of-{size}: yes}}}}"
    rule = f"{{name: some, from: {selector}, to: {selector}, allow: [udp, tcp/1-1023, icmp6]}}"
    return f"network: bench\ndefault: deny\nrules:\n  - {rule}\n"


def describe(figures: Figures) -> list[str]:
    """Return lines for people: ns, and the ratio to the same without a policy."""
    lines = []
    for kind in (ESTABLISHED, FIRST):
        lines.append(f"{kind}, ns of processor time from namespace to namespace:")
        plain = figures[Case(FORWARDING, 0, kind)]
        for case, ns in figures.items():
            if case.kind == kind and not case.name.startswith("from_") and case.name != EMPTY:
                size = f"{case.size:,}" if case.size else ""
                ratio = ratios(ns, plain)
                lines.append(f"  {case.name:<18}{size:>8}  {spread(ns)}; to forwarding {ratio}")
        lines.append(f"{kind}, ns of a program on the way to another host:")
        for case, ns in figures.items():
            if case.kind == kind and case.name.startswith("from_"):
                above = spread(
                    a - b for a, b in zip(ns, figures[Case(EMPTY, case.size, kind)], strict=True)
                )
                ratio = ratios(ns, figures[Case(case.name, 0, kind)])
                name = f"{case.name:<18}{case.size or 'none':>8}"
                lines.append(f"  {name}  {spread(ns)}; {above} above empty; to none {ratio}")
    return lines


def as_json(figures: Figures) -> dict[str, dict[str, float]]:
    """Return each case's spread by its name."""
    return {
        f"{case.name}, {case.size}, {case.kind}": spread(ns).as_json()
        for case, ns in figures.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--packets", type=int, default=20_000)
    given = parser.parse_args()
    print("\n".join(describe(measure_traffic(given.rounds, given.packets))))


if __name__ == "__main__":
    main()
