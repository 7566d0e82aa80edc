"""How much room compiled policies need in the kernel's maps, and whether it is there.

Checked over all policies of a host before the first write: a map that overflows half way through
would drop packets at random.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields

from netagent.model.errors import ExhaustedError
from netagent.policy.entries import ClassId, CompiledPolicy, PolicyClass


@dataclass(frozen=True, slots=True)
class Usage:
    """Entries needed, or (as LIMITS) there at most.

    class_protocols: classes times the protocols that each lists.
    """

    pairs: int
    class_protocols: int
    intervals: int
    prefixes: int

    def describe(self) -> str:
        """Return the figures as one line."""
        return ", ".join(f"{name} {getattr(self, name):,}" for name in FIGURES)


FIGURES = tuple(field.name for field in fields(Usage))

LIMITS = Usage(pairs=262_144, class_protocols=65_536, intervals=1_048_576, prefixes=65_536)

UNLIMITED = Usage(*(1 << 62 for _ in FIGURES))
"""For policies that no single host needs together."""

_NAMED_MOST = 3


def measure(policies: Iterable[CompiledPolicy]) -> Usage:
    """Return what these policies need together; equal classes are stored once."""
    pairs = prefixes = 0
    classes: dict[ClassId, PolicyClass] = {}
    for policy in policies:
        pairs += sum(len(row) for rows in policy.pairs.values() for row in rows.values())
        prefixes += len(policy.prefixes)
        classes.update(policy.classes)
    tables = [table for one in classes.values() for table in one.protocols.values()]
    return Usage(pairs, len(tables), sum(map(len, tables)), prefixes)


def check_capacity(policies: Iterable[CompiledPolicy], limits: Usage = LIMITS) -> Usage:
    """Return what the policies need; ExhaustedError with figures if a limit is exceeded."""
    policies = list(policies)
    usage = measure(policies)
    complaints = []
    for figure in FIGURES:
        need, room = getattr(usage, figure), getattr(limits, figure)
        if need <= room:
            continue
        each = sorted((getattr(measure([one]), figure), one.network) for one in policies)
        most = ", ".join(f"{network} {count:,}" for count, network in each[: -_NAMED_MOST - 1 : -1])
        complaints.append(f"{figure}: {need:,} needed, {room:,} fit (most: {most})")
    if complaints:
        raise ExhaustedError(
            "the policies do not fit: "
            + "; ".join(complaints)
            + "; select by fewer labels, or join rules that list ports one by one"
        )
    return usage
