"""Structured log lines: a constant message, then key=value fields."""

from __future__ import annotations

import json
import logging

_LOGGER = logging.getLogger("netagent.control")


def log_event(level: int, message: str, **fields: object) -> None:
    """Write one event; fields keep their order, values with spaces are quoted."""
    if _LOGGER.isEnabledFor(level):
        _LOGGER.log(level, "%s", " ".join([message, *(_pair(*pair) for pair in fields.items())]))


def _pair(key: str, value: object) -> str:
    text = str(value)
    is_plain = text.isprintable() and not set(text) & {" ", '"', "="} and text
    return f"{key}={text if is_plain else json.dumps(text)}"
