"""script/demo: three hosts, two private networks, five machines, and one of them moves."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import permutations
from pathlib import Path

from integration.demo.moves import MoveUnderTraffic, move_under_traffic
from integration.lab.lab import Lab
from integration.lab.process import NETAGENT

MACHINES = {
    "shop/web": "host-a",
    "shop/api": "host-b",
    "shop/db": "host-c",
    "bank/teller": "host-a",
    "bank/ledger": "host-b",
}
MOVING, PEER = "shop/web", "shop/db"
DESTINATIONS = ("host-b", "host-a", "host-c", "host-b", "host-a")


def main() -> int:
    """Show it all; return 0 when every promise was kept."""
    parser = argparse.ArgumentParser(prog="script/demo", description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there as well")
    parser.add_argument("--keep", action="store_true", help="leave the lab up to explore")
    given = parser.parse_args()
    lab = Lab(f"demo-{os.getpid()}", hosts=3, is_bound=not given.keep)
    heading("Three hosts on a bridge: control, an agent each, WireGuard between them")
    is_kept = False
    try:
        lab.start()
        broken = show(lab, given.json)
        is_kept = given.keep
    except BaseException:
        lab.show_logs()
        raise
    finally:
        if not is_kept:
            lab.stop()
    if is_kept:
        tell_how_to_explore(lab)
    for promise in broken:
        print(f"BROKEN: {promise}", file=sys.stderr)
    return 1 if broken else 0


def show(lab: Lab, report: Path | None) -> list[str]:
    """Show the fleet, who reaches whom, and the moves; return what was not as promised."""
    cli(lab, "host", "list")
    heading("Two private networks with five machines; each has one address for life")
    for network in sorted({path.partition("/")[0] for path in MACHINES}):
        lab.network(network)
    for path, host in MACHINES.items():
        lab.machine(path, host)
    cli(lab, "network", "list")
    cli(lab, "machine", "list")

    heading("Who reaches whom (one ping each): all within a network, nobody between networks")
    reachable = measure_reachability(lab)
    print_matrix(reachable)
    broken = [
        f"{pair} {'is' if does else 'is not'} reachable"
        for pair, does in reachable.items()
        if does is not is_same_network(pair)
    ]

    heading(
        f"{MOVING} moves while it streams to {PEER} (iperf3) and answers 1,000 packets a second"
    )
    moves = list(
        move_under_traffic(
            lab,
            lab.machines[MOVING],
            lab.machines[PEER],
            DESTINATIONS,
            lambda destination: print(f"$ netagent move {MOVING} --to {destination}", flush=True),
        )
    )
    print_moves(moves)
    for number, move in enumerate(moves, 1):
        if not move.is_settled:
            broken.append(f"move {number} to {move.destination} did not settle")
        if not move.is_tcp_alive:
            broken.append(f"move {number} to {move.destination}: the TCP connection died")
    if report is not None:
        report.write_text(json.dumps(as_json(moves, reachable), indent=2) + "\n")
    return broken


def heading(text: str) -> None:
    """Print a line that stands out where it can."""
    bold, plain = ("\033[1m", "\033[0m") if sys.stdout.isatty() else ("", "")
    print(f"\n{bold}== {text}{plain}", flush=True)


def cli(lab: Lab, *arguments: str) -> None:
    """Print a command of netagent's and what it answers."""
    print(f"$ netagent {' '.join(arguments)}", flush=True)
    environment = {**os.environ, "NETAGENT_CONTROL": f"unix://{lab.control_socket}"}
    subprocess.run([NETAGENT, *arguments], check=True, env=environment)
    print()


def measure_reachability(lab: Lab) -> dict[str, bool]:
    """Ping between every two machines; `MACHINE>MACHINE` -> whether it answered."""
    pairs = list(permutations(MACHINES, 2))

    def pings(pair: tuple[str, str]) -> bool:
        return lab.machines[pair[0]].reaches(lab.machines[pair[1]].address)

    for source, destination in pairs:
        if is_same_network(f"{source}>{destination}"):
            lab.machines[source].wait_reaches(lab.machines[destination])
    with ThreadPoolExecutor(len(pairs)) as pool:
        answers = pool.map(pings, pairs)
        return {f"{a}>{b}": answer for (a, b), answer in zip(pairs, answers, strict=True)}


def is_same_network(pair: str) -> bool:
    """Whether the two of `NETWORK/NAME>NETWORK/NAME` are of one network."""
    source, _, destination = pair.partition(">")
    return source.partition("/")[0] == destination.partition("/")[0]


def print_matrix(reachable: dict[str, bool]) -> None:
    """Print from whom (rows) to whom (columns)."""
    width = max(map(len, MACHINES)) + 2
    print("from \\ to".ljust(width), *(name.ljust(width) for name in MACHINES))
    for source in MACHINES:
        words = ["yes" if reachable.get(f"{source}>{other}") else "no" for other in MACHINES]
        cells = ["-" if source == other else w for other, w in zip(MACHINES, words, strict=True)]
        print(source.ljust(width), *(cell.ljust(width) for cell in cells))


def print_moves(moves: list[MoveUnderTraffic]) -> None:
    """Print a line for each move."""
    row = "{:<4} {:<18} {:>11} {:>9} {:>6} {:<22} {:>11} {:>5}"
    print(
        row.format("MOVE", "FROM, TO", "COMMITTED", "SETTLED", "LOST", "WHEN", "LONGEST GAP", "TCP")
    )
    for number, move in enumerate(moves, 1):
        when = "+{:.0f} to +{:.0f} ms".format(*move.lost_at_ms) if move.lost_at_ms else ""
        print(
            row.format(
                number,
                f"{move.source}, {move.destination}",
                f"{move.phases_ms.get('committed', '-')} ms",
                f"{move.phases_ms.get('settled', '-')} ms",
                move.loss.lost,
                when,
                f"{move.loss.gap_ms:.1f} ms",
                "alive" if move.is_tcp_alive else "DEAD",
            )
        )
    total = sum(move.loss.sent for move in moves)
    print(f"lost: of {total} packets, those whose echo never came back; when: since the call")


def as_json(moves: list[MoveUnderTraffic], reachable: dict[str, bool]) -> dict[str, object]:
    """Return the document that --json writes."""
    return {
        "moves": [
            {
                "from": move.source,
                "to": move.destination,
                "lost": move.loss.lost,
                "lost_there": move.loss.lost_there,
                "lost_back": move.loss.lost_back,
                "sent": move.loss.sent,
                "gap_ms": move.loss.gap_ms,
                "tcp_alive": move.is_tcp_alive,
                "phases_ms": move.phases_ms,
            }
            for move in moves
        ],
        "reachable": reachable,
    }


def tell_how_to_explore(lab: Lab) -> None:
    """Print what to type next."""
    heading("The lab stays up")
    print(f"script/lab status --name {lab.name}")
    print(f"script/lab shell host-a --name {lab.name}     # netagent status, wg show, tcpdump, …")
    print(f"script/lab shell shop/web --name {lab.name}   # ping, curl, iperf3, …")
    print(f"script/lab down --name {lab.name}")


if __name__ == "__main__":
    sys.exit(main())
