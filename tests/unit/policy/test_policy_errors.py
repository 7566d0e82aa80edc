"""Everything wrong with a file is said at once, with place and hint, and nothing else escapes."""

from __future__ import annotations

import pytest
from policy_samples import sample_fleet

from netagent.model.errors import PolicyError
from netagent.policy.reading import load_policy

RULE = "network: shop\nrules:\n- {name: r, from: any, to: any, allow: [tcp]}\n"


def errors(text: str | bytes) -> list[str]:
    with pytest.raises(PolicyError) as caught:
        load_policy(text, "p.yaml", sample_fleet())
    return [str(problem) for problem in caught.value.problems]


def rule(**fields: str) -> str:
    given = {"name": "r", "from": "any", "to": "any", "allow": "[tcp]"}
    given |= {key.rstrip("_"): value for key, value in fields.items()}
    inner = ", ".join(f"{key}: {value}" for key, value in given.items() if value)
    return f"network: shop\nrules:\n- {{{inner}}}\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("", "p.yaml:1:1: the file is empty", id="empty file"),
        pytest.param("# only words\n", "p.yaml:1:1: the file is empty", id="only a comment"),
        pytest.param(
            f"{RULE}---\n{RULE}",
            "p.yaml:4:1: a second document; one file holds one document: remove the ---",
            id="two documents",
        ),
        pytest.param(
            b"network: shop\nmode: \xff",
            "p.yaml:2:1: byte 20 is not UTF-8; save the file as UTF-8",
            id="not UTF-8",
        ),
        pytest.param(
            "network: shop\ngroups: &a {}\n",
            "p.yaml:2:9: &a: anchors and aliases are not used here; "
            "name what is shared under groups: or services:",
            id="anchor",
        ),
        pytest.param("network: shop\nrules: [", "not YAML", id="broken YAML"),
        pytest.param("[" * 100, "p.yaml:1:17: nested deeper than 16 levels", id="too deep"),
        pytest.param(b"#" * (5 << 20), "are more than 4,194,304", id="too large"),
        pytest.param("- a\n", "the policy must be a mapping", id="a list"),
        pytest.param("rules: []\n", "p.yaml:1:1: the policy has no 'network'", id="no network"),
        pytest.param(
            "network: shop\nruels: []\n",
            "p.yaml:2:1: unknown key 'ruels' in the policy; did you mean 'rules'?",
            id="unknown key",
        ),
        pytest.param(
            "network: shop\nmode: audit\nmode: enforce\n",
            "p.yaml:3:1: 'mode' is here twice, first in line 2; remove one",
            id="duplicate key",
        ),
        pytest.param(
            "network: shop\ndefault: drop\n",
            "p.yaml:2:10: default: 'drop' is not known; use allow, deny",
            id="unknown default",
        ),
        pytest.param(
            "network: shp\n",
            "p.yaml:1:1: no network is called 'shp'; did you mean 'shop'?",
            id="unknown network",
        ),
        pytest.param(
            rule(from_="{network: opps}"),
            "p.yaml:3:19: no network is called 'opps'; did you mean 'ops'?",
            id="unknown network in a selector",
        ),
        pytest.param(
            rule(to="{machine: web-9}"),
            "p.yaml:3:38: no machine is called 'shop/web-9'; did you mean 'shop/web-2'?",
            id="unknown machine",
        ),
        pytest.param(rule(to="{group: g}"), "no group is called 'g'", id="unknown group"),
        pytest.param(
            rule(allow="[htp]") + "services: {http: [tcp/80]}",
            "p.yaml:3:41: rule 'r': allow: 'htp' is neither a protocol nor a service; "
            "did you mean 'http'?",
            id="unknown service",
        ),
        pytest.param(
            RULE + "- {name: r, from: any, to: any, deny: [udp]}\n",
            "p.yaml:4:3: another rule is called 'r', in line 3; "
            "rules are known by their names: rename one",
            id="two rules of one name",
        ),
        pytest.param(
            rule(allow="[tcp/70000]"),
            "'tcp/70000': port 70000 is not within 0 to 65535",
            id="port too large",
        ),
        pytest.param(
            rule(allow="[tcp/90-80]"),
            "'tcp/90-80': the range 90-80 is reversed; write tcp/80-90",
            id="reversed range",
        ),
        pytest.param(rule(allow="[tcp/http]"), "'http' is not a port", id="port by name"),
        pytest.param(
            rule(allow="[tcp/80,443]"),
            "'443' is neither a protocol nor a service; "
            'a list of ports is quoted: "tcp/80,443"; one port is tcp/443',
            id="ports split by YAML",
        ),
        pytest.param(rule(allow="[icmp6/ping]"), "no ICMPv6 type is called 'ping'", id="type"),
        pytest.param(
            rule(allow="[icmp6/135]"),
            "ICMPv6 type 135 never crosses the overlay",
            id="neighbour solicitation",
        ),
        pytest.param(rule(allow="[]"), "rule 'r': allow is an empty list", id="allows nothing"),
        pytest.param(
            rule(deny="[udp]"),
            "rule 'r' has both allow and deny; a rule has exactly one of them",
            id="allow and deny",
        ),
        pytest.param(rule(allow=""), "rule 'r' has neither allow nor deny", id="no verdict"),
        pytest.param(rule(from_=""), "p.yaml:3:3: a rule has no 'from'", id="no from"),
        pytest.param(
            rule(from_="{}"),
            "p.yaml:3:19: rule 'r': from is empty; to mean everybody, write any",
            id="empty selector",
        ),
        pytest.param(rule(from_="[]"), "rule 'r': from is an empty list", id="no selectors"),
        pytest.param(rule(from_="~"), "rule 'r': from is empty", id="null selector"),
        pytest.param(
            rule(from_="web-1"),
            "'web-1' is not a selector; write any, host, {machine: web-1} or {group: web-1}",
            id="a bare name",
        ),
        pytest.param(
            rule(from_="{labels: {app: web}, cidr: ['2001:db8::/32']}"),
            "cidr and labels do not go together",
            id="two kinds in one selector",
        ),
        pytest.param(
            rule(from_="{labels: {app: []}}"), "label 'app' is an empty list", id="no values"
        ),
        pytest.param(rule(from_="{labels: {app: }}"), "label 'app' is empty", id="null value"),
        pytest.param(
            rule(from_="{labels: {app: {exits: true}}}"),
            "unknown key 'exits' in label 'app'; did you mean 'exists'?",
            id="unknown label test",
        ),
        pytest.param(rule(from_="{labels: {app: 'a b'}}"), "label 'app': 'a b'", id="bad value"),
        pytest.param(
            rule(to="{cidr: ['2001:db8::1/32']}"),
            "2001:db8::1/32 has host bits set; write 2001:db8::/32, or /128 for one address",
            id="host bits",
        ),
        pytest.param(rule(to="{cidr: [10.0.0.0/8]}"), "10.0.0.0/8 is IPv4", id="IPv4"),
        pytest.param(
            rule(to="{cidr: ['::/0']}"),
            "cidr: ::/0 covers the fleet's prefix fd12:3456:789a::/64; "
            "select machines by labels, network or name; 2000::/3 is the public internet",
            id="covers the fleet",
        ),
        pytest.param(
            rule(to="{cidr: ['fd12:3456:789a::/96']}"),
            "fd12:3456:789a::/96 is within the fleet's prefix",
            id="within the fleet",
        ),
        pytest.param(
            rule(to="{cidr: ['2001:db8::/32'], except: ['2001:db9::/64']}"),
            "except 2001:db9::/64 is not within any prefix of cidr",
            id="excepts nothing",
        ),
        pytest.param(
            "network: shop\nservices: {tcp: [tcp/80]}",
            "service 'tcp' has the name of a protocol",
            id="service named like a protocol",
        ),
        pytest.param(
            "network: shop\ngroups: {a: any, b: {group: a}}",
            "a group cannot refer to the group 'a'",
            id="group of groups",
        ),
        pytest.param(
            "network: shop\ntests:\n- {from: ops/prom-1, to: host, allow: [tcp]}",
            "neither ops/prom-1 nor host is of network shop",
            id="test about another network",
        ),
        pytest.param(
            "network: shop\ntests:\n- {from: web-1, to: 'fd12:3456:789a::5', allow: [tcp]}",
            "fd12:3456:789a::5 is within the fleet's prefix",
            id="test with a machine's address",
        ),
        pytest.param(
            "network: shop\ntests:\n- {from: web-1, to: db-1}",
            "a test expects nothing",
            id="test without expectation",
        ),
    ],
)
def test_a_wrong_file_is_refused_with_place_and_hint(text, expected):
    found = errors(text)

    assert len(found) == 1
    assert expected in found[0]


def test_all_errors_are_reported_at_once_in_the_order_of_the_file():
    text = """\
network: shop
mode: loose
rules:
  - name: a
    from: {machine: nobody}
    to: {labels: {app: [web, 'not ok']}}
    allow: [tcp/70000, udp/5-4]
  - name: a
    frm: any
    to: {cidr: ['2001:db8::1/32']}
    deny: [any]
"""

    found = errors(text)

    assert [line.split(": ")[0] for line in found] == [
        "p.yaml:2:7",
        "p.yaml:6:30",
        "p.yaml:7:13",
        "p.yaml:7:24",
        "p.yaml:8:5",
        "p.yaml:8:5",
        "p.yaml:9:5",
        "p.yaml:10:17",
    ]


def test_values_are_read_as_they_are_written():
    text = rule(from_="{labels: {country: no, version: 1.10}}")

    policy = load_policy(text, "p.yaml")

    (selector,) = policy.rules[0].source
    assert [one.values for one in selector.requirements] == [("no",), ("1.10",)]


def test_a_comment_does_not_make_another_policy():
    assert load_policy(RULE, "a.yaml") == load_policy(f"# changed\n\n{RULE}", "b.yaml")
