"""The options that all commands share, accepted before and after the command's name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

CONTROL_DEFAULT = "unix:///run/netagent/control.sock"
AGENT_SOCKET_DEFAULT = "/run/netagent/agent.sock"
TIMEOUT_DEFAULT_S = 10.0


@dataclass(slots=True)
class Shared:
    """What the shared options say; the last one on the command line wins.

    timeout_s: of one call; None when not given, so that a command may have its own default.
    """

    control: str = CONTROL_DEFAULT
    agent_socket: Path = Path(AGENT_SOCKET_DEFAULT)
    timeout_s: float | None = None
    output: str = "table"

    @property
    def is_json(self) -> bool:
        """Whether programs read what is printed."""
        return self.output == "json"


def shared(ctx: click.Context) -> Shared:
    """Return the shared options of this invocation."""
    return ctx.ensure_object(Shared)


def _store(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
    if value is not None:
        setattr(shared(ctx), str(param.name), value)
    return value


def _options(*, has_environment: bool) -> dict[str, Callable[[Any], Any]]:
    # The environment is read once, for the options before the command, so that it never overrides
    # what was given there.
    def option(*names: str, envvar: str | None = None, **kwargs: Any) -> Callable[[Any], Any]:
        variable = envvar if has_environment else None
        return click.option(
            *names, envvar=variable, callback=_store, expose_value=False, default=None, **kwargs
        )

    return {
        "control": option(
            "--control",
            metavar="TARGET",
            envvar="NETAGENT_CONTROL",
            help="Control's address: unix:///PATH or ADDRESS:PORT (environment NETAGENT_CONTROL,"
            f" default {CONTROL_DEFAULT}).",
        ),
        "agent_socket": option(
            "--agent-socket",
            metavar="PATH",
            type=click.Path(path_type=Path),
            envvar="NETAGENT_AGENT_SOCKET",
            help="Socket of this host's agent (environment NETAGENT_AGENT_SOCKET, default"
            f" {AGENT_SOCKET_DEFAULT}).",
        ),
        "timeout": option(
            "--timeout",
            "timeout_s",
            metavar="SECONDS",
            type=click.FloatRange(min=0, min_open=True),
            help=f"Give up a call after this long (default {TIMEOUT_DEFAULT_S:g};"
            " to move, assign or apply: 60).",
        ),
        "output": option(
            "--output",
            "-o",
            type=click.Choice(["table", "json"]),
            help="Tables for people (default) or JSON for programs.",
        ),
    }


def _apply(names: tuple[str, ...], *, has_environment: bool) -> Callable[[Any], Any]:
    made = _options(has_environment=has_environment)

    def decorate(command: Any) -> Any:
        for name in reversed(names):
            command = made[name](command)
        return command

    return decorate


root_options = _apply(("control", "agent_socket", "timeout", "output"), has_environment=True)
control_options = _apply(("control", "timeout", "output"), has_environment=False)
agent_options = _apply(("agent_socket", "timeout", "output"), has_environment=False)
offline_options = _apply(("output",), has_environment=False)


def examples(*lines: str) -> str:
    """Return an epilog that click prints as it is."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)
