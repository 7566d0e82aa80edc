"""Every cell of the semantics table, and what it means, from the words of docs/policy.md alone.

One machine, red/me, talks with peers of its own and of another network, on its own and on another
host, with hosts and with what is outside. A cell has one rule (or none) on a port of its own, so
that one policy holds all cells of a variant at once. What is expected is written here by hand, in
terms of what a rule of that kind is to do; nothing of netagent.policy is used.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from itertools import product

FIRST_PORT = 1_000
FIRST_TYPE = 150
"""ICMPv6 types from here on belong to nobody, and cross the overlay."""


class Effect(Enum):
    """What stands in the policy about a cell's port."""

    ALLOW = "allow"
    DENY = "deny, though another rule allows"
    AUDIT_ALLOW = "allow, in audit"
    AUDIT_DENY = "deny in audit, though a rule allows"
    DEFAULT = "no rule"


class Way(Enum):
    """Who begins: me (the peer is in `to`) or the peer (it is in `from`)."""

    OUT = "to"
    IN = "from"


@dataclass(frozen=True, slots=True)
class Peer:
    """Somebody whom red/me talks with. kinds: the selectors that match it."""

    name: str
    kinds: frozenset[str]
    is_same_network: bool = False


LABELLED = frozenset(
    ("labels equal", "labels any of", "labels exists", "labels not", "machine", "network", "group")
)
NETWORK_ONLY = frozenset(("network",))
PEERS = (
    Peer("red/near", LABELLED | {"any"}, is_same_network=True),
    Peer("red/far", LABELLED | {"any"}, is_same_network=True),
    Peer("red/other", NETWORK_ONLY | {"any"}, is_same_network=True),
    Peer("blue/near", frozenset({f"blue {kind}" for kind in LABELLED} | {"any"})),
    Peer("blue/far", frozenset({f"blue {kind}" for kind in LABELLED} | {"any"})),
    Peer("blue/other", frozenset({"blue network", "any"})),
    Peer("host-a", frozenset({"host", "any"})),
    Peer("host-b", frozenset({"host", "any"})),
    Peer("2001:db8:100::2", frozenset({"cidr", "any"})),
    Peer("2001:db8:100:1::2", frozenset({"any"})),
)
"""red/me, near and other are on host-a, far on host-b; outside is behind host-a."""

_LABELS = {
    "labels equal": "{app: peer}",
    "labels any of": "{app: [nobody, peer]}",
    "labels exists": "{app: {exists: true}, role: peer}",
    "labels not": "{role: {not: [other, me]}}",
}


def selector_of(kind: str) -> str:
    """Return a selector of that kind, as YAML."""
    network, _, own = kind.partition(" ") if kind.startswith("blue ") else ("red", "", kind)
    if own in _LABELS:
        return f"{{network: {network}, labels: {_LABELS[own]}}}"
    return {
        "machine": f"{{machine: [{network}/near, {network}/far]}}",
        "network": f"{{network: {network}}}",
        "group": f"{{group: {network}-peers}}",
        "any": "any",
        "host": "host",
        "cidr": '{cidr: ["2001:db8:100::/40"], except: ["2001:db8:100:1::/64"]}',
    }[own]


KINDS = (
    *sorted(LABELLED),
    *sorted(f"blue {kind}" for kind in LABELLED),
    "any",
    "host",
    "cidr",
)


@dataclass(frozen=True, slots=True)
class Cell:
    """One rule's worth of the table. port: of tcp and udp; type: of icmp6, where there is one."""

    kind: str
    way: Way
    effect: Effect
    port: int
    icmp_type: int | None

    def expects(self, peer: Peer, default: str, mode: str) -> bool:
        """Whether packets pass between red/me and the peer.

        The other network consents to everything, so that red's policy alone decides.
        """
        if mode == "audit":
            return True
        is_matched = self.kind in peer.kinds
        otherwise = default == "allow" and peer.is_same_network
        return {
            Effect.ALLOW: is_matched or otherwise,
            Effect.DENY: not is_matched,
            Effect.AUDIT_ALLOW: otherwise,
            Effect.AUDIT_DENY: True,
            Effect.DEFAULT: otherwise,
        }[self.effect]


def cells() -> Iterator[Cell]:
    """Yield every cell. ICMPv6 has types enough for a selection: each kind with allow and deny."""
    types = iter(range(FIRST_TYPE, 256))
    every = product(KINDS, Way, Effect)
    for number, (kind, way, effect) in enumerate(every):
        has_type = effect in (Effect.ALLOW, Effect.DENY)
        yield Cell(kind, way, effect, FIRST_PORT + number, next(types) if has_type else None)


def policy_text(default: str, mode: str) -> str:
    """Return red's policy that holds all cells."""
    lines = [
        "network: red",
        f"default: {default}",
        f"mode: {mode}",
        "groups:",
        "  red-peers: [{machine: near}, {labels: {app: peer}}]",
        "  blue-peers: [{machine: blue/near}, {network: blue, labels: {app: peer}}]",
        "rules:",
    ]
    for cell in cells():
        lines += _rules(cell)
    return "\n".join(lines) + "\n"


def _rules(cell: Cell) -> list[str]:
    if cell.effect is Effect.DEFAULT:
        return []
    me, peer = "{labels: {role: me}}", selector_of(cell.kind)
    ends = (me, peer) if cell.way is Way.OUT else (peer, me)
    anybody = (me, "any") if cell.way is Way.OUT else ("any", me)
    traffic = f"[tcp/{cell.port}, udp/{cell.port}"
    traffic += f", icmp6/{cell.icmp_type}]" if cell.icmp_type is not None else "]"
    name = f"c{cell.port}"
    is_deny = cell.effect in (Effect.DENY, Effect.AUDIT_DENY)
    is_audit = cell.effect in (Effect.AUDIT_ALLOW, Effect.AUDIT_DENY)
    verb = "deny" if is_deny else "allow"
    mode = ", mode: audit" if is_audit else ""
    rules = [f"  - {{name: {name}, from: {ends[0]}, to: {ends[1]}, {verb}: {traffic}{mode}}}"]
    if is_deny:
        allow = f"  - {{name: {name}-all, from: {anybody[0]}, to: {anybody[1]}, allow: {traffic}}}"
        rules.insert(0, allow)
    return rules


CONSENTING = """\
network: blue
default: allow
rules:
  - {name: out, from: {network: blue}, to: any, allow: [any]}
  - {name: in, from: any, to: {network: blue}, allow: [any]}
"""
