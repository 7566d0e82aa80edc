"""Policies that cannot be meant are refused with the field that says so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv6Network

import pytest

from netagent.api.control.v1 import sync_service_pb2 as pb
from netagent.api.convert_policy import ENTRIES_MOST, policy_to_messages
from netagent.api.convert_policy_reading import policies_from_messages
from netagent.model.errors import InvalidError
from netagent.model.fleet import Identity
from netagent.policy.delta import PolicyDelta, apply_delta, empty_policy
from netagent.policy.entries import (
    ClassId,
    CompiledPolicy,
    Direction,
    Interval,
    PolicyClass,
)
from netagent.policy.language import Verdict

OPEN, SSH = ClassId(0xFFFF_FFFF_FFFF_FFFF), ClassId(7)
POLICY = CompiledPolicy(
    network="shop",
    number=7,
    version=3,
    pairs={
        Direction.INSIDE: {Identity(2): {Identity(3): SSH}},
        Direction.EGRESS: {},
        Direction.INGRESS: {},
    },
    defaults=dict.fromkeys(Direction, OPEN),
    classes={
        OPEN: PolicyClass(OPEN, {0: (Interval(0, 65535, Verdict.ALLOW, 0, None),)}),
        SSH: PolicyClass(
            SSH,
            {
                0: (Interval(0, 65535, Verdict.DENY, 0, None),),
                6: (
                    Interval(0, 21, Verdict.DENY, 0, None),
                    Interval(22, 22, Verdict.ALLOW, 1, 2),
                    Interval(23, 65535, Verdict.ALLOW, 0, 0),
                ),
            },
        ),
    },
    prefixes={IPv6Network("2001:db8::/32"): Identity(0x8000_0001)},
    rules={1: "ssh", 2: "no-ssh"},
)
CONTENT = b"content"


def whole() -> pb.PolicyTable:
    (message,) = policy_to_messages(POLICY, CONTENT)
    return message


def change(**fields: object) -> Callable[[pb.PolicyTable], None]:
    """Return what replaces these fields of a message."""

    def apply(message: pb.PolicyTable) -> None:
        for name, value in fields.items():
            message.ClearField(name)
            if isinstance(value, list):
                getattr(message, name).extend(value)
            else:
                setattr(message, name, value)

    return apply


def intervals(**fields: object) -> Callable[[pb.PolicyTable], None]:
    columns = {"first_ports": [0], "verdicts": b"\1", "rules": [0], "audit_rules": [-1]}
    table = pb.ProtocolIntervals(**{**columns, **fields})
    return change(classes=[pb.PolicyClass(class_id=9, protocols=[table])])


def prefix(address: bytes, length: int) -> pb.OutsidePrefix:
    return pb.OutsidePrefix(address=address, length=length, identity=0x8000_0001)


def test_a_small_policy_is_one_message() -> None:
    (arrived,) = policies_from_messages([whole()])

    assert apply_delta(empty_policy("shop", 7), arrived.delta) == POLICY


def test_no_part_is_larger_than_its_bound() -> None:
    row = {Identity(n): SSH for n in range(ENTRIES_MOST * 2)}
    wide = replace(POLICY, pairs={**POLICY.pairs, Direction.EGRESS: {Identity(2): row}})

    parts = list(policy_to_messages(wide, CONTENT))

    assert [len(part.pair_classes) for part in parts] == [ENTRIES_MOST - 1, ENTRIES_MOST, 2]
    assert [part.whole for part in parts] == [True, False, False]
    assert [part.content for part in parts] == [b"", b"", CONTENT]


@pytest.mark.parametrize(
    ("spoil", "field"),
    [
        pytest.param(change(network=0), "policies[0].network", id="the hosts' network"),
        pytest.param(change(network_name="Shop!"), "policies[7].network_name", id="name"),
        pytest.param(change(content=b""), "policies[7].content", id="last part missing"),
        pytest.param(change(version=1 << 32), "policies[7].version", id="version"),
        pytest.param(change(defaults=[1, 2]), "policies[7].defaults", id="two defaults"),
        pytest.param(change(pair_sources=[]), "policies[7].pairs", id="uneven pairs"),
        pytest.param(
            change(removed_pair_sources=[2]), "policies[7].removed_pairs", id="uneven removed pairs"
        ),
        pytest.param(
            change(pair_directions=b"\3"), "policies[7].pair_directions", id="fourth direction"
        ),
        pytest.param(
            change(removed_pair_directions=b"\3"),
            "policies[7].removed_pair_directions",
            id="fourth direction, removed",
        ),
        pytest.param(change(rule_names=["a"]), "policies[7].rules", id="uneven rules"),
        pytest.param(
            change(rule_numbers=[1, 1]), "policies[7].rule_numbers", id="one number twice"
        ),
        pytest.param(change(rule_numbers=[0, 1]), "policies[7].rule_numbers", id="rule 0"),
        pytest.param(change(rule_names=["a", ""]), "policies[7].rule_names", id="no rule name"),
        pytest.param(
            change(prefixes=[prefix(b"\x20\1" + b"\0" * 13 + b"\1", 32)]),
            "policies[7].prefixes",
            id="host bits",
        ),
        pytest.param(change(prefixes=[prefix(b"\1\2\3\4", 32)]), "policies[7].prefixes", id="IPv4"),
        pytest.param(change(prefixes=[prefix(b"\0" * 16, 129)]), "policies[7].prefixes", id="/129"),
        pytest.param(
            change(removed_prefixes=[prefix(b"\1" * 16, 8)]),
            "policies[7].removed_prefixes",
            id="host bits, removed",
        ),
    ],
)
def test_a_table_that_cannot_be_meant_names_the_field(
    spoil: Callable[[pb.PolicyTable], None], field: str
) -> None:
    message = whole()
    spoil(message)

    with pytest.raises(InvalidError) as caught:
        policies_from_messages([message])

    assert caught.value.field == field


@pytest.mark.parametrize(
    ("spoil", "field"),
    [
        pytest.param(intervals(first_ports=[1]), "[0].first_ports", id="not from 0"),
        pytest.param(
            intervals(first_ports=[], verdicts=b"", rules=[], audit_rules=[]),
            "[0].first_ports",
            id="none at all",
        ),
        pytest.param(
            intervals(
                first_ports=[0, 5, 5], verdicts=b"\0\1\0", rules=[0] * 3, audit_rules=[-1] * 3
            ),
            "[0].first_ports",
            id="not ascending",
        ),
        pytest.param(
            intervals(first_ports=[0, 65536], verdicts=b"\0\1", rules=[0, 0], audit_rules=[0, 0]),
            "[0].first_ports",
            id="beyond 65535",
        ),
        pytest.param(intervals(verdicts=b"\2"), "[0].verdicts", id="third verdict"),
        pytest.param(intervals(verdicts=b"\1\1"), "[0]", id="uneven"),
        pytest.param(intervals(rules=[3]), "[0].rules", id="unknown rule"),
        pytest.param(intervals(audit_rules=[3]), "[0].rules", id="unknown audited rule"),
        pytest.param(intervals(audit_rules=[-2]), "[0].rules", id="negative rule"),
        pytest.param(intervals(protocol=6), "", id="nothing for other protocols"),
        pytest.param(intervals(protocol=256), "", id="no protocol"),
    ],
)
def test_a_class_that_cannot_be_meant_names_the_field(
    spoil: Callable[[pb.PolicyTable], None], field: str
) -> None:
    message = whole()
    spoil(message)

    with pytest.raises(InvalidError) as caught:
        policies_from_messages([message])

    assert caught.value.field == f"policies[7].classes[{9:016x}].protocols{field}"


def test_a_table_begins_once() -> None:
    first = pb.PolicyTable(network=7, network_name="shop", whole=True)

    with pytest.raises(InvalidError, match=r"policies\[7\]\.whole"):
        policies_from_messages([first, whole()])


def delta(**fields: object) -> PolicyDelta:
    nothing = PolicyDelta({}, {}, {}, {}, frozenset(), POLICY.rules, 4)
    return replace(nothing, **fields)


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        pytest.param(
            delta(pairs={(Direction.EGRESS, Identity(2), Identity(3)): ClassId(99)}),
            "pair_classes",
            id="a class that nobody sent",
        ),
        pytest.param(
            delta(defaults={Direction.EGRESS: ClassId(99)}), "pair_classes", id="a default's class"
        ),
        pytest.param(delta(old_classes=frozenset({SSH})), "removed_classes", id="still in use"),
        pytest.param(
            delta(new_classes={SSH: replace(POLICY.classes[OPEN], class_id=SSH)}),
            "classes",
            id="a class that changes",
        ),
    ],
)
def test_a_difference_that_leaves_no_policy_is_refused(wrong: PolicyDelta, field: str) -> None:
    with pytest.raises(InvalidError) as caught:
        apply_delta(POLICY, wrong)

    assert caught.value.field == f"policies[7].{field}"


def test_a_policy_needs_a_default_for_each_direction() -> None:
    with pytest.raises(InvalidError) as caught:
        apply_delta(empty_policy("shop", 7), delta())

    assert caught.value.field == "policies[7].defaults"
