"""The compiled entries: how many there are, what they are called, and that names last."""

from __future__ import annotations

from ipaddress import IPv6Address, IPv6Network

import pytest
from policy_samples import sample_fleet, shop_policy

from netagent.model.errors import ExhaustedError, InvalidError, PolicyError
from netagent.model.fleet import Identity
from netagent.policy.capacity import Usage, check_capacity
from netagent.policy.compiler import assign_numbers, compile_policy
from netagent.policy.entries import OUTSIDE_BIT, STRANGER, Direction
from netagent.policy.fleet import Member, make_snapshot, separate_identities
from netagent.policy.language import CidrSelector
from netagent.policy.outside import divide_outside, outside_identity

WEB_TO_DB = (
    "{name: web-to-db, from: {labels: {app: web}}, to: {labels: {app: db}}, allow: [tcp/5432]}"
)


def pair_count(policy, fleet=None) -> int:
    return len(list(compile_policy(policy, fleet or sample_fleet()).entries.each_pair()))


def test_a_pair_needs_one_entry_for_both_ends():
    entries = compile_policy(shop_policy(WEB_TO_DB), sample_fleet()).entries

    found = list(entries.each_pair())

    assert len(found) == 2  # one identity of web, two of db
    assert {direction for direction, *_ in found} == {Direction.INSIDE}
    assert len({class_id for *_, class_id in found}) == 1


def test_rules_about_everybody_need_no_pairs():
    everywhere = "{name: ping, from: any, to: any, allow: [icmp6/echo]}"
    inside = "{name: inside, from: {labels: {}}, to: {labels: {}}, allow: [tcp]}"

    assert pair_count(shop_policy(f"{everywhere}\n{inside}")) == 0


def test_any_costs_no_entry_for_identities_of_other_networks():
    policy = shop_policy("{name: r, from: any, to: {labels: {app: db, env: test}}, deny: [tcp/22]}")
    small = sample_fleet()
    large = small
    for number in range(50):
        member = Member("ops", f"x-{number}", Identity(100 + number), {"n": str(number)})
        large = large.with_member(member)

    assert pair_count(policy, large) == pair_count(policy, small)


def test_a_stranger_stands_for_peers_that_no_selector_names():
    policy = shop_policy("{name: r, from: any, to: {machine: db-2}, allow: [tcp/22]}")

    entries = compile_policy(policy, sample_fleet()).entries

    assert list(entries.pairs[Direction.INGRESS]) == [STRANGER]


def test_classes_are_named_by_content():
    first = compile_policy(shop_policy(WEB_TO_DB), sample_fleet()).entries
    other = WEB_TO_DB.replace("app: db", "env: test")
    second = compile_policy(shop_policy(other), sample_fleet()).entries

    assert first.classes == second.classes
    assert first.pairs != second.pairs


def test_the_order_of_rules_that_decide_alone_changes_no_entry():
    deny = "{name: no, from: any, to: {labels: {app: db}}, deny: [tcp/22]}"
    numbers = {"web-to-db": 1, "no": 2}

    one, two = (
        compile_policy(shop_policy("\n".join(rules)), sample_fleet(), numbers=numbers).entries
        for rules in ((WEB_TO_DB, deny), (deny, WEB_TO_DB))
    )

    assert one == two


def test_a_rule_keeps_its_number_and_a_number_is_not_given_on_at_once():
    policy = shop_policy(
        "\n".join(
            f"{{name: {name}, from: any, to: any, allow: [tcp]}}" for name in ("new", "b", "newer")
        )
    )

    assert assign_numbers(policy, {"a": 1, "b": 3}) == {"new": 2, "b": 3, "newer": 4}


def test_a_machine_that_joins_a_known_label_set_changes_nothing():
    policy = shop_policy(WEB_TO_DB)
    fleet = sample_fleet()
    before = compile_policy(policy, fleet)
    twin = fleet.members["shop/web-1"]

    joined = fleet.with_member(Member("shop", "web-3", twin.identity, twin.labels))
    after = compile_policy(policy, joined, previous=before)

    assert after.entries == before.entries


def test_a_new_label_set_adds_its_pairs_and_leaves_with_its_last_machine():
    policy = shop_policy(WEB_TO_DB)
    fleet = sample_fleet()
    before = compile_policy(policy, fleet)
    newcomer = Member("shop", "web-9", Identity(99), {"app": "web", "env": "test"})

    grown = compile_policy(policy, fleet.with_member(newcomer), previous=before)
    shrunk = compile_policy(policy, fleet, previous=grown)

    assert set(grown.entries.pairs[Direction.INSIDE]) - set(
        before.entries.pairs[Direction.INSIDE]
    ) == {Identity(99)}
    assert shrunk.entries == before.entries


def test_a_named_machine_with_a_shared_identity_is_refused_not_widened():
    policy = shop_policy("{name: r, from: {machine: web-1}, to: any, allow: [tcp]}")

    with pytest.raises(PolicyError, match="shop/web-1 shares its identity with 1 others"):
        compile_policy(policy, sample_fleet())


def test_separating_gives_a_named_machine_its_own_identity_and_leaves_the_rest():
    fleet = sample_fleet()

    separated, changed = separate_identities(fleet, ["shop/web-1", "shop/db-1", "no/such"], 50)

    assert changed == {"shop/web-1": Identity(50)}
    assert separated.members["shop/web-2"] == fleet.members["shop/web-2"]
    assert separate_identities(separated, ["shop/web-1"], 51) == (separated, {})


def test_an_identity_stands_for_one_label_set_of_one_network():
    networks = {"shop": 1, "ops": 2}
    first = Member("shop", "a", Identity(5), {"app": "web"})

    for other in (
        Member("shop", "b", Identity(5), {"app": "db"}),
        Member("ops", "b", Identity(5), {"app": "web"}),
        Member("shop", "b", Identity(1), {}),
        Member("shop", "b", Identity(OUTSIDE_BIT), {}),
    ):
        with pytest.raises(InvalidError, match="identity"):
            make_snapshot(None, networks, [first, other])
        with pytest.raises(InvalidError, match="identity"):
            make_snapshot(None, networks, [first]).with_member(other)


def test_outside_addresses_get_an_identity_for_each_set_of_selectors():
    wide = CidrSelector((IPv6Network("2001:db8::/32"),), (IPv6Network("2001:db8:1::/48"),))
    narrow = CidrSelector((IPv6Network("2001:db8:1:2::/64"), IPv6Network("2001:db8:3::/48")))

    outside = divide_outside([wide, narrow])

    def at(address: str) -> Identity:
        return outside_identity(outside.prefixes, IPv6Address(address))

    assert at("2001:db8::1") in outside.matched[wide] - outside.matched[narrow]
    assert at("2001:db8:1::1") == STRANGER
    assert at("2001:db8:1:2::1") in outside.matched[narrow] - outside.matched[wide]
    assert at("2001:db8:3::1") in outside.matched[narrow] & outside.matched[wide]
    assert at("2a00::1") == STRANGER
    assert divide_outside([narrow, wide]) == outside


def test_a_policy_that_does_not_fit_is_refused_with_figures():
    entries = compile_policy(shop_policy(WEB_TO_DB), sample_fleet()).entries

    with pytest.raises(ExhaustedError, match=r"pairs: 2 needed, 1 fit \(most: shop 2\)"):
        check_capacity([entries], Usage(1, 100, 100, 100))
    assert check_capacity([entries], Usage(2, 3, 5, 0)) == Usage(2, 3, 5, 0)
