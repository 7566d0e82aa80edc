"""What a rule or a default does to a packet, and which verdict follows: docs/policy.md alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum

from integration.matrix.kinds import GROUPS, KINDS, Kind


class Direction(Enum):
    """Which way, as seen from the machine that a rule is about."""

    INGRESS = "ingress"
    EGRESS = "egress"


@dataclass(frozen=True, slots=True)
class Effect:
    """A way to decide. verb: of the rule under test; None: no rule, the default decides.

    is_open: (the rule matches, the party is inside) -> whether the packet passes.
    counts: the counter of the rule under test that goes up.
    """

    name: str
    head: str
    verb: str | None
    rule_mode: str
    is_open: Callable[[bool, bool], bool]
    counts: str = ""


_CLOSED = "default: deny\n"
_ALLOW = "default: allow\n"
OPEN_RULE = "  - {name: open, from: any, to: any, allow: [any]}\n"
DENY_RULE = "  - {name: closed, from: any, to: any, deny: [any]}\n"

EFFECTS = (
    Effect("allow", _CLOSED, "allow", "enforce", lambda match, _: match, "allowed"),
    Effect("deny", _CLOSED, "deny", "enforce", lambda match, _: not match, "denied"),
    Effect("audited allow", _CLOSED, "allow", "audit", lambda *_: False, "audited"),
    Effect("audited deny", _CLOSED, "deny", "audit", lambda *_: True, "audited"),
    Effect(
        "allow under default allow",
        _ALLOW,
        "allow",
        "enforce",
        lambda match, inside: match or inside,
        "allowed",
    ),
    Effect(
        "deny under default allow",
        _ALLOW,
        "deny",
        "enforce",
        lambda match, inside: inside and not match,
        "denied",
    ),
    Effect(
        "deny in audited policy",
        "default: deny\nmode: audit\n",
        "deny",
        "enforce",
        lambda *_: True,
        "audited",
    ),
)
DEFAULTS = (
    Effect("default deny", _CLOSED, None, "", lambda *_: False),
    Effect("default allow", _ALLOW, None, "", lambda _, inside: inside),
    Effect("default deny, audited", "default: deny\nmode: audit\n", None, "", lambda *_: True),
)


@dataclass(frozen=True, slots=True)
class Side:
    """A network's part in traffic between two. passes: whether it lets that pass."""

    name: str
    rest: str
    passes: bool

    def policy_of(self, network: str) -> str:
        """Return the policy of a network that takes this side."""
        return f"network: {network}\ndefault: deny\n{self.rest}"


SIDES = (
    Side("allows", f"rules:\n{OPEN_RULE}", True),
    Side("denies", f"rules:\n{OPEN_RULE}{DENY_RULE}", False),
    Side("has no rule", "", False),
    Side("is audited", "mode: audit\n", True),
)


def subject_of(kind: Kind, direction: Direction) -> str:
    """Return the name of the machine that the rule of a kind and direction is about."""
    return f"{kind.name}-{direction.value}"


def rule_name(effect: Effect, shape: str, kind: Kind, direction: Direction) -> str:
    """Return a name that no other effect or shape gives to a rule."""
    return f"{effect.name.replace(' ', '-')}-{shape}-{subject_of(kind, direction)}"


def write_policy(effect: Effect, shape: str, protocols: str, kinds: Iterable[Kind] = KINDS) -> str:
    """Return the policy that has the rule under test of each of the kinds and every direction."""
    rules: Iterable[str] = ()
    if effect.verb is not None:
        rules = (
            _write_rule(effect, shape, kind, direction, protocols)
            for kind in kinds
            for direction in Direction
        )
    is_open = effect.verb == "deny" and effect.head == _CLOSED
    text = f"network: shop\n{effect.head}{GROUPS if effect.verb else ''}"
    written = (OPEN_RULE if is_open else "") + "".join(rules)
    return text + (f"rules:\n{written}" if written else "")


def _write_rule(
    effect: Effect, shape: str, kind: Kind, direction: Direction, protocols: str
) -> str:
    subject = f"{{labels: {{subject: {subject_of(kind, direction)}}}}}"
    ends = [kind.selector, subject]
    if direction is Direction.EGRESS:
        ends.reverse()
    return (
        f"  - name: {rule_name(effect, shape, kind, direction)}\n"
        f"    from: {ends[0]}\n    to: {ends[1]}\n"
        f"    {effect.verb}: [{protocols}]\n    mode: {effect.rule_mode}\n"
    )
