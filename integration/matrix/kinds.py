"""Every kind of selector, and whom it matches: by hand, from docs/policy.md."""

from __future__ import annotations

from dataclasses import dataclass

_WEB = frozenset({"shop/web-near", "shop/web-far"})
_DB = frozenset({"shop/db-near", "shop/db-far"})
_BARE = frozenset({"shop/bare-near", "shop/bare-far"})
_OPS_WEB = frozenset({"ops/web-near", "ops/web-far"})
_OPS_DB = frozenset({"ops/db-near", "ops/db-far"})
_HOSTS = frozenset({"host-a", "host-b"})
_OUTSIDE = frozenset({"mirror", "excepted", "elsewhere"})

EVERYBODY = _WEB | _DB | _BARE | _OPS_WEB | _OPS_DB | _HOSTS | _OUTSIDE


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of selector as it stands in a policy of `shop`. matches: names of parties."""

    name: str
    title: str
    selector: str
    matches: frozenset[str]


KINDS = (
    Kind("equal", "label equal", "{labels: {app: web}}", _WEB),
    Kind("any-of", "label any of", "{labels: {env: [prod, canary]}}", _WEB),
    Kind("exists", "label exists", "{labels: {tier: {exists: true}}}", _WEB),
    Kind("absent", "label does not exist", "{labels: {tier: {exists: false}}}", _DB | _BARE),
    Kind("not", "label not", "{labels: {env: {not: dev}}}", _WEB | _BARE),
    Kind("all", "no condition", "{labels: {}}", _WEB | _DB | _BARE),
    Kind(
        "machine",
        "machine",
        "{machine: [web-near, bare-far, ops/db-near, ops/web-far]}",
        frozenset({"shop/web-near", "shop/bare-far", "ops/db-near", "ops/web-far"}),
    ),
    Kind("network", "network", "{network: ops}", _OPS_WEB | _OPS_DB),
    Kind("network-labels", "network and label", "{network: ops, labels: {app: web}}", _OPS_WEB),
    Kind("any", "any", "any", EVERYBODY),
    Kind("host", "host", "host", _HOSTS),
    Kind(
        "cidr",
        "cidr with exception",
        '{cidr: ["2001:db8:100::/40"], except: ["2001:db8:100:1::/64"]}',
        frozenset({"mirror"}),
    ),
    Kind(
        "group",
        "group",
        "{group: mixed}",
        _DB | _OPS_WEB | _HOSTS | {"shop/web-far", "mirror", "excepted"},
    ),
)

GROUPS = """groups:
  mixed:
    - {labels: {app: db}}
    - {machine: web-far}
    - {network: ops, labels: {app: web}}
    - host
    - {cidr: ["2001:db8:100::/40"]}
"""
