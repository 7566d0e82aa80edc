"""`netagent policy diff`: what a new policy would open and close, before anybody applies it."""

from __future__ import annotations

from pathlib import Path

import click

from netagent.cli.failures import ExitCode, Failure, printable
from netagent.cli.options import examples, offline_options, shared
from netagent.cli.output import print_json
from netagent.cli.policy_files import FILE, fleet_option, load_fleet, load_policies
from netagent.policy.changes import ChangeLine, compare_policies

NO_POLICY = "none"


@click.command(
    epilog=examples(
        "netagent policy diff shop.yaml shop-next.yaml --fleet fleet.yaml",
        "netagent policy diff shop.yaml shop-next.yaml --with ops.yaml --fleet fleet.yaml",
        "netagent policy diff none shop.yaml --fleet fleet.yaml   # its first policy",
    )
)
@click.argument("old", metavar="OLD")
@click.argument("new", nargs=-1, required=True, type=FILE, metavar="NEW...")
@click.option(
    "--with",
    "others",
    multiple=True,
    type=FILE,
    metavar="FILE",
    help="The policy of another network, which stays as it is; may be repeated.",
)
@fleet_option(required=True)
@offline_options
@click.pass_context
def diff(
    ctx: click.Context,
    old: str,
    new: tuple[Path, ...],
    others: tuple[Path, ...],
    fleet_file: Path,
) -> None:
    """Say what opens and what closes, for which machines and ports, when NEW replaces OLD.

    OLD is a file, or the word none where the network has no policy yet. Further NEW files are first
    policies of other networks. A network of the fleet without a file has the built-in policy.

    opens, closes: what both ends decide together changes. consents, withdraws: only one network's
    consent changes, and the other denies it all the same. What an audit mode lets pass is open.

    Works offline. This release compares policies and does not enforce them yet. Exit codes: 0 also
    when there are changes, 1 a file has errors, 2 a file cannot be read.
    """
    fleet = load_fleet(fleet_file)
    before = [] if old == NO_POLICY else [Path(old)]
    was = load_policies([*before, *others], fleet)
    will = load_policies([*new, *others], fleet)
    replaced = was[0].network if before else None
    if replaced is not None and all(policy.network != replaced for policy in will):
        message = f"{click.format_filename(old)} is the policy of network {replaced}, and none of"
        raise Failure(f"{message} the new files is; name its successor", ExitCode.USAGE)
    lines = compare_policies(was, will, fleet)
    if shared(ctx).is_json:
        print_json({"changes": [_view(line) for line in lines]})
        return
    for line in lines:
        click.echo(printable(str(line)))
    if not lines:
        click.echo("nothing opens or closes")


def _view(line: ChangeLine) -> dict[str, object]:
    return {
        "effect": line.effect.value,
        "from": line.source,
        "to": line.destination,
        "traffic": line.traffic,
        "pairs": line.pairs,
    }
