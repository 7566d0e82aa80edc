"""Explanations, comparisons, tests, warnings: what people read before they apply."""

from __future__ import annotations

from dataclasses import replace

import pytest
from policy_samples import FLEET_TEXT, party, sample_fleet, shop_policy

from netagent.policy.book import make_rulebook
from netagent.policy.capacity import Usage
from netagent.policy.cases import run_cases
from netagent.policy.changes import compare_policies
from netagent.policy.check import check_files
from netagent.policy.compiler import compile_policy
from netagent.policy.explain import explain
from netagent.policy.fleet_file import parse_fleet
from netagent.policy.language import Mode
from netagent.policy.lint import lint
from netagent.policy.reading import load_policy

WEB_TO_DB = (
    "{name: web-to-db, from: {labels: {app: web}}, to: {labels: {app: db}}, allow: [tcp/5432]}"
)
SCRAPE = (
    "{name: scrape, from: {network: ops, labels: {app: prometheus}}, to: {labels: {}}, "
    "allow: [tcp/9100-9110]}"
)
OPS = load_policy(
    "network: ops\nrules:\n- {name: out, from: {labels: {}}, to: {network: shop}, allow: [any]}",
    "ops.yaml",
)


def explained(policies, source: str, destination: str, port: int) -> list[str]:
    book = make_rulebook(policies, sample_fleet(), {"shop": 3, "ops": 8})
    return explain(book, party(source), party(destination), 6, port).lines()


def test_an_explanation_names_the_rule_at_both_ends():
    assert explained([shop_policy(WEB_TO_DB)], "web-1", "db-1", 5432) == [
        "shop/web-1 -> shop/db-1 tcp/5432: allowed",
        "  sender    allowed by rule 'web-to-db' of network shop, version 3",
        "  receiver  allowed by rule 'web-to-db' of network shop, version 3",
    ]


def test_an_explanation_names_the_default_with_network_and_version():
    assert explained([shop_policy(WEB_TO_DB)], "db-1", "host", 22) == [
        "shop/db-1 -> host tcp/22: denied",
        "  sender    denied by default of network shop, version 3",
        "  receiver  nobody is asked",
    ]


def test_one_consent_between_networks_is_not_enough():
    one_sided = explained([shop_policy(SCRAPE)], "ops/prom-1", "web-1", 9100)
    both = explained([shop_policy(SCRAPE), OPS], "ops/prom-1", "web-1", 9100)

    assert one_sided == [
        "ops/prom-1 -> shop/web-1 tcp/9100: denied",
        "  sender    denied by default of network ops, version 8",
        "  receiver  allowed by rule 'scrape' of network shop, version 3",
    ]
    assert both == [
        "ops/prom-1 -> shop/web-1 tcp/9100: allowed",
        "  sender    allowed by rule 'out' of network ops, version 8",
        "  receiver  allowed by rule 'scrape' of network shop, version 3",
    ]


def test_an_explanation_tells_what_audit_would_have_done():
    audited = "{name: no, from: any, to: any, deny: [tcp/5432], mode: audit}"

    by_rule = explained([shop_policy(f"{WEB_TO_DB}\n{audited}")], "web-1", "db-1", 5432)
    by_policy = explained([shop_policy(WEB_TO_DB, mode="audit")], "web-1", "db-1", 22)

    assert by_rule[1] == (
        "  sender    allowed by rule 'web-to-db' of network shop, version 3, in audit: "
        "rule 'no' of network shop, version 3 would deny it"
    )
    assert by_policy[1] == (
        "  sender    allowed, in audit mode: default of network shop, version 3 would deny it"
    )


def compared(before, after) -> list[str]:
    return [str(line) for line in compare_policies(before, after, sample_fleet())]


def test_a_comparison_speaks_of_machines_and_ports():
    before = shop_policy(WEB_TO_DB)
    after = shop_policy(WEB_TO_DB.replace("tcp/5432", "tcp/5433, icmp6/echo"))

    assert compared([before], [after]) == [
        "closes    shop/web-1, shop/web-2 -> shop/db-1, shop/db-2: tcp/5432",
        "opens     shop/web-1, shop/web-2 -> shop/db-1, shop/db-2: tcp/5433, icmp6/echo",
    ]


