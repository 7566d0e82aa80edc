"""The replica's tables of policies, docs/replica.md: reads them whole, writes what has changed."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from ipaddress import IPv6Network

from netagent.model.fleet import Identity
from netagent.policy.delta import PolicyDelta, empty_policy, plan_delta
from netagent.policy.entries import (
    ClassId,
    CompiledPolicy,
    Direction,
    Interval,
    PolicyClass,
)
from netagent.policy.language import Verdict
from netagent.reconcile.view import Delta, HeldPolicy

_TABLES = ("policy", "policy_pair", "policy_interval", "policy_prefix", "policy_rule")


def read_policies(database: sqlite3.Connection) -> dict[int, HeldPolicy]:
    """Return every policy by network number."""
    policies = {}
    for network, name, version, content, *defaults in database.execute(
        "SELECT network, name, version, content, inside_class, egress_class, ingress_class"
        " FROM policy ORDER BY network"
    ):
        rules = database.execute("SELECT rule, name FROM policy_rule WHERE network = ?", (network,))
        prefixes = database.execute(
            "SELECT prefix, identity FROM policy_prefix WHERE network = ?", (network,)
        )
        compiled = CompiledPolicy(
            network=name,
            number=network,
            version=version,
            pairs=_read_pairs(database, network),
            defaults=dict(zip(Direction, map(_class_id, defaults), strict=True)),
            classes=_read_classes(database, network),
            prefixes={IPv6Network(prefix): Identity(identity) for prefix, identity in prefixes},
            rules=dict(rules),
        )
        policies[network] = HeldPolicy(compiled, content)
    return policies


def write_policies(database: sqlite3.Connection, delta: Delta) -> None:
    """Write what `delta` changes of policies, within the caller's transaction. Idempotent."""
    for table in _TABLES:
        database.executemany(
            f"DELETE FROM {table} WHERE network = ?",  # noqa: S608  names of our own
            ((number,) for number in sorted(delta.dropped_policies)),
        )
    for number, held in sorted(delta.policies.items()):
        former = delta.former_policies.get(number)
        before = former.compiled if former else empty_policy(held.compiled.network, number)
        _write_policy(database, held)
        _write_entries(database, number, plan_delta(before, held.compiled))
        if before.rules != held.compiled.rules:
            _write_rules(database, number, held.compiled.rules.items())


def _write_policy(database: sqlite3.Connection, held: HeldPolicy) -> None:
    compiled = held.compiled
    defaults = (_class_name(compiled.defaults[direction]) for direction in Direction)
    database.execute(
        "REPLACE INTO policy VALUES (?, ?, ?, ?, ?, ?, ?)",
        (compiled.number, compiled.network, compiled.version, held.content, *defaults),
    )


def _write_entries(database: sqlite3.Connection, network: int, delta: PolicyDelta) -> None:
    database.executemany(
        "DELETE FROM policy_pair"
        " WHERE network = ? AND direction = ? AND source = ? AND destination = ?",
        (
            (network, _word(direction), source, destination)
            for (direction, source, destination), class_id in delta.pairs.items()
            if class_id is None
        ),
    )
    database.executemany(
        "REPLACE INTO policy_pair VALUES (?, ?, ?, ?, ?)",
        (
            (network, _word(direction), source, destination, _class_name(class_id))
            for (direction, source, destination), class_id in delta.pairs.items()
            if class_id is not None
        ),
    )
    database.executemany(
        "DELETE FROM policy_interval WHERE network = ? AND class = ?",
        ((network, _class_name(class_id)) for class_id in delta.old_classes),
    )
    database.executemany(
        "REPLACE INTO policy_interval VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            (
                network,
                _class_name(class_id),
                protocol,
                one.first,
                one.last,
                _word(one.verdict),
                one.rule,
                one.audit_rule,
            )
            for class_id, policy_class in delta.new_classes.items()
            for protocol, intervals in policy_class.protocols.items()
            for one in intervals
        ),
    )
    database.executemany(
        "DELETE FROM policy_prefix WHERE network = ? AND prefix = ?",
        ((network, str(prefix)) for prefix in delta.prefixes),
    )
    database.executemany(
        "INSERT INTO policy_prefix VALUES (?, ?, ?)",
        (
            (network, str(prefix), identity)
            for prefix, identity in delta.prefixes.items()
            if identity is not None
        ),
    )


def _write_rules(
    database: sqlite3.Connection, network: int, rules: Iterable[tuple[int, str]]
) -> None:
    database.execute("DELETE FROM policy_rule WHERE network = ?", (network,))
    database.executemany(
        "INSERT INTO policy_rule VALUES (?, ?, ?)",
        ((network, number, name) for number, name in rules),
    )


def _read_pairs(
    database: sqlite3.Connection, network: int
) -> dict[Direction, dict[Identity, dict[Identity, ClassId]]]:
    pairs: dict[Direction, dict[Identity, dict[Identity, ClassId]]] = {one: {} for one in Direction}
    for direction, source, destination, name in database.execute(
        "SELECT direction, source, destination, class FROM policy_pair WHERE network = ?",
        (network,),
    ):
        rows = pairs[Direction[direction.upper()]]
        rows.setdefault(Identity(source), {})[Identity(destination)] = _class_id(name)
    return pairs


def _read_classes(database: sqlite3.Connection, network: int) -> dict[ClassId, PolicyClass]:
    tables: dict[ClassId, dict[int, list[Interval]]] = {}
    for name, protocol, first, last, verdict, rule, audit_rule in database.execute(
        "SELECT class, protocol, first_port, last_port, verdict, rule, audit_rule"
        " FROM policy_interval WHERE network = ? ORDER BY class, protocol, first_port",
        (network,),
    ):
        intervals = tables.setdefault(_class_id(name), {}).setdefault(protocol, [])
        intervals.append(Interval(first, last, Verdict[verdict.upper()], rule, audit_rule))
    return {
        class_id: PolicyClass(class_id, {one: tuple(rows) for one, rows in protocols.items()})
        for class_id, protocols in tables.items()
    }


def _class_name(class_id: ClassId) -> str:
    return f"{class_id:016x}"


def _class_id(name: str) -> ClassId:
    return ClassId(int(name, 16))


def _word(value: Direction | Verdict) -> str:
    return value.name.lower()
