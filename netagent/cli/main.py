"""`netagent`: the command's root. Only this package prints."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

import click
from click.exceptions import NoArgsIsHelpError

from netagent.cli.failures import ExitCode, Failure, usage_failure
from netagent.cli.lazy import Lazy, LazyGroup
from netagent.cli.options import examples, root_options

_COMMANDS = {
    "control": Lazy("netagent.cli.control", "control", "Run the control API."),
    "agent": Lazy("netagent.cli.agent", "agent", "Run the agent of this host, or remove its work."),
    "host": Lazy("netagent.cli.host", "host", "The servers of the fleet."),
    "network": Lazy("netagent.cli.network", "network", "Private networks."),
    "machine": Lazy("netagent.cli.machine", "machine", "Machines and their stable addresses."),
    "address": Lazy("netagent.cli.address", "address", "Floating addresses, and who has them."),
    "attach": Lazy("netagent.cli.endpoint", "attach", "Give a machine its interface on this host."),
    "detach": Lazy("netagent.cli.endpoint", "detach", "Take a machine's interface back."),
    "endpoint": Lazy("netagent.cli.endpoint", "endpoint", "Machines attached to this host."),
    "move": Lazy("netagent.cli.move", "move", "Move a machine's address to another host."),
    "moves": Lazy("netagent.cli.move", "moves", "Moves under way and past."),
    "policy": Lazy("netagent.cli.policy", "policy", "Access policies: who may talk to whom."),
    "flows": Lazy("netagent.cli.flows", "flows", "Drops and new flows on this host, with names."),
    "systemd": Lazy("netagent.cli.systemd", "systemd", "Units for the daemons."),
    "status": Lazy("netagent.cli.status", "status", "What this host's agent does and sees."),
}


class Root(LazyGroup):
    """The root; its errors of usage look as all others do."""

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """Parse what stands before the command."""
        with _usage_as_failure():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        """Find, parse and run the command."""
        with _usage_as_failure():
            return super().invoke(ctx)


@contextmanager
def _usage_as_failure() -> Iterator[None]:
    try:
        yield
    except (Failure, NoArgsIsHelpError):
        raise
    except click.ClickException as error:
        raise usage_failure(error) from error


@click.group(
    cls=Root,
    lazy=_COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=examples(
        "netagent network create blue",
        "netagent machine create blue/web --host a --label app=web",
        "netagent attach blue/web --netns /run/netns/web",
        "netagent move blue/web --to b",
        "netagent policy apply blue.yaml --wait",
        "netagent flows --follow --dropped",
        "netagent machine list --output json",
    ),
)
@click.version_option(version("netagent"), prog_name="netagent")
@root_options
def cli() -> None:
    """Private networks whose machines keep their IPv6 address when they move.

    Exit codes: 0 done, 1 refused or failed, 2 wrong usage or value, 3 control or agent cannot be
    reached, 4 not found, 5 conflict (exists already, or changed since it was read).
    """


def main() -> None:
    """Run the command and end the process with its exit code."""
    try:
        code = cli.main(prog_name="netagent", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        code = ExitCode.INTERRUPTED
    sys.exit(code or ExitCode.OK)