def test_a_comparison_says_where_consent_alone_changes():
    before, after = shop_policy(WEB_TO_DB), shop_policy(f"{WEB_TO_DB}\n{SCRAPE}")

    assert compared([before], [after]) == [
        "consents  ops/prom-1 -> every machine of shop (5): tcp/9100-9110 "
        "(no effect: the other network's policy denies it)",
    ]
    assert compared([before, OPS], [after, OPS]) == [
        "opens     ops/prom-1 -> every machine of shop (5): tcp/9100-9110",
    ]


def test_a_comparison_names_prefixes_without_their_exceptions():
    before = shop_policy("{name: r, from: {labels: {}}, to: {labels: {}}, allow: [tcp]}")
    after = shop_policy(
        "{name: r, from: {labels: {}}, to: {labels: {}}, allow: [tcp]}\n"
        "{name: out, from: {machine: db-2}, "
        "to: {cidr: ['2001:db8::/32'], except: ['2001:db8:1::/48']}, allow: [udp/53]}"
    )

    assert compared([before], [after]) == [
        "opens     shop/db-2 -> 2001:db8::/32 (less 2001:db8:1::/48): udp/53",
    ]


def test_another_way_to_write_the_same_changes_nothing():
    split = WEB_TO_DB.replace("web-to-db", "a"), WEB_TO_DB.replace("web-to-db", "b")

    assert compared([shop_policy(WEB_TO_DB)], [shop_policy("\n".join(split))]) == []


def warnings(rules: str, **top: str) -> list[str]:
    policy = shop_policy(rules, **top)
    return [f"{one.message}; {one.hint}" for one in lint(compile_policy(policy, sample_fleet()))]


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        pytest.param(
            "{name: r, from: {labels: {app: wbe}}, to: any, allow: [tcp]}",
            "rule 'r': from: labels app: wbe in network shop matches nobody today; "
            "so it matches nothing, never everything",
            id="labels of nobody",
        ),
        pytest.param(
            "{name: r, from: {network: idle}, to: {labels: {}}, allow: [tcp]}",
            "rule 'r': from: network idle matches nobody today; "
            "so it matches nothing, never everything",
            id="network without machines",
        ),
        pytest.param(
            "{name: r, from: {labels: {}}, to: {cidr: ['ff02::/16']}, allow: [udp]}",
            "rule 'r': to: cidr ff02::/16: ff02::/16 matches nothing; "
            "link-local and multicast packets never reach a policy",
            id="multicast",
        ),
        pytest.param(
            "{name: r, from: host, to: {cidr: ['2001:db8::/32']}, allow: [udp]}",
            "rule 'r' can never match; "
            "neither from nor to is a machine of network shop: nobody asks it",
            id="no side is of this network",
        ),
        pytest.param(
            f"{WEB_TO_DB}\n{{name: no, from: any, to: any, deny: [tcp/5000-6000]}}",
            "rule 'web-to-db' allows nothing: what it allows is denied by 'no'; "
            "deny beats allow, whatever the order",
            id="shadowed by one deny",
        ),
        pytest.param(
            f"{WEB_TO_DB}\n"
            "{name: no-prod, from: any, to: {labels: {env: prod}}, deny: [any]}\n"
            "{name: no-test, from: any, to: {labels: {env: test}}, deny: [tcp]}",
            "rule 'web-to-db' allows nothing: what it allows is denied by 'no-prod', 'no-test'; "
            "deny beats allow, whatever the order",
            id="shadowed by two denies together",
        ),
    ],
)
def test_what_is_hardly_meant_is_warned_about(rules, expected):
    assert warnings(rules) == [expected]


@pytest.mark.parametrize(
    "deny",
    [
        pytest.param("{name: no, from: any, to: any, deny: [tcp/5433]}", id="another port"),
        pytest.param("{name: no, from: any, to: {machine: db-1}, deny: [tcp]}", id="some pairs"),
        pytest.param("{name: no, from: any, to: any, deny: [tcp], mode: audit}", id="in audit"),
    ],
)
def test_a_rule_that_still_allows_something_is_not_warned_about(deny):
    policy = shop_policy(f"{WEB_TO_DB}\n{deny}")

    assert lint(compile_policy(policy, sample_fleet())) == []


