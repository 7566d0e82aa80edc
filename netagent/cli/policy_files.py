"""Policy and fleet files on their way in: bytes from disk, and what is wrong with them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import BinaryIO

import click

from netagent.cli.failures import ExitCode, Failure
from netagent.model.errors import PolicyError, Problem
from netagent.policy.document import MAX_BYTES
from netagent.policy.fleet import FleetSnapshot
from netagent.policy.fleet_file import parse_fleet
from netagent.policy.language import Policy
from netagent.policy.reading import try_load

FILE = click.Path(path_type=Path, allow_dash=True)

STDIN = Path("-")
STDIN_NAME = "stdin"


fleet_option = click.option(
    "--fleet",
    "fleet_file",
    type=FILE,
    metavar="FILE",
    help="Work offline, with the networks, machines and labels of this file, as `netagent policy"
    " snapshot` prints them.",
)


def read_files(paths: Sequence[Path]) -> list[tuple[str, bytes]]:
    """Return name and content of each file; Failure that names all that cannot be read.

    `-` is standard input, and is called stdin.
    """
    found: list[tuple[str, bytes]] = []
    complaints: list[str] = []
    if paths.count(STDIN) > 1:
        complaints.append("- is named more than once, and standard input can be read only once")
    for path in paths:
        name = STDIN_NAME if path == STDIN else click.format_filename(path)
        try:
            with _open(path) as file:
                content = file.read(MAX_BYTES + 1)
        except (OSError, ValueError) as error:
            complaints.append(f"{name}: {getattr(error, 'strerror', None) or error}")
            continue
        if len(content) > MAX_BYTES:
            complaints.append(f"{name}: is larger than {MAX_BYTES:,} bytes, the most that is read")
        found.append((name, content))
    if complaints:
        raise Failure("\n".join(complaints), ExitCode.USAGE)
    return found


def _open(path: Path) -> AbstractContextManager[BinaryIO]:
    return nullcontext(sys.stdin.buffer) if path == STDIN else path.open("rb")


def load_fleet(path: Path) -> FleetSnapshot:
    """Return the fleet of a file; Failure with everything that is wrong with it."""
    ((name, content),) = read_files([path])
    try:
        return parse_fleet(content, name)
    except PolicyError as error:
        raise Failure(str(error)) from error


def load_policies(paths: Sequence[Path], fleet: FleetSnapshot) -> list[Policy]:
    """Return the policy of each file, of different networks; Failure with all that is wrong.

    Tests are not run: `netagent policy check` does that.
    """
    policies: dict[str, Policy] = {}
    problems: list[Problem] = []
    for name, content in read_files(paths):
        policy, found = try_load(content, name, fleet)
        problems += found
        if policy is None:
            continue
        first = policies.setdefault(policy.network, policy)
        if first is not policy:
            message = f"network {policy.network!r} has another policy at {first.span}"
            problems.append(Problem(policy.span, message, "one file for each network"))
    if problems:
        raise Failure(str(PolicyError(problems)))
    return list(policies.values())
