"""A file to a policy that is free of problems: the one way in for those who apply or compile."""

from __future__ import annotations

from netagent.model.errors import PolicyError, Problem
from netagent.policy.document import parse_document
from netagent.policy.fleet import FleetSnapshot
from netagent.policy.language import Policy
from netagent.policy.references import check_references
from netagent.policy.schema import read_policy


def load_policy(source: str | bytes, file: str, fleet: FleetSnapshot | None = None) -> Policy:
    """Return the policy of a file.

    source: the text; bytes must be UTF-8. file: the name that messages bear.
    fleet: to check names and prefixes against; None leaves that out.
    Raises PolicyError with every problem of words and, given a fleet, of names.
    """
    policy, problems = try_load(source, file, fleet)
    if problems or policy is None:
        raise PolicyError(problems)
    return policy


def try_load(
    source: str | bytes, file: str, fleet: FleetSnapshot | None = None
) -> tuple[Policy | None, list[Problem]]:
    """Return what could be read, which must not be applied if there are problems, and these."""
    try:
        policy, problems = read_policy(parse_document(source, file))
    except PolicyError as error:
        return None, list(error.problems)
    if policy is not None and fleet is not None:
        problems = [*problems, *check_references(policy, fleet)]
    return policy, sorted(problems)