def test_what_nobody_uses_is_warned_about():
    found = warnings(WEB_TO_DB, groups="{front: any}", services="{db: [tcp/5432]}")

    assert found == [
        "group 'front' is not used; remove it, or refer to it",
        "service 'db' is not used; remove it, or refer to it",
    ]


def failures(tests: str, *others, **top: str) -> list[str]:
    policy = shop_policy(f"{WEB_TO_DB}\n{SCRAPE}", tests=f"[{tests}]", **top)
    assert policy.cases
    book = make_rulebook([policy, *others], sample_fleet())
    return [f"{one.message}; {one.hint}" for one in run_cases(policy, book)]


@pytest.mark.parametrize(
    "test",
    [
        "{from: web-1, to: db-1, allow: [tcp/5432], deny: [tcp/22, icmp6/echo, udp]}",
        "{from: db-1, to: web-1, deny: [any]}",
        "{from: ops/prom-1, to: web-1, deny: [any]}",
        "{from: host, to: web-1, deny: [any]}",
        "{from: '2001:db8::1', to: web-1, deny: [any]}",
    ],
)
def test_a_test_that_holds_says_nothing(test):
    assert failures(test) == []


def test_all_of_the_ports_must_hold():
    found = failures("{from: web-1, to: db-1, allow: [tcp/5432-5433], deny: [tcp/5000-6000, any]}")

    assert [one.partition(";")[0] for one in found] == [
        "test failed: shop/web-1 -> shop/db-1 should allow tcp/5432-5433, but tcp/5433 is denied",
        "test failed: shop/web-1 -> shop/db-1 should deny tcp/5000-6000, but tcp/5432 is allowed",
        "test failed: shop/web-1 -> shop/db-1 should deny any, but tcp/5432 is allowed",
    ]


def test_a_failed_test_names_the_end_and_the_rule():
    (found,) = failures("{from: ops/prom-1, to: web-1, allow: [tcp/9100]}")

    assert found.endswith("at the sender: denied by default of network ops, version 0")
    assert failures("{from: ops/prom-1, to: web-1, allow: [tcp/9100]}", OPS) == []


def test_a_staged_policy_is_tested_as_if_it_were_enforced():
    assert failures("{from: db-1, to: web-1, deny: [any]}", mode="audit") == []


def test_a_check_of_files_gathers_everything():
    fleet = parse_fleet(FLEET_TEXT, "fleet.yaml")
    shop = f"network: shop\nrules:\n- {WEB_TO_DB}\ngroups: {{g: any}}\n"
    tests = "tests:\n- {from: web-1, to: db-1, deny: [tcp]}\n"

    good = check_files([("shop.yaml", shop)], fleet)
    failing = check_files([("shop.yaml", shop + tests)], fleet)
    twice = check_files([("a.yaml", shop), ("b.yaml", shop)], fleet)
    full = check_files([("shop.yaml", shop)], fleet, limits=Usage(0, 9, 9, 9))
    offline = check_files([("shop.yaml", shop.replace("app: web", "app: [web"))])

    assert good.is_good
    assert good.usage == Usage(2, 3, 5, 0)
    assert [str(one.span) for one in good.warnings] == ["shop.yaml:4:10"]
    assert [str(one.span) for one in failing.problems] == ["shop.yaml:6:34"]
    assert failing.cases == 1
    assert "another policy at a.yaml:1:1" in str(twice.problems[0])
    assert "pairs: 2 needed, 0 fit" in str(full.problems[0])
    assert not offline.is_good


def test_what_is_in_audit_mode_is_compared_by_what_is_enforced():
    enforced = shop_policy(WEB_TO_DB)

    lines = compare_policies([enforced], [replace(enforced, mode=Mode.AUDIT)], sample_fleet())

    assert {line.effect.value for line in lines} == {"opens", "consents"}
