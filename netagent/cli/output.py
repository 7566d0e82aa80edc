"""Prints: tables on a terminal, aligned text elsewhere, JSON for programs."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import click

from netagent.cli.failures import printable

NONE = "-"
"""What stands in a table where there is nothing."""


def print_json(document: Mapping[str, Any], *, is_line: bool = False) -> None:
    """Print one JSON document, indented or on a line of its own."""
    click.echo(json.dumps(document, indent=None if is_line else 2, ensure_ascii=False))


def print_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows below headers."""
    cells = [[printable(cell) or NONE for cell in row] for row in rows]
    if sys.stdout.isatty():
        _print_rich(headers, cells)
        return
    lines = [list(headers), *cells]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headers))]
    for line in lines:
        padded = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        click.echo("  ".join(padded).rstrip())


def print_fields(fields: Mapping[str, str]) -> None:
    """Print names and values, one pair a line."""
    width = max(map(len, fields))
    for name, value in fields.items():
        click.echo(f"{name.ljust(width)}  {printable(value) or NONE}")


def _print_rich(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    # Rich leaves out colours by itself, not other attributes.
    style = "" if os.environ.get("NO_COLOR") else "bold"
    table = Table(box=None, pad_edge=False, header_style=style)
    for header in headers:
        table.add_column(Text(header), overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    Console(highlight=False).print(table)


def format_labels(labels: Mapping[str, str]) -> str:
    """Return key=value pairs sorted by key."""
    return ",".join(f"{key}={value}" for key, value in sorted(labels.items()))


def format_age(age_s: float) -> str:
    """Return a length of time in at most two units, as `1m 5s`."""
    seconds = max(0, int(age_s))
    if seconds < 60:
        return f"{seconds}s"
    if seconds < 3600:
        return f"{seconds // 60}m {seconds % 60}s"
    if seconds < 86_400:
        return f"{seconds // 3600}h {seconds % 3600 // 60}m"
    return f"{timedelta(seconds=seconds).days}d {seconds % 86_400 // 3600}h"


def format_bytes(count: int) -> str:
    """Return a number of bytes in the unit that fits, as `1.5 MiB`."""
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def count_noun(number: int, noun: str) -> str:
    """Return a number of things in words, as `1 rule` or `3 rules`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
