"""Labels as they are typed: KEY=VALUE sets one, KEY- takes it away."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import click


def parse_labels(texts: Sequence[str], option: str = "--label") -> dict[str, str]:
    """Return the labels of KEY=VALUE texts; click.BadParameter for another form or a key twice.

    option: where they were given.
    """
    labels: dict[str, str] = {}
    for text in texts:
        key, separator, value = text.partition("=")
        if not key or not separator:
            raise click.BadParameter(f"{text!r} is not KEY=VALUE, as app=web", param_hint=option)
        if key in labels:
            raise click.BadParameter(f"{key!r} is given twice", param_hint=option)
        labels[key] = value
    return labels


def parse_label_changes(texts: Sequence[str]) -> dict[str, str | None]:
    """Return the new value of each key, None to take it away; click.BadParameter."""
    changes: dict[str, str | None] = {}
    for text in texts:
        key, separator, value = text.partition("=")
        is_removal = not separator and text.endswith("-")
        if is_removal:
            key = text[:-1]
        if not key or not (separator or is_removal):
            raise click.BadParameter(
                f"{text!r} is neither KEY=VALUE nor KEY-, as app=web or app-", param_hint="labels"
            )
        if key in changes:
            raise click.BadParameter(f"{key!r} is given twice", param_hint="labels")
        changes[key] = None if is_removal else value
    return changes


def apply_label_changes(
    labels: Mapping[str, str], changes: Mapping[str, str | None]
) -> dict[str, str]:
    """Return the labels after the changes."""
    merged = {**labels, **changes}
    return {key: value for key, value in merged.items() if value is not None}
