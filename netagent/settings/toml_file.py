"""Reads a flat TOML file and finds the line of each key, which tomllib does not tell."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

from netagent.model.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Entry:
    """A top-level key, its TOML value, and the line it begins on (from 1)."""

    key: str
    value: object
    line: int


def read_toml(path: Path) -> list[Entry]:
    """Return the top-level keys in the file's order.

    Raises ConfigError when the file cannot be read or is no TOML; names file and line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 text") from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: is not TOML: {error}") from error
    lines = text.splitlines()
    return [Entry(key, value, _find_line(lines, key)) for key, value in table.items()]


def _find_line(lines: list[str], key: str) -> int:
    quoted = re.escape(key)
    begins = re.compile(rf"""\s*\[*\s*["']?{quoted}["']?\s*[=.\]]""")
    return next((number for number, line in enumerate(lines, 1) if begins.match(line)), 1)
