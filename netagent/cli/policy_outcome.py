"""What came of applying a policy, and why it was refused, in words that say what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeAlias

import click

from netagent.api.control.v1 import policy_service_pb2 as pb
from netagent.cli.failures import ExitCode, Failure, printable
from netagent.cli.output import print_json
from netagent.cli.views import Document, enum_word, policy_view
from netagent.policy.changes import ChangeLine, Effect

Outcome: TypeAlias = pb.ApplyPolicyResponse | pb.RollbackPolicyResponse

APPLY_TIMEOUT_S = 60.0
"""Of the call, in which a large policy is compiled; and again for the hosts."""


def print_outcome(found: Outcome, *, is_dry_run: bool, is_json: bool) -> None:
    """Print what was applied, or would be. In JSON on a line of its own."""
    changes = [_change(each) for each in found.changes]
    if is_json:
        print_json(_view(found, changes, is_dry_run=is_dry_run), is_line=True)
        return
    for warning in found.warnings:
        click.echo(printable(f"warning: {warning}"), err=True)
    for line in changes:
        click.echo(printable(str(line)))
    click.echo(printable(_describe(found, is_dry_run=is_dry_run, is_change=bool(changes))))


@contextmanager
def explaining_refusal(dry_run: str) -> Iterator[None]:
    """Let failures of a call that applies a policy say what to do.

    dry_run: words after `netagent policy` that show what applying would change.
    """
    try:
        yield
    except Failure as error:
        message, code = error.message, ExitCode(error.exit_code)
        if code is ExitCode.USAGE:
            # What control does not accept is the policy, as when `check` does not.
            raise Failure(message, ExitCode.FAILED) from error
        if code is ExitCode.CONFLICT:
            hint = f"`netagent policy {dry_run}` says what it would change now; then apply it again"
            raise Failure(f"{message}\nnothing was applied; {hint}", code) from error
        raise


def _describe(found: Outcome, *, is_dry_run: bool, is_change: bool) -> str:
    policy = found.policy
    name = f"version {policy.version}"
    if policy.HasField("rolled_back_to"):
        origin = policy.rolled_back_to
        text = f"the text of version {origin}" if origin else "the built-in policy"
        name = f"{name}, {text},"
    quiet = "" if is_change else "; nothing opens or closes"
    if is_dry_run:
        return f"network {policy.network}: {name} would be in force{quiet} (dry run)"
    if found.applied:
        return f"network {policy.network}: {name} is in force{quiet}"
    return f"network {policy.network}: {name} is in force already; nothing to do"


def _change(change: pb.AccessChange) -> ChangeLine:
    effect = Effect(enum_word(pb.AccessChange.Effect.Name(change.effect), "EFFECT_"))
    return ChangeLine(effect, getattr(change, "from"), change.to, change.traffic, 0)


def _view(found: Outcome, changes: list[ChangeLine], *, is_dry_run: bool) -> Document:
    return {
        **policy_view(found.policy),
        "applied": found.applied,
        "dry_run": is_dry_run,
        "warnings": list(found.warnings),
        "changes": [
            {
                "effect": line.effect.value,
                "from": line.source,
                "to": line.destination,
                "traffic": line.traffic,
            }
            for line in changes
        ],
        "revision": found.revision,
    }
