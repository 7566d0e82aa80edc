"""Three hosts, two networks, five machines: one moves while it talks, and a policy is at work.

Everything is real but the hosts, which are network namespaces: control, agents, WireGuard, eBPF.
Exits with 1 when a promise does not hold: who reaches whom, or a TCP connection that dies.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from pathlib import Path

from integration.demo.fleet import (
    DESTINATIONS,
    MOVING,
    PEER,
    count_drops,
    drops_since,
    find_broken_promises,
    make_machines,
    measure_reachability,
)
from integration.demo.moves import as_json, traffic
from integration.demo.policy import show_policy
from integration.demo.screen import Screen
from integration.lab.kept import directory_of
from integration.lab.lab import Lab

KEPT_NAME = "demo"
EXIT_INTERRUPTED = 130


def main() -> int:
    """Show it all; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="script/demo",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")
    parser.add_argument("--keep", action="store_true", help="leave the lab up, for script/lab")
    given = parser.parse_args()
    name = KEPT_NAME if given.keep else f"demo-{os.getpid()}"
    if directory_of(name).exists():
        parser.error(f"a lab {name} is there already; script/lab down --name {name} ends it")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    lab = Lab(name, hosts=3, is_bound=not given.keep)
    is_kept = False
    try:
        broken = show(lab, Screen(), given.json)
        is_kept = given.keep
    except KeyboardInterrupt:
        print("\ninterrupted: ending the lab", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BaseException:
        lab.show_logs()
        raise
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        if not is_kept:
            lab.stop()
    if is_kept:
        print(HOW_TO_EXPLORE)
    return 1 if broken else 0


def show(lab: Lab, screen: Screen, report: Path | None) -> list[str]:
    """Show the fleet, who reaches whom, and the moves; return what was not as promised."""
    screen.title("netagent: addresses that move, on three hosts of this machine")
    screen.chapter("Three hosts: an agent on each, control, WireGuard between them")
    lab.start()
    screen.netagent(lab, "host", "list")

    screen.chapter("Two private networks, five machines; each has one address for life")
    make_machines(lab)
    screen.netagent(lab, "network", "list")
    screen.netagent(lab, "machine", "list")

    screen.chapter("Who reaches whom: everybody within a network, nobody across")
    before = count_drops(lab)
    reachable = measure_reachability(lab)
    screen.matrix(reachable)
    screen.drops("Refused, as the hosts counted it", drops_since(before, count_drops(lab)))
    broken = find_broken_promises(reachable)

    screen.chapter(f"{MOVING} moves five times, while it talks to {PEER}")
    screen.say(
        "[dim]Traffic: one iperf3 connection of 50 Mbit/s, and 1,000 numbered packets a second with"
        " their echoes.\nLost: packets to the machine, echoes on the way back. Gap: the longest"
        " time without an echo; the first line\nis what this machine shows without any move.[/]"
    )
    with traffic(lab, lab.machines[MOVING], lab.machines[PEER]) as flowing:
        quiet = flowing.stay()
        screen.move_header(quiet)
        moves = []
        for number, destination in enumerate(DESTINATIONS, 1):
            moves.append(flowing.move(destination))
            screen.move(number, moves[-1])
    for move in moves:
        broken += move.broken_promises
    sent = sum(move.loss.sent for move in moves)
    lost = sum(move.loss.lost for move in moves)
    screen.say(f"{len(moves)} moves, {sent} packets and echoes: {lost} lost")
    screen.netagent(lab, "machine", "get", MOVING)

    screen.chapter("A policy for shop: what it opens, what it drops and why, and what it revokes")
    broken += show_policy(lab, screen)

    if report is not None:
        report.write_text(json.dumps(as_json(quiet, moves, reachable), indent=2) + "\n")
    screen.end(broken, report)
    return broken


HOW_TO_EXPLORE = f"""
The lab stays up:
  script/lab status --name {KEPT_NAME}
  script/lab shell --name {KEPT_NAME} host-a     # netagent status, wg show, tcpdump, …
  script/lab shell --name {KEPT_NAME} {MOVING}   # ping, iperf3, …
  script/lab down --name {KEPT_NAME}"""


if __name__ == "__main__":
    sys.exit(main())
