"""Everything that is asked of a policy before it may come into force; without I/O, and slow.

Runs in a thread, on values that nobody changes, so that moves do not wait for a large policy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv6Network

from netagent.model.errors import NotFoundError, PolicyError
from netagent.model.fleet import Machine
from netagent.policy.book import separate_named
from netagent.policy.capacity import UNLIMITED, check_capacity
from netagent.policy.changes import ChangeLine, compare_policies
from netagent.policy.check import check_files
from netagent.policy.compiler import Compilation, compile_policy
from netagent.policy.entries import CompiledPolicy
from netagent.policy.fleet import FleetSnapshot, Member, make_snapshot
from netagent.policy.language import Policy, built_in_policy
from netagent.policy.lint import lint
from netagent.policy.reading import try_load


@dataclass(frozen=True, slots=True)
class Request:
    """A policy that is to come into force. text: empty for the built-in policy of `network`."""

    text: str
    file_name: str
    network: str = ""


@dataclass(frozen=True, slots=True)
class Fleet:
    """What it is judged against. policies: in force, by network."""

    prefix: IPv6Network
    networks: Mapping[str, int]
    machines: tuple[Machine, ...]
    policies: Mapping[str, Policy]


@dataclass(frozen=True, slots=True)
class Review:
    """What came of it. warnings: FILE:LINE:COLUMN lines. changes: what would open and close."""

    policy: Policy
    warnings: tuple[str, ...]
    changes: tuple[ChangeLine, ...]


def review(request: Request, fleet: Fleet) -> Review:
    """Return what there is to say of a policy that may come into force.

    Raises PolicyError with everything that is wrong, tests that fail included; NotFoundError for
    the network.
    """
    snapshot = _snapshot(fleet)
    others = list(fleet.policies.values())
    if request.text:
        files = [(request.file_name, request.text)]
        report = check_files(files, snapshot, others, limits=UNLIMITED)
        if not report.is_good:
            _check_network(request, fleet)
            raise PolicyError(report.problems)
        (policy,) = report.policies
        warnings = report.warnings
    else:
        policy = built_in_policy(request.network)
        warnings = tuple(lint(compile_policy(policy, separate_named(snapshot, others))))
    after = [policy, *(one for one in others if one.network != policy.network)]
    return Review(
        policy,
        tuple(str(one) for one in warnings),
        tuple(compare_policies(others, after, snapshot)),
    )


def compile_ahead(
    policy: Policy, fleet: FleetSnapshot, version: int, numbers: Mapping[str, int]
) -> Compilation:
    """Return the policy compiled from scratch."""
    return compile_policy(policy, fleet, version, None, numbers)


def check_hosts(candidate: CompiledPolicy, neighbours: list[list[CompiledPolicy]]) -> None:
    """Raise ExhaustedError, with figures, when some host has no room for a policy.

    neighbours: the other policies of each host that would get it.
    """
    for others in neighbours or [[]]:
        check_capacity([candidate, *others])


def _check_network(request: Request, fleet: Fleet) -> None:
    """Raise NotFoundError where the words are right and only the network is not there."""
    policy, problems = try_load(request.text, request.file_name)
    if policy is not None and not problems and policy.network not in fleet.networks:
        raise NotFoundError(
            f"network: there is no network {policy.network}; `netagent network create` makes it"
        )


def _snapshot(fleet: Fleet) -> FleetSnapshot:
    members = (Member(one.network, one.name, one.identity, one.labels) for one in fleet.machines)
    return make_snapshot(fleet.prefix, fleet.networks, members)
