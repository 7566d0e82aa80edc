"""The fields of a configuration dataclass, and how text or TOML becomes their values.

Knows only types: every field of one type is read alike, so a new field needs no code here.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields
from ipaddress import IPv6Network, ip_address
from pathlib import Path
from typing import Any, get_args, get_type_hints

from netagent.model.errors import InvalidError
from netagent.model.fleet import Endpoint

_TRUE = frozenset({"true", "yes", "on", "1"})
_FALSE = frozenset({"false", "no", "off", "0"})


@dataclass(frozen=True, slots=True)
class Kind:
    """A type of value.

    expected: completes "is not …". metavar: its name in a usage line.
    parse: takes text or a TOML value; ValueError or InvalidError when it does not fit.
    """

    expected: str
    metavar: str
    parse: Callable[[object], object]


@dataclass(frozen=True, slots=True)
class SettingField:
    """One key of a configuration. is_required: it has no default."""

    key: str
    kind: Kind
    is_flag: bool
    is_required: bool
    default: object


def describe_fields(config: type[Any]) -> tuple[SettingField, ...]:
    """Return the fields of a dataclass in their order; TypeError for a type without a parser."""
    hints = get_type_hints(config)
    return tuple(
        SettingField(
            key=each.name,
            kind=_kind_of(hints[each.name]),
            is_flag=hints[each.name] is bool,
            is_required=each.default is MISSING,
            default=None if each.default is MISSING else each.default,
        )
        for each in fields(config)
    )


def _kind_of(hint: Any) -> Kind:
    if isinstance(hint, types.UnionType):
        (hint,) = (each for each in get_args(hint) if each is not types.NoneType)
    if hint not in _KINDS:
        raise TypeError(f"no parser for a setting of type {hint}")
    return _KINDS[hint]


def _parse_text(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError
    return value.strip()


def _parse_bool(value: object) -> bool:
    if isinstance(value, bool):
        return value
    word = _parse_text(value).lower()
    if word not in _TRUE | _FALSE:
        raise ValueError
    return word in _TRUE


def _parse_int(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    return int(_parse_text(value))


def _parse_seconds(value: object) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        seconds = float(value)
    else:
        seconds = float(_parse_text(value))
    if not 0 <= seconds < float("inf"):
        raise ValueError
    return seconds


def _parse_path(value: object) -> Path:
    path = Path(_parse_text(value))
    if not path.is_absolute():
        raise ValueError
    return path


def _parse_prefix(value: object) -> IPv6Network:
    prefix = IPv6Network(_parse_text(value))
    if prefix.prefixlen != 64:
        raise ValueError
    return prefix


def parse_endpoint(value: object) -> Endpoint:
    """Return ADDRESS:PORT as an Endpoint; IPv6 in brackets. ValueError or InvalidError."""
    host, separator, port = _parse_text(value).rpartition(":")
    is_bracketed = host.startswith("[") and host.endswith("]")
    address = ip_address(host[1:-1] if is_bracketed else host)
    if not separator or (address.version == 6) is not is_bracketed:
        raise ValueError
    if not (port.isascii() and port.isdecimal()):
        raise ValueError
    return Endpoint(address, int(port))


_KINDS: dict[Any, Kind] = {
    str: Kind("text", "TEXT", _parse_text),
    bool: Kind("true or false", "BOOLEAN", _parse_bool),
    int: Kind("a whole number", "NUMBER", _parse_int),
    float: Kind("a number of seconds, as 2.5", "SECONDS", _parse_seconds),
    Path: Kind("an absolute path", "PATH", _parse_path),
    IPv6Network: Kind("an IPv6 prefix of length 64, as fd00:1:2:3::/64", "PREFIX", _parse_prefix),
    Endpoint: Kind(
        "ADDRESS:PORT, as 192.0.2.1:51820 or [2001:db8::1]:51820", "ADDRESS:PORT", parse_endpoint
    ),
}

PARSE_ERRORS = (ValueError, InvalidError)
"""What Kind.parse raises."""
