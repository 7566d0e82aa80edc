"""The fleet of the demonstration, and what its machines must and must not reach."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import permutations

from integration.lab.lab import Lab

MACHINES = {
    "shop/web": "host-a",
    "shop/api": "host-b",
    "shop/db": "host-c",
    "bank/teller": "host-a",
    "bank/ledger": "host-b",
}
MOVING, PEER = "shop/web", "shop/db"
DESTINATIONS = ("host-b", "host-a", "host-c", "host-b", "host-a")
"""There and back, next to the peer (local delivery, no mesh), and home by another way."""


def network_of(machine: str) -> str:
    """Return the network of NETWORK/NAME."""
    return machine.partition("/")[0]


def make_machines(lab: Lab) -> None:
    """Create networks and machines, and attach each machine on its host."""
    for network in sorted({network_of(machine) for machine in MACHINES}):
        lab.network(network)
    for machine, host in MACHINES.items():
        lab.machine(machine, host, {"app": machine.partition("/")[2]})


def measure_reachability(lab: Lab) -> dict[str, bool]:
    """Ping between every two machines; `MACHINE>MACHINE` -> whether it answered.

    Waits first for what must be reachable: WireGuard's handshakes take a moment.
    """
    pairs = list(permutations(MACHINES, 2))
    machines = lab.machines
    for source, destination in pairs:
        if network_of(source) == network_of(destination):
            machines[source].wait_reaches(machines[destination])

    def pings(pair: tuple[str, str]) -> bool:
        return machines[pair[0]].reaches(machines[pair[1]].address)

    with ThreadPoolExecutor(len(pairs)) as pool:
        answers = pool.map(pings, pairs)
        return {f"{a}>{b}": answer for (a, b), answer in zip(pairs, answers, strict=True)}


def find_broken_promises(reachable: Mapping[str, bool]) -> list[str]:
    """Return a sentence for each pair that is reachable and must not be, or the other way."""
    broken = []
    for pair, is_reachable in reachable.items():
        source, _, destination = pair.partition(">")
        if is_reachable is not (network_of(source) == network_of(destination)):
            verb = "reaches" if is_reachable else "does not reach"
            broken.append(f"{source} {verb} {destination}")
    return broken


def count_drops(lab: Lab) -> dict[str, dict[str, int]]:
    """Return dropped packets by verdict for each host, without what guests send of themselves."""
    return {
        name: {
            verdict: packets
            for verdict, packets in host.counters().items()
            if verdict.startswith("drop_") and verdict != "drop_link_local"
        }
        for name, host in lab.hosts.items()
    }


def drops_since(
    before: Mapping[str, Mapping[str, int]], after: Mapping[str, Mapping[str, int]]
) -> dict[str, dict[str, int]]:
    """Return by host and verdict what was dropped in between."""
    found = {
        host: {
            verdict: packets - before[host].get(verdict, 0)
            for verdict, packets in verdicts.items()
            if packets > before[host].get(verdict, 0)
        }
        for host, verdicts in after.items()
    }
    return {host: verdicts for host, verdicts in found.items() if verdicts}
