"""`netagent policy`: access policies in files, read, checked, compared and explained."""

from __future__ import annotations

import click

from netagent.cli.lazy import Lazy, LazyGroup

# Each in a module of its own: what works on files alone imports no gRPC.
_COMMANDS = {
    "check": Lazy("netagent.cli.policy_check", "check", "Check policy files and run their tests."),
    "diff": Lazy("netagent.cli.policy_diff", "diff", "What a new policy would open and close."),
    "explain": Lazy("netagent.cli.policy_explain", "explain", "Who decides about one packet."),
    "snapshot": Lazy("netagent.cli.policy_snapshot", "snapshot", "Print the fleet for --fleet."),
}


@click.group(cls=LazyGroup, lazy=_COMMANDS)
def policy() -> None:
    """Write, check, compare and explain access policies; all but `snapshot` work offline.

    THIS RELEASE DOES NOT ENFORCE POLICIES: what a file says has no effect on packets yet. What is
    enforced is the isolation between networks, and of hosts' services from machines.

    The language is in docs/policy.md.
    """
