"""docs/policy.md as a table: each case holds for the direct evaluator and the compiled entries."""

from __future__ import annotations

import pytest
from policy_samples import party, sample_fleet, shop_policy

from netagent.policy.book import separate_named
from netagent.policy.compiler import compile_policy
from netagent.policy.evaluate import evaluate
from netagent.policy.language import Decision, Verdict, built_in_policy
from netagent.policy.lookup import evaluate_compiled, key_of
from netagent.policy.traffic import parse_traffic


def decide(policy, source: str, destination: str, what: str) -> Decision:
    """What both say; they must agree before anything else is asserted."""
    fleet = separate_named(sample_fleet(), [policy])
    (traffic,) = parse_traffic(what)
    ends = party(source), party(destination)
    direct = evaluate(policy, fleet, *ends, traffic.protocol or 47, traffic.first)
    compiled = compile_policy(policy, fleet).entries
    key = key_of(compiled, fleet, *ends)
    assert evaluate_compiled(compiled, key, traffic.protocol or 47, traffic.first) == direct
    return direct


def verdict(policy, source: str, destination: str, what: str) -> str:
    return decide(policy, source, destination, what).verdict.name.lower()


def allow(source: str, destination: str = "any", what: str = "tcp/80"):
    return shop_policy(f"{{name: r, from: {source}, to: {destination}, allow: [{what}]}}")


WEB = "{labels: {app: web}}"
OUTSIDE = "2001:db8:1::1"


@pytest.mark.parametrize(
    ("selector", "source", "expected"),
    [
        pytest.param("any", "web-1", "allow", id="any matches machines here"),
        pytest.param("any", "ops/prom-1", "allow", id="any matches machines elsewhere"),
        pytest.param("any", "host", "allow", id="any matches hosts"),
        pytest.param("any", OUTSIDE, "allow", id="any matches outside"),
        pytest.param("host", "host", "allow", id="host matches hosts"),
        pytest.param("host", "web-1", "deny", id="host matches no machine"),
        pytest.param("host", OUTSIDE, "deny", id="host matches nobody outside"),
        pytest.param("{labels: {}}", "bare-1", "allow", id="no condition: machines here"),
        pytest.param("{labels: {}}", "ops/prom-1", "deny", id="no condition: not elsewhere"),
        pytest.param("{labels: {}}", "host", "deny", id="no condition: no hosts"),
        pytest.param("{labels: {}}", OUTSIDE, "deny", id="no condition: nobody outside"),
        pytest.param(WEB, "web-1", "allow", id="equal"),
        pytest.param(WEB, "db-1", "deny", id="not equal"),
        pytest.param(WEB, "bare-1", "deny", id="equal without the key"),
        pytest.param(WEB, "ops/web-1", "deny", id="labels are of this network"),
        pytest.param("{network: ops, labels: {app: web}}", "ops/web-1", "allow", id="labels there"),
        pytest.param("{network: ops, labels: {app: web}}", "web-1", "deny", id="only there"),
        pytest.param("{network: ops}", "ops/prom-1", "allow", id="network"),
        pytest.param("{network: idle}", "ops/prom-1", "deny", id="network without machines"),
        pytest.param("{labels: {app: [web, db]}}", "db-1", "allow", id="any of"),
        pytest.param("{labels: {app: [web, db]}}", "bare-1", "deny", id="none of"),
        pytest.param("{labels: {app: db, env: test}}", "db-1", "deny", id="all lines must hold"),
        pytest.param("{labels: {env: {exists: true}}}", "db-2", "allow", id="exists"),
        pytest.param("{labels: {env: {exists: true}}}", "bare-1", "deny", id="exists without"),
        pytest.param("{labels: {env: {exists: false}}}", "bare-1", "allow", id="absent"),
        pytest.param("{labels: {env: {exists: false}}}", "host", "deny", id="absent: no hosts"),
        pytest.param("{labels: {env: {not: prod}}}", "db-2", "allow", id="not"),
        pytest.param("{labels: {env: {not: prod}}}", "db-1", "deny", id="not, but it is"),
        pytest.param("{labels: {env: {not: prod}}}", "bare-1", "allow", id="not without the key"),
        pytest.param("{labels: {env: {not: prod}}}", "ops/web-1", "deny", id="not: only here"),
        pytest.param("{labels: {app: nothing}}", "web-1", "deny", id="matches nobody"),
        pytest.param("{machine: web-1}", "web-1", "allow", id="machine"),
        pytest.param("{machine: web-1}", "web-2", "deny", id="its twin by labels"),
        pytest.param("{machine: web-1}", "ops/web-1", "deny", id="its namesake elsewhere"),
        pytest.param("{machine: [db-1, ops/web-1]}", "ops/web-1", "allow", id="machine there"),
        pytest.param("{cidr: ['2001:db8::/32']}", OUTSIDE, "allow", id="prefix"),
        pytest.param("{cidr: ['2001:db8::/32']}", "2a00::1", "deny", id="beyond the prefix"),
        pytest.param("{cidr: ['2001:db8::/32']}", "host", "deny", id="prefix: no hosts"),
        pytest.param(
            "{cidr: ['2001:db8::/32'], except: ['2001:db8:1::/48']}", OUTSIDE, "deny", id="except"
        ),
        pytest.param(
            "[{cidr: ['2001:db8::/32'], except: ['2001:db8:1::/48']}, {cidr: ['2001:db8:1::/64']}]",
            OUTSIDE,
            "allow",
            id="an exception is of its selector alone",
        ),
        pytest.param("[host, {labels: {app: web}}]", "web-1", "allow", id="a list is a union"),
    ],
)
def test_a_selector_matches_whom_it_says(selector, source, expected):
    assert verdict(allow(selector, "{machine: db-2}"), source, "db-2", "tcp/80") == expected


