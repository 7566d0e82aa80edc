"""A small fleet and short ways to policies, for the tests of this folder."""

from __future__ import annotations

from textwrap import dedent

from netagent.policy.fleet import FleetSnapshot
from netagent.policy.fleet_file import parse_fleet
from netagent.policy.language import Party, Policy
from netagent.policy.reading import load_policy
from netagent.policy.schema import parse_party

FLEET_TEXT = """\
prefix: fd12:3456:789a::/64
networks:
  shop:
    web-1: {app: web, env: prod}
    web-2: {app: web, env: prod}
    db-1: {app: db, env: prod}
    db-2: {app: db, env: test}
    bare-1: {}
  ops:
    prom-1: {app: prometheus}
    web-1: {app: web}
  idle: {}
"""


def sample_fleet() -> FleetSnapshot:
    return parse_fleet(FLEET_TEXT, "fleet.yaml")


def shop_policy(rules: str = "", **top: str) -> Policy:
    """The policy of `shop` with these rules, one YAML flow mapping a line."""
    lines = ["network: shop", *(f"{key}: {value}" for key, value in top.items())]
    listed = [f"  - {line}" for line in dedent(rules).strip().splitlines()]
    return load_policy("\n".join([*lines, "rules:", *listed] if listed else lines), "shop.yaml")


def party(text: str, network: str = "shop") -> Party:
    return parse_party(text, network)
