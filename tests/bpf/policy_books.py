"""Named sets of policies for the fleet of three, compiled: what hosts may have in force."""

from __future__ import annotations

from collections.abc import Mapping

from fleet_of_three import (
    BLUE,
    BLUE_WEB,
    FLEET,
    IDENTITIES,
    LAST,
    LAST_NETWORK,
    RED,
    RED_DATABASE,
    RED_LAST,
    RED_WEB,
)

from netagent.dataplane.abi_policy import RuleRow
from netagent.policy.compiler import compile_policy
from netagent.policy.entries import CompiledPolicy
from netagent.policy.fleet import Member, make_snapshot
from netagent.policy.language import Policy, built_in_policy
from netagent.policy.reading import load_policy

Policies = Mapping[int, CompiledPolicy]

NUMBERS = {"red": RED, "blue": BLUE, "last": LAST_NETWORK}
PARTIES = {
    RED_WEB: ("red", "web", {"app": "web"}),
    RED_DATABASE: ("red", "database", {"app": "database"}),
    RED_LAST: ("red", "last", {"app": "batch"}),
    BLUE_WEB: ("blue", "web", {"app": "web"}),
    LAST: ("last", "last", {}),
}
SNAPSHOT = make_snapshot(
    FLEET.prefix,
    NUMBERS,
    [
        Member(network, name, IDENTITIES[stable_id], labels)
        for stable_id, (network, name, labels) in PARTIES.items()
    ],
)

STRICT_RED = """\
network: red
default: deny
rules:
  - name: web-to-database
    from: {labels: {app: web}}
    to: {labels: {app: database}}
    allow: ["tcp/79-81,443", udp/4000, icmp6/echo, sctp]
  - {name: no-81, from: any, to: {labels: {app: database}}, deny: [tcp/81]}
  - {name: watch-80, from: any, to: any, deny: [tcp/80], mode: audit}
  - {name: would-open, from: {labels: {app: batch}}, to: any, allow: [tcp, udp], mode: audit}
  - {name: batch, from: {labels: {app: batch}}, to: {labels: {app: web}}, allow: [any]}
  - {name: hosts, from: host, to: {labels: {}}, allow: ["tcp/0-80", udp, icmp6]}
  - {name: to-hosts, from: {labels: {app: web}}, to: host, allow: [tcp/443, udp/80, icmp6/echo]}
  - {name: to-blue, from: {labels: {app: web}}, to: {network: blue}, allow: [udp, tcp/80, icmp6]}
  - {name: from-blue, from: {network: blue}, to: {labels: {app: web}}, allow: [tcp, icmp6/echo]}
  - name: internet
    from: {labels: {app: web}}
    to: {cidr: ["2001:db8::/32"], except: ["2001:db8:bad::/48"]}
    allow: [any]
  - name: visitors
    from: {cidr: ["2001:db8::/32", "2a00::/12"], except: ["2001:db8:1::/64"]}
    to: {labels: {}}
    allow: ["tcp/80,443", udp/4000, icmp6/echo]
"""

STRICT_BLUE = """\
network: blue
default: allow
rules:
  - {name: red-may, from: {network: red}, to: {labels: {app: web}}, allow: ["udp/79-4000", icmp6]}
  - {name: not-80, from: any, to: any, deny: [udp/80]}
  - {name: answer-red, from: {labels: {}}, to: {network: red, labels: {app: web}}, allow: [tcp/80]}
  - {name: everywhere, from: {labels: {}}, to: any, allow: [any], mode: audit}
"""

OPEN = """\
network: %s
default: allow
rules:
  - {name: all, from: any, to: any, allow: [any]}
"""

CLOSED = "network: %s\ndefault: deny\n"


def _audited(text: str) -> str:
    return text.replace("\n", "\nmode: audit\n", 1)


def compile_text(text: str, version: int = 1) -> CompiledPolicy:
    """Return a policy of the fleet of three, compiled."""
    return _compile(load_policy(text, "policy.yaml", SNAPSHOT), version)


def _compile(policy: Policy, version: int) -> CompiledPolicy:
    return compile_policy(policy, SNAPSHOT, version).entries


def enforced(*texts: str, missing: frozenset[int] = frozenset()) -> Policies:
    """Return these policies and the built-in one of each other network that is not missing."""
    given = {one.number: one for one in (compile_text(text, 5) for text in texts)}
    built_in = {
        number: _compile(built_in_policy(name), 0)
        for name, number in NUMBERS.items()
        if number not in given
    }
    return {number: one for number, one in (built_in | given).items() if number not in missing}


BUILT_IN = enforced()
BOOKS: Mapping[str, Policies] = {
    "built-in": BUILT_IN,
    "strict": enforced(STRICT_RED, STRICT_BLUE),
    "strict red only": enforced(STRICT_RED),
    "audit": enforced(_audited(STRICT_RED), _audited(STRICT_BLUE)),
    "open": enforced(*(OPEN % name for name in NUMBERS)),
    "closed": enforced(*(CLOSED % name for name in NUMBERS)),
    "two missing": enforced(STRICT_RED, missing=frozenset({BLUE, LAST_NETWORK})),
    "red missing": enforced(OPEN % "blue", missing=frozenset({RED})),
}


def indices_of(policies: Policies) -> dict[RuleRow, int]:
    """Return places for the counters of all rules, as an agent might give them out."""
    rules = [RuleRow(number, rule) for number, one in policies.items() for rule in (0, *one.rules)]
    return {rule: index for index, rule in enumerate(rules, start=1)}
