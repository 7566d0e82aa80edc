"""Compiled policies from messages: joins the parts that convert_policy cuts, and checks them hard.

An agent enforces what it reads here, so whatever no policy can be is refused with the field's path.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from ipaddress import IPv6Address, IPv6Network
from itertools import pairwise
from typing import Final

from netagent.api.control.v1 import sync_service_pb2 as pb
from netagent.api.convert_sync import check_columns
from netagent.model.addresses import HOST_NETWORK
from netagent.model.errors import InvalidError
from netagent.model.fleet import Identity, check_name
from netagent.policy.delta import Pair, PolicyChange, PolicyDelta
from netagent.policy.entries import (
    OTHER_PROTOCOLS,
    ClassId,
    Direction,
    Interval,
    PolicyClass,
)
from netagent.policy.language import Verdict

VERSION_MOST: Final = (1 << 32) - 1
"""The kernel keeps 32 bits of it."""

_PORT_MOST = 0xFFFF


def policies_from_messages(messages: Iterable[pb.PolicyTable]) -> list[PolicyChange]:
    """Return the changes that the parts make up, by when their last part came.

    messages: in the order in which they came; parts of several networks may alternate.
    Raises InvalidError, naming the field, for what no policy can be; whether the classes that a
    difference refers to are there is for apply_delta to say.
    """
    open_parts: dict[int, list[pb.PolicyTable]] = {}
    changes = []
    for message in messages:
        parts = open_parts.setdefault(message.network, [])
        parts.append(message)
        if message.content:
            changes.append(_read_change(open_parts.pop(message.network)))
    for network in open_parts:
        raise InvalidError(f"policies[{network}].content", "the last part did not come")
    return changes


def _read_change(parts: Sequence[pb.PolicyTable]) -> PolicyChange:
    first, last = parts[0], parts[-1]
    where = f"policies[{first.network}]"
    if first.network == HOST_NETWORK:
        raise InvalidError(f"{where}.network", "hosts have no policy")
    if any(part.whole for part in parts[1:]):
        raise InvalidError(f"{where}.whole", "stands in a part other than the first")
    if last.version > VERSION_MOST:
        raise InvalidError(f"{where}.version", f"{last.version} is beyond {VERSION_MOST}")
    rules = _read_rules(where, last)
    pairs: dict[Pair, ClassId | None] = {}
    classes: dict[ClassId, PolicyClass | None] = {}
    prefixes: dict[IPv6Network, Identity | None] = {}
    for part in parts:
        for message in part.classes:
            classes[ClassId(message.class_id)] = _read_class(where, message, rules)
        classes.update(dict.fromkeys(map(ClassId, part.removed_classes)))
        for prefix in part.prefixes:
            prefixes[_read_prefix(f"{where}.prefixes", prefix)] = Identity(prefix.identity)
        for prefix in part.removed_prefixes:
            prefixes[_read_prefix(f"{where}.removed_prefixes", prefix)] = None
        _read_pairs(where, part, pairs)
    delta = PolicyDelta(
        pairs,
        prefixes,
        _read_defaults(where, last),
        {class_id: one for class_id, one in classes.items() if one is not None},
        frozenset(class_id for class_id, one in classes.items() if one is None),
        rules,
        last.version,
    )
    return PolicyChange(
        number=first.network,
        network=check_name(f"{where}.network_name", last.network_name),
        is_whole=first.whole,
        content=last.content,
        delta=delta,
    )


def _read_rules(where: str, last: pb.PolicyTable) -> dict[int, str]:
    check_columns(f"{where}.rules", last.rule_numbers, last.rule_names)
    rules = dict(zip(last.rule_numbers, last.rule_names, strict=True))
    if len(rules) < len(last.rule_numbers):
        raise InvalidError(f"{where}.rule_numbers", "two rules have one number")
    for number, name in rules.items():
        if number == 0:
            raise InvalidError(f"{where}.rule_numbers", "0 is the default, not a rule")
        check_name(f"{where}.rule_names", name)
    return rules


def _read_defaults(where: str, last: pb.PolicyTable) -> dict[Direction, ClassId]:
    if len(last.defaults) != len(Direction):
        raise InvalidError(f"{where}.defaults", f"{len(last.defaults)} instead of three")
    return dict(zip(Direction, map(ClassId, last.defaults), strict=True))


def _read_pairs(where: str, part: pb.PolicyTable, pairs: dict[Pair, ClassId | None]) -> None:
    """Add a part's pairs, removals first: a pair that is in both is set."""
    directions = _read_directions(f"{where}.removed_pair_directions", part.removed_pair_directions)
    sources, destinations = part.removed_pair_sources, part.removed_pair_destinations
    check_columns(f"{where}.removed_pairs", directions, sources, destinations)
    removed = zip(directions, map(Identity, sources), map(Identity, destinations), strict=True)
    pairs.update(dict.fromkeys(removed))
    directions = _read_directions(f"{where}.pair_directions", part.pair_directions)
    sources, destinations = part.pair_sources, part.pair_destinations
    check_columns(f"{where}.pairs", directions, sources, destinations, part.pair_classes)
    keys = zip(directions, map(Identity, sources), map(Identity, destinations), strict=True)
    pairs.update(zip(keys, map(ClassId, part.pair_classes), strict=True))