@pytest.mark.parametrize(
    ("listed", "asked", "expected"),
    [
        ("tcp/80", "tcp/80", "allow"),
        ("tcp/80", "tcp/81", "deny"),
        ("tcp/80", "udp/80", "deny"),
        ("tcp/80-82", "tcp/82", "allow"),
        ("tcp/80-82", "tcp/83", "deny"),
        ("'tcp/80,90-91'", "tcp/91", "allow"),
        ("tcp", "tcp/65535", "allow"),
        ("tcp/0", "tcp/0", "allow"),
        ("sctp/3868", "sctp/3868", "allow"),
        ("icmp6/echo", "icmp6/128", "allow"),
        ("icmp6/echo", "icmp6/echo-reply", "deny"),
        ("icmp6", "icmp6/1", "allow"),
        ("any", "sctp/1", "allow"),
        ("any", "any", "allow"),
        ("tcp, udp, sctp, icmp6", "any", "deny"),
    ],
)
def test_traffic_is_what_is_listed(listed, asked, expected):
    assert verdict(allow(WEB, what=listed), "web-1", "db-1", asked) == expected


def test_an_icmp6_rule_covers_every_code_of_its_type():
    policy = allow(WEB, what="icmp6/destination-unreachable")
    fleet = sample_fleet()

    found = [
        evaluate(policy, fleet, party("web-1"), party("db-1"), 58, port).verdict
        for port in (0x00FF, 0x0100, 0x0104, 0x01FF, 0x0200)
    ]

    assert found == [Verdict.DENY, *[Verdict.ALLOW] * 3, Verdict.DENY]


ALLOW = "{name: yes, from: any, to: any, allow: [any]}"
DENY = "{name: no, from: any, to: any, deny: [tcp/22]}"
AUDIT_DENY = "{name: no, from: any, to: any, deny: [tcp/22], mode: audit}"
AUDIT_ALLOW = "{name: yes, from: any, to: any, allow: [tcp/22], mode: audit}"


@pytest.mark.parametrize(
    ("rules", "top", "expected"),
    [
        pytest.param("", {}, Decision(Verdict.DENY), id="default deny"),
        pytest.param("", {"default": "allow"}, Decision(Verdict.ALLOW), id="default allow"),
        pytest.param(f"{ALLOW}\n{DENY}", {}, Decision(Verdict.DENY, "no"), id="deny after allow"),
        pytest.param(f"{DENY}\n{ALLOW}", {}, Decision(Verdict.DENY, "no"), id="deny before allow"),
        pytest.param(
            DENY, {"default": "allow"}, Decision(Verdict.DENY, "no"), id="deny before default"
        ),
        pytest.param(
            f"{ALLOW}\n{AUDIT_DENY}",
            {},
            Decision(Verdict.ALLOW, "yes", True, "no"),
            id="an audited deny is reported and does not decide",
        ),
        pytest.param(
            AUDIT_ALLOW,
            {},
            Decision(Verdict.DENY, None, True, "yes"),
            id="an audited allow is reported and does not decide",
        ),
        pytest.param(
            f"{AUDIT_ALLOW}\n{DENY}",
            {},
            Decision(Verdict.DENY, "no"),
            id="an audited allow could not have beaten a deny",
        ),
        pytest.param(AUDIT_DENY, {}, Decision(Verdict.DENY), id="an audited deny that agrees"),
        pytest.param(
            "",
            {"mode": "audit"},
            Decision(Verdict.ALLOW, None, True, None),
            id="policy in audit mode: the default would deny",
        ),
        pytest.param(
            DENY,
            {"mode": "audit"},
            Decision(Verdict.ALLOW, None, True, "no"),
            id="policy in audit mode: a rule would deny",
        ),
        pytest.param(
            ALLOW,
            {"mode": "audit"},
            Decision(Verdict.ALLOW, "yes"),
            id="audit mode: allowed anyway",
        ),
    ],
)
def test_precedence(rules, top, expected):
    assert decide(shop_policy(rules, **top), "web-1", "db-1", "tcp/22") == expected


@pytest.mark.parametrize(
    ("source", "destination"),
    [
        ("web-1", "ops/prom-1"),
        ("ops/prom-1", "web-1"),
        ("web-1", "host"),
        ("host", "web-1"),
        ("web-1", OUTSIDE),
        (OUTSIDE, "web-1"),
    ],
)
def test_the_default_never_opens_the_border(source, destination):
    policy = shop_policy(default="allow")

    assert verdict(policy, source, destination, "tcp/22") == "deny"


def test_a_network_without_policy_is_open_inside_and_to_hosts_only():
    policy = built_in_policy("shop")

    assert verdict(policy, "web-1", "db-1", "tcp/1") == "allow"
    assert verdict(policy, "host", "db-1", "tcp/1") == "allow"
    assert verdict(policy, "db-1", "host", "tcp/1") == "deny"
    assert verdict(policy, "ops/web-1", "db-1", "tcp/1") == "deny"
