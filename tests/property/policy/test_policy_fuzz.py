"""Whatever the text, reading it returns or raises PolicyError with a place; nothing else."""

from __future__ import annotations

from contextlib import suppress

import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from netagent.model.errors import PolicyError
from netagent.policy.check import check_files
from netagent.policy.fleet_file import parse_fleet

FLEET = parse_fleet(
    "prefix: fd00::/64\nnetworks: {shop: {web-1: {app: web}, db-1: {}}, ops: {}}", "fleet.yaml"
)

GOOD = """\
network: shop
default: deny
groups:
  front: [{labels: {app: web}}, {machine: web-1}]
services:
  db: [tcp/5432, "tcp/80,90-100"]
rules:
  - name: a
    from: {group: front}
    to: {network: ops, labels: {app: {not: [x, y]}, z: {exists: true}}}
    allow: [db, icmp6/echo]
  - {name: b, from: any, to: {cidr: ["2001:db8::/32"], except: ["2001:db8:1::/48"]}, deny: [any]}
tests:
  - {from: web-1, to: db-1, allow: [tcp/5432], deny: [tcp/22]}
"""

WORDS = (
    *("network", "groups", "services", "rules", "tests", "name", "from", "to", "allow", "deny"),
    *("mode", "default", "labels", "machine", "cidr", "except", "group", "exists", "not", "any"),
    *("host", "shop", "ops", "web-1", "audit", "enforce", "true", "tcp", "tcp/80", "tcp/99999"),
    *("icmp6/echo", "2001:db8::/32", "::/0", "fd00::1", "10.0.0.0/8", "null", "~"),
)

words = st.one_of(st.sampled_from(WORDS), st.text(max_size=5), st.integers(), st.none())
trees = st.recursive(
    words,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.sampled_from(WORDS), inner, max_size=5)
    ),
    max_leaves=25,
)


def check(source: str | bytes) -> None:
    report = check_files([("p.yaml", source)], FLEET)
    for problem in (*report.problems, *report.warnings):
        assert problem.span.file == "p.yaml"
        assert problem.span.line >= 1
        assert problem.span.column >= 1
        assert problem.message


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(), st.binary()))
@example("a: &x [*x]")
@example("? ? ?")
@example('a: "\\UFFFFFFFF"')
@example("\ud800")
@example("%YAML 3.0\n--- a")
@example("!!python/object/apply:os.system [ls]")
@example("- " * 5000)
@example("{" * 5000)
@example("network: shop\nrules: [{name: a, from: any, to: any, allow: [tcp/" + "9" * 5000 + "]}]")
@example("network: shop\nrules: [{name: a, from: any, to: any, allow: [tcp/²]}]")
@example("network: shop\ntests: [{from: 'fe80::1%eth0', to: web-1, allow: [any]}]")
@example(
    "network: shop\nrules: [{name: a, from: {cidr: ['fe80::1%1/128']}, to: any, allow: [any]}]"
)
@example("<<: {a: b}\n=: c")
@example(GOOD)
def test_any_text(source):
    check(source)
    with suppress(PolicyError):
        parse_fleet(source, "f.yaml")


@settings(max_examples=300, deadline=None)
@given(trees)
def test_any_tree_of_the_languages_own_words(tree):
    check(yaml.safe_dump(tree, allow_unicode=True))


@settings(max_examples=300, deadline=None)
@given(
    st.integers(0, len(GOOD)),
    st.integers(0, 30),
    st.text(alphabet="\n\t -:[]{}&*!,'\"x/0", max_size=4),
)
def test_any_edit_of_a_good_policy(at, removed, inserted):
    check(GOOD[:at] + inserted + GOOD[at + removed :])


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(WORDS), st.sampled_from(WORDS))
def test_any_word_in_place_of_another(old, new):
    check(GOOD.replace(old, new))