_DIRECTIONS: Mapping[int, Direction] = {one.value: one for one in Direction}


def _read_directions(field: str, raw: bytes) -> list[Direction]:
    unknown = set(raw) - _DIRECTIONS.keys()
    if unknown:
        raise InvalidError(field, f"{min(unknown)} is no direction")
    return [_DIRECTIONS[one] for one in raw]


def _read_class(where: str, message: pb.PolicyClass, rules: Mapping[int, str]) -> PolicyClass:
    field = f"{where}.classes[{message.class_id:016x}]"
    protocols = {}
    for table in message.protocols:
        if table.protocol > 0xFF or table.protocol in protocols:
            raise InvalidError(
                f"{field}.protocols", f"{table.protocol} is no protocol, or stands there twice"
            )
        protocols[table.protocol] = _read_intervals(
            f"{field}.protocols[{table.protocol}]", table, rules
        )
    if OTHER_PROTOCOLS not in protocols:
        raise InvalidError(f"{field}.protocols", "nothing for protocols that are not listed")
    return PolicyClass(ClassId(message.class_id), protocols)


def _read_intervals(
    field: str, table: pb.ProtocolIntervals, rules: Mapping[int, str]
) -> tuple[Interval, ...]:
    firsts = list(table.first_ports)
    check_columns(field, firsts, table.verdicts, table.rules, table.audit_rules)
    if firsts[:1] != [0]:
        raise InvalidError(f"{field}.first_ports", "the intervals do not begin at port 0")
    if firsts[-1] > _PORT_MOST or any(one >= next_one for one, next_one in pairwise(firsts)):
        raise InvalidError(f"{field}.first_ports", f"they do not ascend to at most {_PORT_MOST}")
    if set(table.verdicts) - {0, 1}:
        raise InvalidError(f"{field}.verdicts", "a verdict is 0 or 1")
    unknown = (set(table.rules) | set(table.audit_rules)) - rules.keys() - {0, -1}
    if unknown:
        raise InvalidError(f"{field}.rules", f"no rule has number {min(unknown)}")
    lasts = [*(one - 1 for one in firsts[1:]), _PORT_MOST]
    rows = zip(firsts, lasts, table.verdicts, table.rules, table.audit_rules, strict=True)
    return tuple(
        Interval(
            first,
            last,
            Verdict.ALLOW if is_allowed else Verdict.DENY,
            rule,
            None if audit_rule < 0 else audit_rule,
        )
        for first, last, is_allowed, rule, audit_rule in rows
    )


def _read_prefix(field: str, message: pb.OutsidePrefix) -> IPv6Network:
    if len(message.address) != 16 or message.length > 128:
        raise InvalidError(field, f"{message.address.hex()}/{message.length} is no prefix")
    try:
        return IPv6Network((message.address, message.length))
    except ValueError as error:
        address = IPv6Address(message.address)
        raise InvalidError(field, f"{address}/{message.length} has host bits") from error
