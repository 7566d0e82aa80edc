"""What both daemons share: settings as flags, their report, the log, and how the process ends."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from netagent.cli.failures import ExitCode, Failure
from netagent.model.errors import ConfigError, NetagentError, UnavailableError
from netagent.settings.fields import SettingField, describe_fields
from netagent.settings.loader import Loaded, Sources, load_settings
from netagent.settings.logging import LEVELS, configure_logging

Config = TypeVar("Config")


def setting_options(
    config: type[Any], helps: Mapping[str, str], only: frozenset[str] | None = None
) -> Callable[[Any], Any]:
    """Return a decorator that adds a flag for each field.

    helps: by key. only: the keys that get a flag; None for all.
    """
    fields = [each for each in describe_fields(config) if only is None or each.key in only]

    def decorate(command: Any) -> Any:
        for field in reversed(fields):
            command = _option(field, helps[field.key])(command)
        return command

    return decorate


def _option(field: SettingField, text: str) -> Callable[[Any], Any]:
    name = f"--{field.key.replace('_', '-')}"
    if field.is_required:
        text = f"{text} Required."
    elif field.default is not None:
        shown = str(field.default).lower() if field.is_flag else str(field.default)
        text = f"{text} (default {shown})"
    if field.is_flag:
        return click.option(f"{name}/--no-{name[2:]}", field.key, default=None, help=text)
    return click.option(name, field.key, metavar=field.kind.metavar, default=None, help=text)


def config_option(default: str) -> Callable[[Any], Any]:
    """Return a decorator that adds --config."""
    return click.option(
        "--config",
        "config_file",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help=f"TOML file of settings (default {default}, when it exists).",
    )


log_level_option = click.option(
    "--log-level", type=click.Choice(LEVELS), default="info", show_default=True
)


def pick_file(given: Path | None, default: str) -> Path | None:
    """Return the file to read: the one that was given, or the default one if it exists."""
    if given is None and Path(default).exists():
        return Path(default)
    return given


def load_or_fail(config: type[Config], sources: Sources) -> Loaded[Config]:
    """Return the settings; Failure with a line for each thing that is wrong."""
    try:
        return load_settings(config, sources)
    except ConfigError as error:
        raise Failure(str(error), ExitCode.USAGE) from error


def run_daemon(run: Coroutine[Any, Any, None], log_level: str) -> None:
    """Run a daemon to its end; Failure for what it could not start with or was ended by."""
    configure_logging(log_level)
    try:
        asyncio.run(run)
    except BaseExceptionGroup as group:
        expected, other = group.split(NetagentError)
        if expected is None or other is not None:
            raise
        raise Failure("\n".join(map(str, _leaves(expected)))) from group
    except NetagentError as error:
        raise fail(error) from error
    except OSError as error:
        raise system_failure(error) from error


def fail(error: NetagentError) -> Failure:
    """Return the Failure that stands for an error of ours."""
    if isinstance(error, ConfigError):
        return Failure(str(error), ExitCode.USAGE)
    if isinstance(error, UnavailableError):
        return Failure(str(error), ExitCode.UNREACHABLE)
    return Failure(str(error))


def system_failure(error: OSError) -> Failure:
    """Return the Failure for what the system refuses: a path that cannot be used, or not by us."""
    what = error.filename or "the kernel's network"
    needs_root = isinstance(error, PermissionError) and os.geteuid() != 0
    hint = "; run this as root" if needs_root else ""
    return Failure(f"cannot use {what}: {error.strerror}{hint}")


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    found: list[BaseException] = []
    for error in group.exceptions:
        found += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found
