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
from pathlib import Path

from integration.vm_migration.migrations import (
    migrate_over_plain_wireguard,
    migrate_with_netagent,
)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="integration.vm_migration", description=__doc__)
    parser.add_argument("--migrations", type=int, default=10)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE too")
    options = parser.parse_args()
    print(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}")
    outcomes = {
        "netagent": migrate_with_netagent(options.migrations),
        "plain WireGuard": migrate_over_plain_wireguard(options.migrations),
    }
    for name, outcome in outcomes.items():
        outcome.show(name)
    if options.json:
        document = {name: outcome.as_json() for name, outcome in outcomes.items()}
        options.json.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
