"""Trouble that was to be expected: exit codes, and gRPC statuses in words that say what to do."""

from __future__ import annotations

import enum
from typing import IO, Any

import click


class ExitCode(enum.IntEnum):
    """What the process ends with; documented in docs/cli.md."""

    OK = 0
    FAILED = 1
    USAGE = 2
    UNREACHABLE = 3
    NOT_FOUND = 4
    CONFLICT = 5
    INTERRUPTED = 130


class Failure(click.ClickException):
    """Ends the command with a message on standard error and an exit code."""

    def __init__(self, message: str, code: ExitCode = ExitCode.FAILED) -> None:
        super().__init__(message)
        # click declares one code a class and reads it from the instance.
        self.exit_code = int(code)  # type: ignore[misc]

    def show(self, file: IO[Any] | None = None) -> None:
        """Print each line of the message after `error:`, without control characters."""
        for line in self.message.splitlines() or ["failed"]:
            click.echo(f"error: {printable(line)}", file=file, err=True)


def usage_failure(error: click.ClickException) -> Failure:
    """Return the Failure that stands for what click refuses: one line, and where help is."""
    message = " ".join(error.format_message().split())
    context = error.ctx if isinstance(error, click.UsageError) else None
    if context is not None:
        message = f"{message.removesuffix('.')}; see `{context.command_path} --help`"
    return Failure(message, ExitCode(error.exit_code))


def printable(text: str) -> str:
    """Return text that cannot steer a terminal: what is not printable is escaped."""
    return text if text.isprintable() else "".join(map(_escape, text))


def _escape(letter: str) -> str:
    return letter if letter.isprintable() else letter.encode("unicode_escape").decode()
