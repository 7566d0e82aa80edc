"""Flows as lines of a table that grows, and losses beside it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import click

from netagent.api.agent.v1 import agent_service_pb2 as pb
from netagent.cli.failures import printable
from netagent.cli.output import NONE
from netagent.cli.views import Document

HEADERS = ("TIME", "KIND", "VERDICT", "FROM", "TO", "TRAFFIC", "DECIDED BY")
WIDTHS = (12, 5, 21, 16, 16, 10, 0)
"""Least widths in characters, so that mostly all lines are aligned though none is known before."""


class FlowLines:
    """Prints lines as they come. A column is as wide as its widest cell so far."""

    def __init__(self) -> None:
        self._widths = list(WIDTHS)

    def fit(self, rows: Sequence[Sequence[str]]) -> None:
        """Make room for rows that are known before."""
        for row in rows:
            self._widths = [max(*each) for each in zip(self._widths, map(len, row), strict=True)]

    def print(self, row: Sequence[str]) -> None:
        """Print one row."""
        cells = [printable(cell) or NONE for cell in row]
        self.fit([cells])
        padded = (cell.ljust(width) for cell, width in zip(cells, self._widths, strict=True))
        click.echo("  ".join(padded).rstrip())


def flow_row(flow: pb.Flow, view: Document, now: datetime) -> tuple[str, ...]:
    """Return a row below HEADERS. now: local time; flows of other days bear a date."""
    return (
        _when(flow, now),
        view["kind"],
        view["verdict"],
        view["from"]["name"] or view["from"]["address"],
        view["to"]["name"] or view["to"]["address"],
        view["traffic"] or "",
        _who(flow, view),
    )


def _when(flow: pb.Flow, now: datetime) -> str:
    time = datetime.fromtimestamp(flow.time.ToNanoseconds() / 1e9, now.tzinfo)
    clock = f"{time:%H:%M:%S}.{time.microsecond // 1000:03}"
    return clock if time.date() == now.date() else f"{time.date()} {clock}"


def _who(flow: pb.Flow, view: Document) -> str:
    if not flow.network:
        return ""
    policy = f"network {flow.network}, version {flow.version}"
    line = f"{_name(flow.rule)} of {policy}"
    if not view["audited"]:
        return line
    would = "deny" if flow.verdict.startswith("pass_") else "allow"
    return f"{line}; audit: {_name(flow.audit_rule)} would {would} it"


def _name(rule: str) -> str:
    return f"rule {rule!r}" if rule else "default"
