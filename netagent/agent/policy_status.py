"""What the agent tells of its policies: which are in force, and how full their maps are. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from netagent.policy.entries import CompiledPolicy
from netagent.reconcile.held_policies import HeldPolicies, Room


@dataclass(frozen=True, slots=True)
class PolicyStatus:
    """One network's policy. version: 0 is the built-in one."""

    network: str
    version: int
    pairs: int


def describe_policies(policies: Mapping[int, CompiledPolicy]) -> tuple[PolicyStatus, ...]:
    """Return what this host enforces, by network."""
    found = (PolicyStatus(one.network, one.version, _count_pairs(one)) for one in policies.values())
    return tuple(sorted(found, key=lambda status: status.network))


def measure_maps(held: HeldPolicies, room: Room) -> dict[str, tuple[int, int]]:
    """Return (entries, capacity) of each map, both slots together."""
    networks = held.networks.values()
    slots = [slot for network in networks for slot in network.slots]
    ranges = [one for placed in held.classes.values() for one in placed.ranges.values()]
    return {
        "policy_network": (sum(1 for one in networks if one.active), room.networks),
        "policy_pair": (sum(slot.pair_count for slot in slots), room.pairs),
        "policy_prefix": (sum(len(slot.prefixes) for slot in slots), room.prefixes),
        "policy_class": (len(ranges), room.class_protocols),
        "policy_interval": (sum(one.count for one in ranges), room.intervals),
        "rule_index": (sum(len(one.rules) for one in networks), room.rules),
    }


def _count_pairs(policy: CompiledPolicy) -> int:
    return sum(len(row) for rows in policy.pairs.values() for row in rows.values())
