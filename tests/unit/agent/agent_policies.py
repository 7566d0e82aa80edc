"""Compiled policies of the small fleet, and how they come in batches."""

from __future__ import annotations

from netagent.model.fleet import Identity
from netagent.policy.compiler import compile_policy
from netagent.policy.delta import PolicyChange, empty_policy, plan_delta
from netagent.policy.entries import CompiledPolicy
from netagent.policy.fleet import Member, make_snapshot
from netagent.policy.reading import load_policy

WEB_IDENTITY, DB_IDENTITY, BLUE_IDENTITY = Identity(2), Identity(3), Identity(4)

MEMBERS = make_snapshot(
    None,
    {"red": 1, "blue": 2},
    [
        Member("red", "web", WEB_IDENTITY, {"app": "web"}),
        Member("red", "db", DB_IDENTITY, {"app": "db"}),
        Member("blue", "box", BLUE_IDENTITY, {}),
    ],
)

WEB_TO_DB = "{name: web-to-db, from: {labels: {app: web}}, to: {labels: {app: db}}, allow: [PORT]}"
TO_MIRRORS = "{name: to-mirrors, from: any, to: {cidr: ['2001:db8::/32']}, allow: [tcp/443]}"


def compiled(
    *rules: str, version: int = 1, network: str = "red", default: str = "deny"
) -> CompiledPolicy:
    """Return the compiled policy with these rules, one YAML flow mapping each."""
    lines = [f"network: {network}", f"default: {default}"]
    lines += ["rules:", *(f"  - {rule}" for rule in rules)] if rules else []
    return compile_policy(load_policy("\n".join(lines), "policy.yaml"), MEMBERS, version).entries


def allowing(*ports: str, version: int = 1) -> CompiledPolicy:
    """Return red's policy under which web reaches these ports of db, and mirrors outside."""
    listed = ", ".join(f'"{port}"' for port in ports)
    return compiled(WEB_TO_DB.replace("PORT", listed), TO_MIRRORS, version=version)


def whole(policy: CompiledPolicy, content: bytes = b"1") -> PolicyChange:
    delta = plan_delta(empty_policy(policy.network, policy.number), policy)
    return PolicyChange(policy.number, policy.network, True, content, delta)


def difference(
    before: CompiledPolicy, after: CompiledPolicy, content: bytes = b"2"
) -> PolicyChange:
    return PolicyChange(after.number, after.network, False, content, plan_delta(before, after))
