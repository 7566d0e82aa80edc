"""The tests that a policy brings along: docs/policy.md, "Tests"."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from netagent.model.errors import Problem
from netagent.policy.book import Asked, Rulebook, all_allow, protocols_of, segments, who_is_asked
from netagent.policy.compiler import compile_policy
from netagent.policy.entries import OTHER_PROTOCOLS, Interval
from netagent.policy.explain import Opinion
from netagent.policy.language import Case, Expectation, Mode, Policy, Traffic, Verdict
from netagent.policy.lookup import decision_of
from netagent.policy.traffic import format_traffic


def run_cases(policy: Policy, book: Rulebook) -> list[Problem]:
    """Return the expectations of `policy` that do not hold, in the order of the file.

    book: the fleet's policies, this one among them. In audit mode it is judged as if enforced.
    """
    if policy.cases and policy.mode is Mode.AUDIT:
        enforced = replace(policy, mode=Mode.ENFORCE)
        version = book.compiled[policy.network].version
        entries = compile_policy(enforced, book.fleet, version).entries
        book = replace(book, compiled={**book.compiled, policy.network: entries})
    problems = []
    for case in policy.cases:
        asked = who_is_asked(book, case.source, case.destination)
        for expectation in case.expectations:
            problem = _check(case, expectation, asked)
            if problem is not None:
                problems.append(problem)
    return problems


def _check(case: Case, expectation: Expectation, asked: Sequence[Asked]) -> Problem | None:
    classes = [one.policy_class for one in asked]
    for wanted in expectation.traffic:
        protocols = protocols_of(classes) if wanted.protocol is None else [wanted.protocol]
        for protocol in protocols:
            for first, last, found in segments(classes, protocol, wanted.first, wanted.last):
                verdict = Verdict.ALLOW if all_allow(found) else Verdict.DENY
                if verdict is not expectation.verdict:
                    what = _name(protocol, first, last)
                    return _failure(case, expectation, what, verdict, asked, found)
    return None


def _name(protocol: int, first: int, last: int) -> str:
    if protocol == OTHER_PROTOCOLS:
        return "a protocol that no rule names"
    return format_traffic([Traffic(protocol, first, last)])


def _failure(
    case: Case,
    expectation: Expectation,
    what: str,
    verdict: Verdict,
    asked: Sequence[Asked],
    found: Sequence[Interval],
) -> Problem:
    said = [
        (
            one,
            Opinion(
                one.at, one.compiled.network, one.compiled.version, decision_of(one.compiled, it)
            ),
        )
        for one, it in zip(asked, found, strict=True)
        if it.verdict is verdict
    ]
    why = "; ".join(f"at the {one.at}: {opinion.describe()}" for one, opinion in said)
    wanted = "allow" if expectation.verdict is Verdict.ALLOW else "deny"
    return Problem(
        expectation.span,
        f"test failed: {case.source} -> {case.destination} should {wanted} {expectation.text}, "
        f"but {what} is {'denied' if verdict is Verdict.DENY else 'allowed'}",
        why,
    )
