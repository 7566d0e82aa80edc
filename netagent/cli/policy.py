"""`netagent policy`: access policies, written, checked, applied and explained."""

from __future__ import annotations

import click

from netagent.cli.lazy import Lazy, LazyGroup

# Each in a module of its own: what works on files alone imports no gRPC.
_COMMANDS = {
    "check": Lazy("netagent.cli.policy_check", "check", "Check policy files and run their tests."),
    "diff": Lazy("netagent.cli.policy_diff", "diff", "What a new policy would open and close."),
    "apply": Lazy("netagent.cli.policy_apply", "apply", "Put policies into force."),
    "get": Lazy("netagent.cli.policy_versions", "get", "Print a network's policy."),
    "list": Lazy("netagent.cli.policy_versions", "list_policies", "The policies in force."),
    "history": Lazy("netagent.cli.policy_versions", "history", "The versions of one policy."),
    "rollback": Lazy("netagent.cli.policy_apply", "rollback", "Apply an older version again."),
    "explain": Lazy("netagent.cli.policy_explain", "explain", "Who decides about one packet."),
    "counters": Lazy("netagent.cli.policy_counters", "counters", "What rules decided, by rule."),
    "snapshot": Lazy("netagent.cli.policy_snapshot", "snapshot", "Print the fleet for --fleet."),
}


@click.group(cls=LazyGroup, lazy=_COMMANDS)
def policy() -> None:
    """Access policies: who may talk to whom, one YAML file a network.

    A policy that is applied is enforced in the kernel of every host that runs machines of its
    network; `netagent flows` shows what that drops. A network on which none was applied has the
    built-in one: its machines talk to each other, hosts may reach them, nothing else crosses its
    border.

    check, diff and explain also work offline, on files (--fleet). The language is in
    docs/policy.md.
    """
