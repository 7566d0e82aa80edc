"""Merges defaults, a TOML file, the environment and flags into one configuration dataclass.

Later sources win: default, file, environment, flag. Each value remembers where it came from. All
that is wrong is found before anything is used, and reported together.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from netagent.model.errors import ConfigError
from netagent.settings.fields import PARSE_ERRORS, SettingField, describe_fields
from netagent.settings.toml_file import read_toml

Config = TypeVar("Config")

DEFAULT = "default"


@runtime_checkable
class Checked(Protocol):
    """A configuration with rules beyond the types of its fields."""

    @staticmethod
    def find_problems(values: Mapping[str, Any]) -> list[str]:
        """Return `KEY: problem` for each value, by key, that breaks a rule; of any of the keys."""
        ...


@dataclass(frozen=True, slots=True)
class Loaded(Generic[Config]):
    """A checked configuration. sources: by key, where its value came from, as people read it."""

    config: Config
    sources: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Sources:
    """Where values may come from.

    file: a TOML file, or None. env: the whole environment.
    env_prefix: what variables begin with, as NETAGENT_AGENT_; env_ignored: variables that begin so
        and mean something else.
    flags: by key, what was given on the command line, as text or bool.
    fallbacks: by key, values for required keys that this use has no need of.
    """

    file: Path | None
    env: Mapping[str, str]
    env_prefix: str
    flags: Mapping[str, object]
    env_ignored: frozenset[str] = frozenset()
    fallbacks: Mapping[str, object] | None = None


@dataclass(frozen=True, slots=True)
class _Given:
    """A value as it was given, and where."""

    value: object
    source: str


def load_settings(config: type[Config], sources: Sources) -> Loaded[Config]:
    """Return the configuration that the sources make.

    Raises ConfigError with a line for each thing that is wrong: unknown keys (and the nearest that
    exists), values that do not fit (key, value, source, what is expected) or break a rule of the
    configuration (Checked), required keys that nobody gave.
    """
    known = {field.key: field for field in describe_fields(config)}
    given: dict[str, _Given] = {}
    problems: list[str] = []
    values: dict[str, object] = dict(sources.fallbacks or {})
    for layer in (_read_file(sources), _read_env(sources), _read_flags(sources)):
        for key, item in layer.items():
            if key not in known:
                problems.append(_describe_unknown(key, item.source, known))
                continue
            # Also a value that a later source overrides has to be right: it waits to be used.
            given[key] = item
            try:
                values[key] = known[key].kind.parse(item.value)
            except PARSE_ERRORS:
                values.pop(key, None)
                expected = known[key].kind.expected
                problems.append(f"{key}: {item.value!r} is not {expected} ({item.source})")
    for field in known.values():
        if field.is_required and field.key not in values and field.key not in given:
            problems.append(_describe_missing(field, sources))
    for problem in _find_broken_rules(config, values):
        # The dataclass knows the rule, we know where the value came from.
        key = problem.partition(":")[0]
        problems.append(f"{problem} ({given[key].source})" if key in given else problem)
    if problems:
        raise ConfigError("\n".join(problems))
    made = config(**values)
    origin = {key: given[key].source if key in given else DEFAULT for key in known}
    return Loaded(made, origin)


def _find_broken_rules(config: type[Any], values: Mapping[str, object]) -> list[str]:
    if not issubclass(config, Checked):
        return []
    defaults = {
        field.key: field.default for field in describe_fields(config) if not field.is_required
    }
    return config.find_problems(defaults | dict(values))


def _read_file(sources: Sources) -> dict[str, _Given]:
    if sources.file is None:
        return {}
    return {
        entry.key: _Given(entry.value, f"{sources.file}, line {entry.line}")
        for entry in read_toml(sources.file)
    }


def _read_env(sources: Sources) -> dict[str, _Given]:
    prefix = sources.env_prefix
    return {
        name.removeprefix(prefix).lower(): _Given(value, f"environment variable {name}")
        for name, value in sorted(sources.env.items())
        if name.startswith(prefix) and name not in sources.env_ignored
    }


def _read_flags(sources: Sources) -> dict[str, _Given]:
    return {
        key: _Given(value, f"flag --{key.replace('_', '-')}")
        for key, value in sources.flags.items()
        if value is not None
    }


def _describe_unknown(key: str, source: str, known: Mapping[str, SettingField]) -> str:
    near = difflib.get_close_matches(key, known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(sorted(known))}"
    return f"{key}: there is no such key ({source}); {hint}"


def _describe_missing(field: SettingField, sources: Sources) -> str:
    flag = f"--{field.key.replace('_', '-')}"
    variable = f"{sources.env_prefix}{field.key.upper()}"
    return (
        f"{field.key}: is required and has no default; give {flag}, set {variable}, or write it"
        " into the configuration file"
    )
