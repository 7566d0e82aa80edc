"""Prints the figures; see script/bench."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
from dataclasses import asdict
from pathlib import Path
from typing import Any

from integration.bench import policy_programs, policy_traffic
from integration.bench.alternatives import Alternatives
from integration.bench.compile import EMPTY
from integration.bench.figures import Spread, ratios, spread
from integration.bench.moves import ADDRESSES_PER_HOST, MoveFigures, measure_moves, measure_wg_set
from integration.bench.programs import measure_programs
from integration.bench.throughput import Way, interleave
from integration.lab.lab import Lab
from integration.vm_migration.migrations import measure_live


def main() -> None:
    """Measure and print, and write JSON where asked to."""
    parser = argparse.ArgumentParser(prog="script/bench", description=__doc__)
    parser.add_argument("part", choices=("fleet", "policy", "live"))
    parser.add_argument("--json", type=Path, metavar="FILE", help="add the figures to FILE")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter runs")
    options = parser.parse_args()
    rounds, seconds, moves = (3, 2, 6) if options.quick else (12, 2, 30)
    load = os.getloadavg()[0]
    print(
        f"WireGuard: {_wireguard()}; Linux {os.uname().release},"
        f" {os.cpu_count()} processors, load {load:.1f}"
    )
    if options.part == "fleet":
        figures = _measure_fleet(rounds, seconds, moves)
    elif options.part == "policy":
        figures = _measure_policy(3 if options.quick else 8)
    else:
        figures = {"live": measure_live(4 if options.quick else 10)}
    if options.json:
        before = json.loads(options.json.read_text()) if options.json.exists() else {}
        options.json.write_text(json.dumps(before | figures, indent=2) + "\n")


def _measure_policy(rounds: int) -> dict[str, Any]:
    print("\nprograms by the size of the policy, without a network; median (minimum to maximum)")
    programs = policy_programs.measure_policies(rounds, packets=5_000)
    print("\n".join(policy_programs.describe(programs)))
    print("\nreal packets by the size of the policy, and nftables; median (minimum to maximum)")
    traffic = policy_traffic.measure_traffic(rounds, packets=10_000)
    print("\n".join(policy_traffic.describe(traffic)))
    return {
        "policy_programs_ns": policy_programs.as_json(programs),
        "policy_traffic_ns": policy_traffic.as_json(traffic),
    }


def _measure_fleet(rounds: int, seconds: int, moves: int) -> dict[str, Any]:
    with Lab(hosts=3) as lab, Alternatives() as alternatives:
        lab.network("bench")
        print("TCP from machine to machine, in turn:")
        mbit = interleave(_ways(lab, alternatives), rounds, seconds)
        print("eBPF programs under real traffic, 64-byte UDP:")
        programs = measure_programs(lab, rounds, seconds)
        print(f"{moves} moves under 1,000 packets/s:")
        figures = measure_moves(lab, moves)
        wg_set_ms = measure_wg_set(alternatives, rounds)
    plain = ratios(mbit["netagent"], mbit["plain WireGuard"])
    vxlan = ratios(mbit["netagent"], mbit["VXLAN over WireGuard"])
    _show(plain, vxlan, programs, figures, wg_set_ms)
    return {
        "wireguard": _wireguard(),
        "tcp_ratio_vs_plain_wireguard": plain.as_json(),
        "tcp_ratio_vs_vxlan": vxlan.as_json(),
        "tcp_mbit": {name: spread(values).as_json() for name, values in mbit.items()},
        "ns_per_packet": {name: value.as_json() for name, value in programs.items()},
        "move": _as_json(figures),
        "wg_set_ms": wg_set_ms.as_json(),
    }


def _ways(lab: Lab, alternatives: Alternatives) -> list[Way]:
    client = lab.machine("bench/client", "host-a")
    server = lab.machine("bench/server", "host-b")
    client.wait_reaches(server)
    routed, bridged = alternatives.routed, alternatives.bridged
    return [
        Way("netagent", client.namespace, server.namespace, server.address),
        Way("plain WireGuard", routed[0], routed[1], alternatives.routed_address(1)),
        Way("VXLAN over WireGuard", bridged[0], bridged[1], alternatives.bridged_address(1)),
    ]


def _show(
    plain: Spread,
    vxlan: Spread,
    programs: dict[str, Spread],
    figures: MoveFigures,
    wg_set_ms: Spread,
) -> None:
    print("\nmedian (minimum to maximum)")
    print(f"  TCP, netagent / plain routed WireGuard   {plain}")
    print(f"  TCP, netagent / VXLAN over WireGuard     {vxlan}")
    for name, ns in sorted(programs.items(), key=lambda item: item[1].median):
        above = ns.median - programs[EMPTY].median
        note = "" if name == EMPTY else f"   {above:.0f} above the empty program"
        print(f"  ns a packet, {name:<12}                {ns}{note}")
    print(f"  move, call to commit, ms                 {figures.commit_ms}")
    print(f"  move, call to settled, ms                {figures.settle_ms}")
    print(f"  longest gap around a move, ms            {figures.gap_ms}")
    print(f"  longest gap without a move, ms           {figures.quiet_gap_ms}")
    print(f"  round trips lost                         {figures.lost} of {figures.sent}")
    print(f"  map writes on a bystander, a move        {figures.writes_per_host}")
    print("    (one to prepare, one to commit, one to settle)")
    print(f"  one `wg set` with {ADDRESSES_PER_HOST} addresses, ms       {wg_set_ms}")
    print("    (two of these on every host, for each move)")


def _as_json(figures: MoveFigures) -> dict[str, Any]:
    return {
        key: Spread(**value).as_json() if isinstance(value, dict) else value
        for key, value in asdict(figures).items()
    }


def _wireguard() -> str:
    query = ["dpkg-query", "-W", "-f", "wireguard-go ${Version}", "wireguard-go"]
    done = subprocess.run(query, capture_output=True, text=True, check=False)
    return done.stdout or "wireguard-go of unknown version"


if __name__ == "__main__":
    main()
