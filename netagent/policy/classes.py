"""Sets of rules to classes: all precedence is resolved here, so that the kernel only searches.

A set of rules is a bit mask over their numbers. The same mask gives the same class, and for one
protocol only the rules that speak about it matter; both are remembered, since a fleet has far fewer
combinations than pairs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b

from netagent.policy.entries import (
    DEFAULT_RULE,
    OTHER_PROTOCOLS,
    ClassId,
    Interval,
    PolicyClass,
)
from netagent.policy.language import Mode, Policy, Rule, Verdict
from netagent.policy.resolve import bits_of

_PORT_MAX = 0xFFFF


@dataclass(frozen=True, slots=True)
class _Clause:
    """One rule as far as one protocol is concerned. rank: its place in the file.

    ranges: sorted and disjoint.
    """

    rank: int
    number: int
    verdict: Verdict
    is_audit: bool
    ranges: tuple[tuple[int, int], ...]


class ClassBuilder:
    """Builds classes for one policy. A cache: what it returns depends on its arguments alone."""

    def __init__(self, policy: Policy, numbers: Mapping[str, int]) -> None:
        self._is_audit = policy.mode is Mode.AUDIT
        self._clauses: dict[int, dict[int, _Clause]] = {OTHER_PROTOCOLS: {}}
        self._speaks: dict[int, int] = {}
        """Protocol to the mask of rules that list it."""
        self.ids: dict[Verdict, dict[int, ClassId]] = {verdict: {} for verdict in Verdict}
        """By default verdict, mask to class: read it first, `build` what is missing."""
        self.classes: dict[ClassId, PolicyClass] = {}
        self._intervals: dict[tuple[Verdict, int, int], tuple[tuple[Interval, ...], bytes]] = {}
        protocols = {
            one.protocol or OTHER_PROTOCOLS for rule in policy.rules for one in rule.traffic
        }
        for protocol in sorted(protocols | {OTHER_PROTOCOLS}):
            self._clauses[protocol] = {}
        for rank, rule in enumerate(policy.rules):
            self._add(rank, numbers[rule.name], rule)
        self._masks = {
            protocol: sum(1 << number for number in clauses)
            for protocol, clauses in self._clauses.items()
        }

    def _add(self, rank: int, number: int, rule: Rule) -> None:
        for protocol, clauses in self._clauses.items():
            ranges = [
                (one.first, one.last)
                for one in rule.traffic
                if one.protocol is None or one.protocol == protocol
            ]
            if ranges:
                is_audit = rule.mode is Mode.AUDIT
                joined = _join(ranges)
                clauses[number] = _Clause(rank, number, rule.verdict, is_audit, joined)
        for one in rule.traffic:
            if one.protocol is not None:
                self._speaks[one.protocol] = self._speaks.get(one.protocol, 0) | 1 << number

    def adopt(self, older: ClassBuilder, stale: int) -> None:
        """Take over what an older builder knows about masks without a bit of `stale`.

        Sound only if all other rules have the same content and relative order as they had there,
        and the policies the same mode.
        """
        for default, ids in older.ids.items():
            self.ids[default] = {mask: one for mask, one in ids.items() if not mask & stale}
        self._intervals = {
            key: found for key, found in older._intervals.items() if not key[2] & stale
        }
        known = {class_id for ids in self.ids.values() for class_id in ids.values()}
        if len(older.classes) <= 2 * len(known):
            # Copying what is no longer known costs less than picking out what is.
            self.classes = dict(older.classes)
        else:
            self.classes = {class_id: older.classes[class_id] for class_id in known}

    def build(self, default: Verdict, mask: int) -> ClassId:
        """Return the class of a pair that the rules of `mask` match, remembering it."""
        base, digest = self._resolve(default, OTHER_PROTOCOLS, mask)
        protocols = {OTHER_PROTOCOLS: base}
        content = blake2b(digest, digest_size=8)
        for protocol, speaks in self._speaks.items():
            if mask & speaks:
                intervals, digest = self._resolve(default, protocol, mask)
                if intervals != base:
                    protocols[protocol] = intervals
        for protocol in sorted(protocols)[1:]:
            content.update(bytes([protocol]))
            content.update(self._resolve(default, protocol, mask)[1])
        class_id = ClassId(int.from_bytes(content.digest(), "big"))
        self.ids[default][mask] = class_id
        self.classes.setdefault(class_id, PolicyClass(class_id, protocols))
        return class_id

    def _resolve(
        self, default: Verdict, protocol: int, mask: int
    ) -> tuple[tuple[Interval, ...], bytes]:
        mask &= self._masks[protocol]
        key = default, protocol, mask
        found = self._intervals.get(key)
        if found is None:
            known = self._clauses[protocol]
            clauses = sorted((known[number] for number in bits_of(mask)), key=lambda one: one.rank)
            intervals = self._cut(clauses, default)
            text = ";".join(
                [
                    f"{first},{verdict is Verdict.ALLOW},{rule},{audit_rule}"
                    for first, _, verdict, rule, audit_rule in intervals
                ]
            )
            found = intervals, blake2b(text.encode(), digest_size=16).digest()
            self._intervals[key] = found
        return found

    def _cut(self, clauses: list[_Clause], default: Verdict) -> tuple[Interval, ...]:
        """Sweep over the ports; `clauses` are in the order of the file, as bits of a mask."""
        toggles = {0: 0}
        sides = _Sides()
        for index, clause in enumerate(clauses):
            bit = 1 << index
            sides.add(clause, bit)
            for first, last in clause.ranges:
                toggles[first] = toggles.get(first, 0) ^ bit
                toggles[last + 1] = toggles.get(last + 1, 0) ^ bit
        toggles.pop(_PORT_MAX + 1, None)
        starts: list[int] = []
        outcomes: list[tuple[Verdict, int, int | None]] = []
        active = 0
        for start in sorted(toggles):
            active ^= toggles[start]
            outcome = self._decide(clauses, sides, active, default)
            if not outcomes or outcomes[-1] != outcome:
                starts.append(start)
                outcomes.append(outcome)
        ends = [start - 1 for start in starts[1:]]
        ends.append(_PORT_MAX)
        return tuple(
            [
                Interval(first, last, verdict, rule, audit_rule)
                for first, last, (verdict, rule, audit_rule) in zip(
                    starts, ends, outcomes, strict=True
                )
            ]
        )

    def _decide(
        self, clauses: list[_Clause], sides: _Sides, active: int, default: Verdict
    ) -> tuple[Verdict, int, int | None]:
        """Apply docs/policy.md, "Precedence", to the clauses that match."""
        verdict, rule = default, DEFAULT_RULE  # 3, 4
        if active & sides.deny:
            verdict, rule = Verdict.DENY, _first(clauses, active & sides.deny)  # 1
        elif active & sides.allow:
            verdict, rule = Verdict.ALLOW, _first(clauses, active & sides.allow)  # 2
        if verdict is Verdict.ALLOW:
            audit = active & sides.audit_deny
        elif self._is_audit:
            return Verdict.ALLOW, DEFAULT_RULE, rule  # 5
        else:
            # An allow in audit mode changes nothing where an enforced rule denies.
            audit = 0 if active & sides.deny else active & sides.audit_allow
        return verdict, rule, _first(clauses, audit) if audit else None  # 6


@dataclass(slots=True)
class _Sides:
    """Masks of clauses by what they say."""

    deny: int = 0
    allow: int = 0
    audit_deny: int = 0
    audit_allow: int = 0

    def add(self, clause: _Clause, bit: int) -> None:
        """Put a clause on its side."""
        if clause.verdict is Verdict.DENY:
            if clause.is_audit:
                self.audit_deny |= bit
            else:
                self.deny |= bit
        elif clause.is_audit:
            self.audit_allow |= bit
        else:
            self.allow |= bit


def _first(clauses: list[_Clause], mask: int) -> int:
    """Return the number of the first clause of a mask that is not empty."""
    return clauses[(mask & -mask).bit_length() - 1].number


def _join(ranges: list[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Return the ranges sorted and disjoint, as the sweep needs them."""
    joined: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = joined[-1][0], max(last, joined[-1][1])
        else:
            joined.append((first, last))
    return tuple(joined)
