"""`netagent policy diff`: what a new policy would open and close, before anybody applies it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from netagent.cli.failures import ExitCode, Failure, printable
from netagent.cli.options import Shared, control_options, examples, shared
from netagent.cli.output import print_json
from netagent.cli.policy_files import FILE, fleet_option, load_fleet, load_policies
from netagent.policy.changes import ChangeLine, compare_policies

NO_POLICY = "none"


@click.command(
    epilog=examples(
        "netagent policy diff shop-next.yaml",
        "netagent policy diff shop-next.yaml --with ops-next.yaml",
        "netagent policy diff shop.yaml shop-next.yaml --with ops.yaml --fleet fleet.yaml",
        "netagent policy diff none shop.yaml --fleet fleet.yaml   # its first policy",
    )
)
@click.argument("files", nargs=-1, required=True, metavar="[OLD] NEW...")
@click.option(
    "--with",
    "others",
    multiple=True,
    type=FILE,
    metavar="FILE",
    help="The policy of another network, before and after; may be repeated.",
)
@fleet_option
@control_options
@click.pass_context
def diff(
    ctx: click.Context,
    files: tuple[str, ...],
    others: tuple[Path, ...],
    fleet_file: Path | None,
) -> None:
    """Say what opens and what closes, for which machines and ports, when NEW replaces OLD.

    Without --fleet, OLD is left out: NEW is compared with what is in force in control, over the
    machines there. Several NEW files, each of another network, are compared together.

    With --fleet nothing but files is read. OLD is then a file, or the word none where the network
    has no policy yet; further NEW files are first policies of other networks. A network without a
    file has the built-in policy.

    opens, closes: what both ends decide together changes. consents, withdraws: only one network's
    consent changes, and the other denies it all the same. What an audit mode lets pass is open.

    Exit codes: 0 also when there are changes, 1 a file has errors, 2 a file cannot be read, 3
    control cannot be reached.
    """
    options = shared(ctx)
    if fleet_file is None:
        lines = _compare_with_control(options, [Path(each) for each in files], others)
    elif len(files) > 1:
        lines = _compare_files(files[0], [Path(each) for each in files[1:]], others, fleet_file)
    else:
        raise click.UsageError("With --fleet give OLD and NEW; OLD may be the word none.")
    if options.is_json:
        print_json({"changes": [_view(line) for line in lines]})
        return
    for line in lines:
        click.echo(printable(str(line)))
    if not lines:
        click.echo("nothing opens or closes")


def _compare_with_control(
    options: Shared, new: Sequence[Path], others: Sequence[Path]
) -> list[ChangeLine]:
    from netagent.cli.policy_control import read_in_force

    found = read_in_force(options)
    given = load_policies([*new, *others], found.fleet)
    before = found.replaced_by(given[len(new) :])
    return compare_policies(before, found.replaced_by(given), found.fleet)


def _compare_files(
    old: str, new: Sequence[Path], others: Sequence[Path], fleet_file: Path
) -> list[ChangeLine]:
    fleet = load_fleet(fleet_file)
    before = [] if old == NO_POLICY else [Path(old)]
    was = load_policies([*before, *others], fleet)
    will = load_policies([*new, *others], fleet)
    replaced = was[0].network if before else None
    if replaced is not None and all(policy.network != replaced for policy in will):
        message = f"{click.format_filename(old)} is the policy of network {replaced}, and none of"
        raise Failure(f"{message} the new files is; name its successor", ExitCode.USAGE)
    return compare_policies(was, will, fleet)


def _view(line: ChangeLine) -> dict[str, object]:
    return {
        "effect": line.effect.value,
        "from": line.source,
        "to": line.destination,
        "traffic": line.traffic,
        "pairs": line.pairs,
    }
