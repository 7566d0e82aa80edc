"""`netagent systemd`: units for the daemons, with the path of this very installation."""

from __future__ import annotations

import subprocess
import sysconfig
from pathlib import Path

import click

from netagent.cli.daemon import system_failure
from netagent.cli.failures import Failure
from netagent.cli.options import examples
from netagent.cli.output import print_json
from netagent.systemd.units import DAEMONS, install_units, remove_units, render_unit, unit_name

BOOTED = Path("/run/systemd/system")
"""There when systemd runs this system, see sd_booted(3)."""

_daemons = click.argument(
    "daemons", nargs=-1, metavar="[control] [agent]", type=click.Choice(DAEMONS)
)
_root = click.option(
    "--root",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    default="/",
    metavar="DIRECTORY",
    help="The root of an image that is being built; systemd is not told then.",
)
_output = click.option("--output", "-o", type=click.Choice(["table", "json"]), default="table")


@click.group()
def systemd() -> None:
    """Install units for the daemons, which then start with the host and come back when they end."""


@systemd.command(
    epilog=examples(
        "netagent systemd install agent && systemctl enable --now netagent-agent",
        "netagent systemd install control && systemctl enable --now netagent-control",
        "netagent systemd install agent --root /mnt/image",
    )
)
@_daemons
@_root
@_output
def install(daemons: tuple[str, ...], root: Path, output: str) -> None:
    """Write the units (both, unless named) to /etc/systemd/system; starts nothing. Needs root.

    Settings are read from /etc/netagent/agent.toml and control.toml. What is particular to a host
    goes into a drop-in (systemctl edit netagent-agent), which an upgrade leaves alone.
    """
    wanted = daemons or DAEMONS
    try:
        changed = install_units(wanted, _own_command(), root)
    except OSError as error:
        raise system_failure(error) from error
    _report("changed", changed, "unchanged", output)
    _reload(changed, root)
    names = " ".join(unit_name(daemon) for daemon in wanted)
    click.echo(f"next: systemctl enable --now {names}", err=True)


@systemd.command(epilog=examples("netagent systemd remove agent"))
@_daemons
@_root
@_output
def remove(daemons: tuple[str, ...], root: Path, output: str) -> None:
    """Remove the units (both, unless named); stop and disable them before. Needs root."""
    try:
        removed = remove_units(daemons or DAEMONS, root)
    except OSError as error:
        raise system_failure(error) from error
    _report("removed", removed, "nothing to remove", output)
    _reload(removed, root)


@systemd.command(epilog=examples("netagent systemd show agent"))
@click.argument("daemon", type=click.Choice(DAEMONS))
@_output
def show(daemon: str, output: str) -> None:
    """Print a unit as `install` writes it."""
    text = render_unit(daemon, _own_command())
    if output == "json":
        print_json({"name": unit_name(daemon), "text": text})
    else:
        click.echo(text, nl=False)


def _own_command() -> Path:
    """Return the path of `netagent` that belongs to this installation."""
    return Path(sysconfig.get_path("scripts")) / "netagent"


def _report(what: str, paths: list[Path], otherwise: str, output: str) -> None:
    if output == "json":
        print_json({what: [str(path) for path in paths]})
        return
    for line in [str(path) for path in paths] or [otherwise]:
        click.echo(line)


def _reload(changed: list[Path], root: Path) -> None:
    """Have systemd read the units again, if it runs this very system."""
    if changed and root == Path("/") and BOOTED.exists():
        try:
            subprocess.run(["systemctl", "daemon-reload"], check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise Failure(f"systemd was not told: {error}; systemctl daemon-reload") from error
