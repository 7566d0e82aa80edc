"""Who may talk to whom by the words of both policies, and which hosts need what because of it."""

from __future__ import annotations

import random

import pytest

from netagent.control.interest import Interest
from netagent.control.reach import consent_of, find_reach
from netagent.policy.language import built_in_policy
from netagent.policy.reading import load_policy

NUMBERS = {"blue": 1, "red": 2}


def policy(network: str, *rules: str, mode: str = "enforce") -> str:
    lines = "".join(
        f"  - {{name: r{number}, {rule}}}\n" for number, rule in enumerate(rules, start=1)
    )
    return f"network: {network}\nmode: {mode}\n" + (f"rules:\n{lines}" if rules else "")


SENDS_RED = "from: {labels: {}}, to: {network: red}, allow: [tcp/80]"
TAKES_BLUE = "from: {network: blue, labels: {app: web}}, to: {labels: {x: y}}, allow: [udp]"


@pytest.mark.parametrize(
    ("blue", "red", "is_reached"),
    [
        pytest.param(policy("blue", SENDS_RED), policy("red", TAKES_BLUE), True, id="agreed"),
        pytest.param(policy("blue", SENDS_RED), policy("red"), False, id="one-alone"),
        pytest.param(
            policy("blue", SENDS_RED),
            policy("red", "from: {labels: {}}, to: {network: blue}, allow: [any]"),
            False,
            id="both-send-and-neither-takes",
        ),
        pytest.param(
            policy("blue", "from: any, to: any, allow: [any]"),
            policy("red", "from: any, to: any, allow: [any]"),
            True,
            id="anybody",
        ),
        pytest.param(
            policy("blue", "from: {machine: web-1}, to: {machine: red/db-1}, allow: [any]"),
            policy("red", "from: {machine: blue/web-1}, to: {machine: db-1}, allow: [any]"),
            True,
            id="by-name",
        ),
        pytest.param(
            policy("blue", SENDS_RED.replace("allow", "deny")),
            policy("red", TAKES_BLUE),
            False,
            id="a-deny-opens-nothing",
        ),
        pytest.param(
            policy("blue", SENDS_RED + ", mode: audit"),
            policy("red", TAKES_BLUE),
            False,
            id="a-rule-in-audit-opens-nothing",
        ),
        pytest.param(
            policy("blue", mode="audit"), policy("red", TAKES_BLUE), True, id="a-policy-in-audit"
        ),
        pytest.param(policy("blue", mode="audit"), policy("red"), False, id="audit-on-one-side"),
        pytest.param(
            policy("blue", "from: {network: red}, to: {network: red}, allow: [any]"),
            policy("red", TAKES_BLUE),
            False,
            id="a-rule-about-others",
        ),
        pytest.param(
            policy("blue", "from: {labels: {}}, to: {cidr: ['2001:db8::/32']}, allow: [any]"),
            policy("red", TAKES_BLUE),
            False,
            id="outside-is-no-network",
        ),
    ],
)
def test_two_networks_meet_where_both_consent(blue: str, red: str, is_reached: bool) -> None:
    consents = {
        name: consent_of(load_policy(text, name))
        for name, text in zip(NUMBERS, (blue, red), strict=True)
    }

    reach = find_reach(consents, NUMBERS)

    assert reach == ({1: frozenset({2}), 2: frozenset({1})} if is_reached else {})


def test_a_network_without_a_policy_meets_nobody() -> None:
    assert not consent_of(built_in_policy("blue")).is_any


def test_networks_that_are_not_there_any_more_are_not_reached() -> None:
    everybody = consent_of(load_policy(policy("blue", "from: any, to: any, allow: [any]"), "blue"))

    assert find_reach({"blue": everybody, "gone": everybody}, {"blue": 1}) == {}


@pytest.mark.parametrize("seed", range(20))
def test_every_change_of_need_is_told(seed: int) -> None:
    draw = random.Random(seed)
    interest = Interest()
    machines: list[tuple[str, int]] = []
    hosts, networks = ["a", "b", "c"], range(1, 6)
    known = {(host, network): False for host in hosts for network in networks}

    for _ in range(200):
        action = draw.random()
        if action < 0.45:
            place = draw.choice(hosts), draw.choice(networks)
            machines.append(place)
            told = interest.add(*place)
        elif action < 0.85 and machines:
            place = machines.pop(draw.randrange(len(machines)))
            told = interest.remove(*place)
        else:
            pairs = {frozenset(draw.sample(networks, 2)) for _ in range(draw.randrange(4))}
            told = interest.set_reach(
                {
                    one: frozenset(two for pair in pairs if one in pair for two in pair - {one})
                    for one in networks
                }
            )
        now = {need: interest.is_needed(*need) for need in known}
        assert {need for need in known if known[need] != now[need]} <= told
        known = now
        for host in hosts:
            needed = {network for network in networks if known[host, network]}
            assert interest.needed(host) == needed
            assert interest.own(host) == {network for at, network in machines if at == host}
        for network in networks:
            assert interest.hosts(network) == {host for host in hosts if known[host, network]}
