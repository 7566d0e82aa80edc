"""Policies in the kernel against intent: the auditor's way, as plan.py is for the other tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from netagent.policy.entries import CompiledPolicy
from netagent.reconcile.held_policies import HeldPolicies, Room
from netagent.reconcile.operations import RemovePolicies, SetPolicies
from netagent.reconcile.policy_plan import plan_policy


@dataclass(frozen=True, slots=True)
class PolicyIntent:
    """What should be in force, by network number, and what the kernel is believed to hold.

    is_whole: whether intent is known to be whole in this run. If not, no policy is removed, and one
    of a newer version than the desired one stays: the kernel was told later than the replica.
    """

    desired: Mapping[int, CompiledPolicy]
    believed: HeldPolicies
    is_whole: bool


def plan_held_policies(
    intent: PolicyIntent, held: HeldPolicies
) -> tuple[SetPolicies, RemovePolicies]:
    """Return what brings the kernel's policies from `held` to intent; SetPolicies is idempotent."""
    wanted = tuple(
        compiled
        for _, compiled in sorted(intent.desired.items())
        if intent.is_whole or not _is_newer(held, compiled)
    )
    surplus = held.networks.keys() - intent.desired.keys() if intent.is_whole else ()
    return SetPolicies(wanted), RemovePolicies(tuple(sorted(surplus)))


def find_differing_policies(
    intent: PolicyIntent, observed: HeldPolicies, room: Room
) -> tuple[int, ...]:
    """Return the networks for which something is not as intended or not as believed, ascending.

    Belief counts too: the next revision is written as the difference to what its slot is believed
    to hold.
    """
    setting, removing = plan_held_policies(intent, observed)
    wrong = {
        compiled.number
        for compiled in setting.policies
        if plan_policy(observed, compiled, room).operations
    }
    believed = intent.believed.networks
    mistaken = {
        number
        for number, network in observed.networks.items()
        if number in believed and network.slots != believed[number].slots
    }
    return tuple(sorted(wrong | mistaken | set(removing.networks)))


def _is_newer(held: HeldPolicies, compiled: CompiledPolicy) -> bool:
    network = held.networks.get(compiled.number)
    return (
        network is not None
        and network.active is not None
        and network.active.version > compiled.version
    )
