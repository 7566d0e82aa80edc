"""Everything `netagent policy check` says about files: errors, failed tests, warnings, figures."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from netagent.model.errors import ExhaustedError, Problem, Span
from netagent.policy.book import make_rulebook, separate_named
from netagent.policy.capacity import LIMITS, Usage, check_capacity
from netagent.policy.cases import run_cases
from netagent.policy.compiler import compile_policy
from netagent.policy.fleet import FleetSnapshot
from netagent.policy.language import Policy
from netagent.policy.lint import lint
from netagent.policy.reading import try_load


@dataclass(frozen=True, slots=True)
class Report:
    """What a check found.

    policies: those that were read, in the order of the files; to be used only if `is_good`.
    problems: errors and failed tests. warnings: what is allowed but hardly meant. Both sorted.
    cases: how many tests ran. usage: room needed in the kernel; None without a fleet.
    """

    policies: tuple[Policy, ...]
    problems: tuple[Problem, ...]
    warnings: tuple[Problem, ...] = ()
    cases: int = 0
    usage: Usage | None = None

    @property
    def is_good(self) -> bool:
        """Whether nothing stands against applying the policies."""
        return not self.problems


def check_files(
    files: Iterable[tuple[str, str | bytes]],
    fleet: FleetSnapshot | None = None,
    others: Iterable[Policy] = (),
    limits: Usage = LIMITS,
) -> Report:
    """Return what there is to say about policy files.

    files: name and text of each, one network a file. fleet: None checks only the words.
    others: policies already in force for other networks; those of the files take precedence.
    """
    policies: list[Policy] = []
    problems: list[Problem] = []
    places: dict[str, Span] = {}
    for file, source in files:
        policy, found = try_load(source, file, fleet)
        problems += found
        if policy is None:
            continue
        if policy.network in places:
            message = f"network {policy.network!r} has another policy at {places[policy.network]}"
            problems.append(Problem(policy.span, message, "one file for each network"))
        places.setdefault(policy.network, policy.span)
        policies.append(policy)
    if problems or fleet is None:
        warnings = [
            Problem(one.span, f"{one.kind} {one.name!r} is not used", "remove it, or refer to it")
            for policy in policies
            for one in policy.unused
        ]
        return Report(tuple(policies), tuple(sorted(problems)), tuple(sorted(warnings)))
    return _check_over_fleet(policies, fleet, others, limits)


def _check_over_fleet(
    policies: list[Policy], fleet: FleetSnapshot, others: Iterable[Policy], limits: Usage
) -> Report:
    given = {policy.network for policy in policies}
    every = [*policies, *(one for one in others if one.network not in given)]
    fleet = separate_named(fleet, every)
    book = make_rulebook(every, fleet)
    problems: list[Problem] = []
    warnings: list[Problem] = []
    for policy in policies:
        problems += run_cases(policy, book)
        warnings += lint(compile_policy(policy, fleet))
    usage = None
    try:
        usage = check_capacity([book.compiled[one.network] for one in every], limits)
    except ExhaustedError as error:
        problems.append(Problem(policies[0].span, str(error)))
    return Report(
        tuple(policies),
        tuple(sorted(problems)),
        tuple(sorted(warnings)),
        sum(len(policy.cases) for policy in policies),
        usage,
    )
