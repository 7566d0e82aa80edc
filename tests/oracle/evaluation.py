"""Line 7 of access: which policies are asked, and what becomes of what they say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from netagent.dataplane.abi import Verdict
from netagent.dataplane.abi_flows import FlowRow, FlowStateRow
from netagent.dataplane.abi_policy import RuleRow
from netagent.model.addresses import HOST_NETWORK
from netagent.policy.entries import Direction
from oracle.policies import Answer, End, Question
from oracle.world import Effects, Side, Tally, World


@dataclass(frozen=True, slots=True)
class Judgement:
    """What is said of a flow: by policies now (answers), or when they were last asked.

    verdict: None when all allow. remembered: indices of the rule that allowed and of the one that
    audit would follow, by end. flows: entries that change.
    """

    verdict: Verdict | None = None
    answers: Mapping[Side, Answer] = field(default_factory=dict)
    remembered: Mapping[Side, tuple[int, int]] = field(default_factory=dict)
    flows: Mapping[FlowRow, FlowStateRow | None] = field(default_factory=dict)
    is_new_flow: bool = False

    def rules(self, world: World) -> dict[str, int]:
        """Return the fields of a flow's entry that say which rules allowed it."""
        places = {**self.remembered, **{s: _places(world, a) for s, a in self.answers.items()}}
        egress, ingress = (places.get(side, (0, 0)) for side in Side)
        return {
            "egress_rule": egress[0],
            "egress_audit": egress[1],
            "ingress_rule": ingress[0],
            "ingress_audit": ingress[1],
        }

    def effects(self, world: World) -> Effects:
        counts = []
        for side, (rule, audit) in self.remembered.items():
            counts += [(rule, side, Tally.ALLOWED), (audit, side, Tally.AUDITED)]
        for side, answer in self.answers.items():
            rule, audit = _places(world, answer)
            tally = Tally.ALLOWED if answer.is_allowed else Tally.DENIED
            counts += [(rule, side, tally), (audit, side, Tally.AUDITED)]
        return Effects(
            flows=self.flows,
            counts=tuple(count for count in counts if count[0]),
            answers=tuple(self.answers.values()),
            is_new_flow=self.is_new_flow,
        )


def remembered_judgement(
    egress_rule: int, egress_audit: int, ingress_rule: int, ingress_audit: int
) -> Judgement:
    """Return what was said when a flow or a first fragment was evaluated."""
    remembered = {
        Side.SENDER: (egress_rule, egress_audit),
        Side.RECEIVER: (ingress_rule, ingress_audit),
    }
    return Judgement(remembered=remembered)


def evaluate(world: World, source: End, destination: End, protocol: int, port: int) -> Judgement:
    """Return what the policies say that are asked at this host; the sender's first."""
    sender, receiver = _who_is_asked(source, destination)
    ends = []
    if source.is_here and sender is not None:
        ends.append((Side.SENDER, sender, Verdict.DROP_DENIED_EGRESS))
    is_same = source.is_here and sender == receiver
    if destination.is_here and receiver is not None and not is_same:
        ends.append((Side.RECEIVER, receiver, Verdict.DROP_DENIED_INGRESS))
    answers: dict[Side, Answer] = {}
    for side, network, denied in ends:
        direction = _direction(network, source, destination)
        question = Question(network, direction, source, destination, protocol, port)
        answer = world.judge.ask(world.locations, question)
        if answer is None:
            return Judgement(Verdict.DROP_NO_POLICY, answers)
        answers[side] = answer
        if not answer.is_allowed:
            return Judgement(denied, answers)
    return Judgement(None, answers)


def _who_is_asked(source: End, destination: End) -> tuple[int | None, int | None]:
    """Return whose policy the sender's and the receiver's end ask; None for nobody's."""
    sender = source.network if source.is_machine else None
    if destination.network is None:
        return sender, None
    return sender, sender if destination.network == HOST_NETWORK else destination.network


def _direction(network: int, source: End, destination: End) -> Direction:
    if source.network == destination.network:
        return Direction.INSIDE
    return Direction.EGRESS if source.network == network else Direction.INGRESS


def _places(world: World, answer: Answer) -> tuple[int, int]:
    """Return the counters of an answer's rule and audited rule; 0 for none."""
    rules = (answer.rule, answer.audit_rule)
    rule, audit = (
        0 if number is None else world.rule_indices.get(RuleRow(answer.network, number), 0)
        for number in rules
    )
    return rule, audit
