"""Compiled policies as messages, in parts of bounded size; convert_policy_reading joins them again.

The parts of one policy are classes first, then prefixes, then pairs; the last one says what the
policy is called and holds all that is small: version, defaults and the names of rules. A last part
that holds nothing else is the difference that changes no entry.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import IPv6Network
from typing import Final

from netagent.api.control.v1 import sync_service_pb2 as pb
from netagent.model.fleet import Identity
from netagent.policy.delta import Pair, PolicyDelta
from netagent.policy.entries import (
    ClassId,
    CompiledPolicy,
    Direction,
    PolicyClass,
)
from netagent.policy.language import Verdict

ENTRIES_MOST: Final = 4096
"""Pairs and prefixes in one part, removed ones included."""

INTERVALS_MOST: Final = 16_384
"""Intervals in one part, unless a single class has more."""


def policy_to_messages(
    policy: CompiledPolicy, content: bytes, delta: PolicyDelta | None = None
) -> Iterator[pb.PolicyTable]:
    """Yield the parts that bring an agent to `policy`; at least one.

    content: what to call it, not empty. delta: what turns that which the agent holds into `policy`
    (plan_delta); None: the policy goes whole.
    """
    assert content
    parts = _Parts(policy.number, policy.network, is_whole=delta is None)
    if delta is None:
        yield from parts.add_classes(policy.classes.values())
        yield from parts.add_prefixes(policy.prefixes.items())
        yield from parts.add_pairs((pair[:3], pair[3]) for pair in policy.each_pair())
    else:
        yield from parts.add_classes(delta.new_classes.values())
        yield from parts.add_prefixes(delta.prefixes.items())
        yield from parts.add_pairs(delta.pairs.items())
        parts.current.removed_classes.extend(sorted(delta.old_classes))
    last = parts.current
    last.content = content
    last.version = policy.version
    last.defaults.extend(policy.defaults[direction] for direction in Direction)
    last.rule_numbers.extend(policy.rules)
    last.rule_names.extend(policy.rules.values())
    yield last


class _Parts:
    """The part that is being filled; those that are full are yielded."""

    def __init__(self, number: int, network: str, *, is_whole: bool) -> None:
        self._number = number
        self._network = network
        self._begin(is_whole=is_whole)

    def _begin(self, *, is_whole: bool = False) -> None:
        self.current = pb.PolicyTable(
            network=self._number, network_name=self._network, whole=is_whole
        )
        self._intervals = self._entries = 0

    def add_classes(self, classes: Iterable[PolicyClass]) -> Iterator[pb.PolicyTable]:
        for one in classes:
            size = sum(map(len, one.protocols.values()))
            if self._intervals and self._intervals + size > INTERVALS_MOST:
                yield self.current
                self._begin()
            self._intervals += size
            self.current.classes.append(_class_to_message(one))

    def add_prefixes(
        self, prefixes: Iterable[tuple[IPv6Network, Identity | None]]
    ) -> Iterator[pb.PolicyTable]:
        for prefix, identity in prefixes:
            if self._entries == ENTRIES_MOST:
                yield self.current
                self._begin()
            self._entries += 1
            message = pb.OutsidePrefix(
                address=prefix.network_address.packed, length=prefix.prefixlen
            )
            if identity is None:
                self.current.removed_prefixes.append(message)
            else:
                message.identity = identity
                self.current.prefixes.append(message)

    def add_pairs(self, pairs: Iterable[tuple[Pair, ClassId | None]]) -> Iterator[pb.PolicyTable]:
        columns = _PairColumns()
        for pair, class_id in pairs:
            if self._entries == ENTRIES_MOST:
                columns.fill(self.current)
                yield self.current
                columns = _PairColumns()
                self._begin()
            self._entries += 1
            columns.add(pair, class_id)
        columns.fill(self.current)


class _PairColumns:
    """Pairs on their way into one part: lists first, since growing a message is slow."""

    def __init__(self) -> None:
        self._set: list[tuple[int, int, int, int]] = []
        self._removed: list[tuple[int, int, int]] = []

    def add(self, pair: Pair, class_id: ClassId | None) -> None:
        direction, source, destination = pair
        if class_id is None:
            self._removed.append((direction.value, source, destination))
        else:
            self._set.append((direction.value, source, destination, class_id))

    def fill(self, message: pb.PolicyTable) -> None:
        message.pair_directions = bytes(one[0] for one in self._set)
        message.pair_sources.extend(one[1] for one in self._set)
        message.pair_destinations.extend(one[2] for one in self._set)
        message.pair_classes.extend(one[3] for one in self._set)
        message.removed_pair_directions = bytes(one[0] for one in self._removed)
        message.removed_pair_sources.extend(one[1] for one in self._removed)
        message.removed_pair_destinations.extend(one[2] for one in self._removed)


def _class_to_message(policy_class: PolicyClass) -> pb.PolicyClass:
    return pb.PolicyClass(
        class_id=policy_class.class_id,
        protocols=[
            pb.ProtocolIntervals(
                protocol=protocol,
                first_ports=[one.first for one in intervals],
                verdicts=bytes(one.verdict is Verdict.ALLOW for one in intervals),
                rules=[one.rule for one in intervals],
                audit_rules=[-1 if one.audit_rule is None else one.audit_rule for one in intervals],
            )
            for protocol, intervals in policy_class.protocols.items()
        ],
    )
