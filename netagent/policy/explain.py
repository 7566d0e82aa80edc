"""Why a packet passes or does not: the verdict at each end, from the compiled entries."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from netagent.policy.book import Rulebook, who_is_asked
from netagent.policy.language import Decision, Party, Verdict
from netagent.policy.lookup import evaluate_compiled
from netagent.policy.traffic import format_point


@dataclass(frozen=True, slots=True)
class Opinion:
    """What one end says. at: `sender` or `receiver`."""

    at: str
    network: str
    version: int
    decision: Decision

    def describe(self) -> str:
        """Return the opinion as one line: verdict, who decided, and what audit would have done."""
        decision = self.decision
        verb = _VERBS[decision.verdict]
        line = f"{verb} by {self._who(decision.rule)}"
        if not decision.is_audited:
            return line
        would = f"{self._who(decision.audit_rule)} would {_WOULD[decision.verdict.opposite]}"
        if decision.rule is None and decision.verdict is Verdict.ALLOW:
            return f"{verb}, in audit mode: {would}"
        return f"{line}, in audit: {would}"

    def _who(self, rule: str | None) -> str:
        if rule is None:
            return f"default of network {self.network}, version {self.version}"
        return f"rule {rule!r} of network {self.network}, version {self.version}"


_VERBS = {Verdict.ALLOW: "allowed", Verdict.DENY: "denied"}
_WOULD = {Verdict.ALLOW: "allow it", Verdict.DENY: "deny it"}


@dataclass(frozen=True, slots=True)
class Explanation:
    """The verdict about the first packet of a flow. opinions: of each end that is asked."""

    source: Party
    destination: Party
    protocol: int
    port: int
    opinions: tuple[Opinion, ...]

    @property
    def verdict(self) -> Verdict:
        """Allow if everybody who is asked allows."""
        return join_verdicts(opinion.decision.verdict for opinion in self.opinions)

    def lines(self) -> list[str]:
        """Return the explanation for people: the verdict, then one line for each end."""
        what = format_point(self.protocol, self.port)
        head = f"{self.source} -> {self.destination} {what}: {_VERBS[self.verdict]}"
        if not self.opinions:
            return [head, "  no policy is asked"]
        ends = {opinion.at: opinion.describe() for opinion in self.opinions}
        nobody = "nobody is asked"
        return [head, *(f"  {at:<9} {ends.get(at, nobody)}" for at in ("sender", "receiver"))]


def join_verdicts(verdicts: Iterable[Verdict]) -> Verdict:
    """Return the verdict of several ends: deny beats allow."""
    return Verdict.DENY if Verdict.DENY in set(verdicts) else Verdict.ALLOW


def explain(
    book: Rulebook, source: Party, destination: Party, protocol: int, port: int
) -> Explanation:
    """Return what each end says to a packet; KeyError for a machine that the fleet lacks.

    port: for ICMPv6 `type << 8 | code`, for protocols without ports 0.
    """
    opinions = tuple(
        Opinion(
            asked.at,
            asked.compiled.network,
            asked.compiled.version,
            evaluate_compiled(asked.compiled, asked.key, protocol, port),
        )
        for asked in who_is_asked(book, source, destination)
    )
    return Explanation(source, destination, protocol, port, opinions)
