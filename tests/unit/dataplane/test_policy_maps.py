"""Policies in real maps: in force by one write, adopted, mended, and asked as programs ask."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from ipaddress import IPv6Network
from pathlib import Path

import pytest

from netagent.dataplane import bpf_map, policy_maps
from netagent.dataplane.abi import Counter
from netagent.dataplane.abi_policy import RuleCounter, RuleRow
from netagent.dataplane.datapath import Datapath
from netagent.dataplane.grace import wait_for_programs
from netagent.dataplane.pinned import PinnedArray, PinnedMap
from netagent.dataplane.policy_maps import PolicyMaps
from netagent.model.errors import DataplaneError
from netagent.model.fleet import Identity
from netagent.policy.capacity import LIMITS
from netagent.policy.compiler import compile_policy
from netagent.policy.entries import CompiledPolicy, Direction
from netagent.policy.fleet import FleetSnapshot, Member, make_snapshot
from netagent.policy.language import (
    AnySelector,
    CidrSelector,
    LabelSelector,
    LabelTest,
    Mode,
    Policy,
    Requirement,
    Rule,
    Traffic,
    Verdict,
)

pytestmark = pytest.mark.root

SHOP, OPS = 1, 2
PREFIX = IPv6Network("fd00:1:2:3::/64")
EVERYBODY = (AnySelector(),)
PARTNER = CidrSelector((IPv6Network("2001:db8::/32"),), ())
OTHER = CidrSelector((IPv6Network("2001:db9::/32"),), ())


def app(network: str, value: str) -> LabelSelector:
    return LabelSelector(network, (Requirement("app", LabelTest.IN, (value,)),))


def fleet() -> FleetSnapshot:
    members = [
        Member("shop", "web", Identity(2), {"app": "web"}),
        Member("shop", "db", Identity(3), {"app": "db"}),
        Member("ops", "probe", Identity(4), {"app": "probe"}),
    ]
    return make_snapshot(PREFIX, {"shop": SHOP, "ops": OPS}, members)


WEB_TO_DB = Rule(
    "web-to-db",
    (app("shop", "web"),),
    (app("shop", "db"),),
    Verdict.ALLOW,
    (Traffic(6, 5432, 5432),),
)
PARTNERS = Rule(
    "partners", (PARTNER,), (app("shop", "web"),), Verdict.ALLOW, (Traffic(6, 443, 443),)
)
PROBES = Rule("probes", (app("ops", "probe"),), EVERYBODY, Verdict.ALLOW, (Traffic(58, 0, 0xFFFF),))


def compiled(*rules: Rule, network: str = "shop", version: int = 1) -> CompiledPolicy:
    policy = Policy(network, rules, Verdict.DENY, Mode.ENFORCE)
    numbers = {"web-to-db": 1, "partners": 2, "probes": 3}
    return compile_policy(policy, fleet(), version, numbers=numbers).entries


FIRST = compiled(WEB_TO_DB, PARTNERS)
SECOND = compiled(replace(WEB_TO_DB, traffic=(Traffic(6, 5433, 5433),)), PROBES, version=2)
THIRD = compiled(replace(PARTNERS, source=(OTHER,)), PROBES, version=3)


@pytest.fixture
def datapath(pin_dir: Path) -> Iterator[Datapath]:
    with Datapath.open(pin_dir) as opened:
        yield opened


class Clock:
    """A clock by which every look is ten seconds later, until it is stopped."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.step_s = 10.0

    def __call__(self) -> float:
        self.now_s += self.step_s
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def maps(datapath: Datapath, pin_dir: Path, clock: Clock) -> Iterator[PolicyMaps]:
    opened = PolicyMaps(pin_dir, clock)
    yield opened
    opened.close()


def in_force(maps: PolicyMaps, network: int = SHOP) -> tuple[int, int, dict, dict, dict]:
    """Return what the kernel holds of a network's slot in force, read anew."""
    observed = maps.observe()
    held = observed.networks[network]
    assert held.active is not None
    slot = held.slots[held.active.slot]
    classes = {one: observed.classes[one].content for one in held.used}
    return held.active.slot, held.active.version, slot.pairs, slot.prefixes, classes


def assert_in_force(maps: PolicyMaps, policy: CompiledPolicy) -> None:
    _, version, pairs, prefixes, classes = in_force(maps, policy.number)
    assert (version, pairs, prefixes) == (policy.version, policy.pairs, policy.prefixes)
    assert classes == policy.classes


def test_maps_have_room_for_two_revisions_of_all_that_fits(maps: PolicyMaps) -> None:
    """One in force, and the one that is written beside it."""
    assert maps.room.pairs == 2 * LIMITS.pairs
    assert maps.room.prefixes == 2 * LIMITS.prefixes
    assert maps.room.class_protocols == 2 * LIMITS.class_protocols
    assert maps.room.intervals == 2 * LIMITS.intervals


def test_what_was_applied_is_in_force(maps: PolicyMaps) -> None:
    assert maps.apply(FIRST) > 0

    assert_in_force(maps, FIRST)
    assert maps.observe().networks[SHOP].rules.keys() == {0, *FIRST.rules}


def test_applying_it_again_writes_nothing(maps: PolicyMaps, pin_dir: Path) -> None:
    maps.apply(FIRST)
    maps.apply(SECOND)

    assert maps.apply(SECOND) == 0
    adopting = PolicyMaps(pin_dir)
    assert adopting.apply(SECOND) == 0
    adopting.close()


def test_a_change_goes_to_the_other_slot_and_leaves_the_old_one_alone(maps: PolicyMaps) -> None:
    maps.apply(FIRST)
    before, *_ = in_force(maps)

    maps.apply(SECOND)

    after, *_ = in_force(maps)
    assert after == 1 - before
    assert_in_force(maps, SECOND)
    left = maps.observe().networks[SHOP].slots[before]
    assert (left.pairs, left.prefixes) == (FIRST.pairs, FIRST.prefixes)


def test_another_version_of_the_same_content_is_one_write(maps: PolicyMaps) -> None:
    maps.apply(FIRST)

    assert maps.apply(replace(FIRST, version=9)) == 1

    assert_in_force(maps, replace(FIRST, version=9))


def test_networks_do_not_touch_each_other(maps: PolicyMaps) -> None:
    ops = compiled(PROBES, network="ops", version=5)
    maps.apply(FIRST)
    maps.apply(ops)
    maps.apply(SECOND)
    maps.apply(THIRD)

    assert_in_force(maps, ops)
    assert_in_force(maps, THIRD)
    maps.drop(SHOP)
    assert_in_force(maps, ops)


def test_a_dropped_network_leaves_nothing_but_classes_for_later(maps: PolicyMaps) -> None:
    ops = compiled(PROBES, network="ops")
    maps.apply(FIRST)
    maps.apply(SECOND)

    maps.drop(SHOP)

    assert maps.ask(SHOP, Direction.INSIDE, Identity(2), Identity(3), 6, 5433) is None
    assert SHOP not in maps.observe().networks
    assert maps.drop(SHOP) == 0
    maps.apply(ops)
    assert maps.observe().classes.keys() == ops.classes.keys()


def test_classes_go_in_a_later_apply_than_the_one_that_turned_away(maps: PolicyMaps) -> None:
    maps.apply(FIRST)
    maps.apply(SECOND)
    assert maps.observe().classes.keys() == FIRST.classes.keys() | SECOND.classes.keys()

    maps.apply(THIRD)

    assert maps.observe().classes.keys() == SECOND.classes.keys() | THIRD.classes.keys()


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that grows with every wait for programs."""
    waited: list[str] = []
    monkeypatch.setattr(policy_maps, "wait_for_programs", lambda: waited.append("programs"))
    return waited


def test_what_a_program_may_still_be_reading_is_left_alone(
    maps: PolicyMaps, clock: Clock, waits: list[str]
) -> None:
    clock.step_s = 0
    ops = compiled(PROBES, network="ops")
    maps.apply(FIRST)
    assert not waits, "nothing was in force before"
    maps.apply(SECOND)
    assert not waits, "the other slot was empty"

    maps.apply(ops)

    assert maps.observe().classes.keys() >= FIRST.classes.keys(), "they were in force just now"
    assert not waits
    maps.apply(THIRD)
    assert waits == ["programs"], "it is written where programs read a moment ago"
    assert_in_force(maps, THIRD)


def test_a_program_reads_no_longer_than_a_moment(
    maps: PolicyMaps, clock: Clock, waits: list[str]
) -> None:
    for policy in (FIRST, SECOND, THIRD, FIRST):
        maps.apply(policy)

    assert not waits


def test_waiting_for_programs_ends() -> None:
    wait_for_programs()


def test_another_agent_adopts_what_is_there_and_goes_on(maps: PolicyMaps, pin_dir: Path) -> None:
    maps.apply(FIRST)
    maps.apply(SECOND)
    adopting = PolicyMaps(pin_dir)

    assert adopting.held() == maps.observe()
    adopting.apply(THIRD)

    assert_in_force(adopting, THIRD)
    adopting.close()


class Refusing:
    """Lets some writes through to the kernel, then refuses one and all that follow."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, allowed: int) -> None:
        self.left = allowed
        for name in ("map_update", "map_update_batch", "map_delete_batch"):
            monkeypatch.setattr(bpf_map, name, self.wrap(getattr(bpf_map, name)))

    def wrap(self, write):
        def attempt(fd: int, subject: str, *rest: object) -> object:
            if self.left == 0:
                raise DataplaneError("update", subject, "out of memory", 12)
            self.left -= 1
            return write(fd, subject, *rest)

        return attempt


@pytest.mark.parametrize("before", [(), (FIRST,), (FIRST, SECOND)], ids=["none", "one", "two"])
def test_a_failure_between_any_two_writes_leaves_the_old_revision_in_force(
    pin_dir: Path, before: tuple[CompiledPolicy, ...]
) -> None:
    failures = 0
    for allowed in range(100):
        with Datapath.open(pin_dir) as opened:
            maps = opened.policies
            maps.drop(SHOP)
            for policy in before:
                maps.apply(policy)
            with pytest.MonkeyPatch.context() as patch:
                Refusing(patch, allowed)
                try:
                    maps.apply(THIRD)
                except DataplaneError:
                    failures += 1
                else:
                    break
            if before and maps.observe().networks[SHOP].active.version != THIRD.version:
                assert_in_force(maps, before[-1])
            with Datapath.open(pin_dir) as restarted:
                restarted.policies.apply(THIRD)
                assert_in_force(restarted.policies, THIRD)
            maps.apply(THIRD)
            assert maps.apply(THIRD) == 0
            assert_in_force(maps, THIRD)
    assert failures >= 5


@pytest.mark.parametrize(
    "name", ["policy_pair", "policy_prefix", "policy_class", "policy_network", "rule_index"]
)
def test_rows_that_somebody_removed_come_back(maps: PolicyMaps, pin_dir: Path, name: str) -> None:
    maps.apply(FIRST)
    whole = maps.observe()
    damage = PinnedMap(pin_dir / name, *SIZES[name])
    for key, _ in list(damage.rows()):
        damage.remove(key, 1)
    damage.close()

    maps.forget()
    assert maps.apply(FIRST) > 0

    assert_in_force(maps, FIRST)
    assert maps.observe().networks[SHOP].rules == whole.networks[SHOP].rules
    assert maps.apply(FIRST) == 0


SIZES = {
    "policy_pair": (16, 8),
    "policy_prefix": (28, 4),
    "policy_class": (16, 8),
    "policy_network": (4, 72),
    "rule_index": (8, 4),
}


def test_intervals_that_somebody_changed_come_back(maps: PolicyMaps, pin_dir: Path) -> None:
    maps.apply(FIRST)
    damage = PinnedArray(pin_dir / "policy_interval", 12)
    damage.write(0, bytes(12 * 4))
    damage.close()

    maps.forget()
    assert maps.apply(FIRST) > 0

    assert_in_force(maps, FIRST)
    assert maps.apply(FIRST) == 0


def test_the_generation_rises_by_one_and_begins_again_after_the_last(
    maps: PolicyMaps, pin_dir: Path
) -> None:
    before = maps.generation()
    assert maps.raise_generation() == before + 1
    assert maps.generation() == before + 1
    state = PinnedArray(pin_dir / "policy_state", 8)
    state.write(0, b"\xff" * 4 + bytes(4))
    state.close()

    assert maps.raise_generation() == 0


def test_rules_have_counters_of_their_own_and_keep_them(maps: PolicyMaps) -> None:
    maps.apply(FIRST)
    nothing = Counter(0, 0)
    expected = {
        (RuleRow(SHOP, number), is_receiver): RuleCounter(nothing, nothing, nothing)
        for number in (0, 1, 2)
        for is_receiver in (False, True)
    }
    assert maps.rule_counters() == expected
    indices = maps.held().networks[SHOP].rules

    maps.apply(SECOND)

    after = maps.held().networks[SHOP].rules
    assert after.keys() == {0, 1, 3}
    assert {number: after[number] for number in (0, 1)} == {
        number: indices[number] for number in (0, 1)
    }


def test_an_index_is_given_to_another_rule_only_once_flows_are_asked_again(
    maps: PolicyMaps,
) -> None:
    maps.apply(FIRST)
    gone = maps.held().networks[SHOP].rules[2]
    maps.apply(compiled(WEB_TO_DB, version=2))

    maps.apply(compiled(WEB_TO_DB, PROBES, version=3))
    assert maps.held().networks[SHOP].rules[3] != gone
    maps.apply(compiled(WEB_TO_DB, version=4))
    maps.raise_generation()
    maps.apply(compiled(WEB_TO_DB, PROBES, version=5))
    assert maps.held().networks[SHOP].rules[3] == gone


def test_reading_everything_disturbs_nobody_who_writes(maps: PolicyMaps, pin_dir: Path) -> None:
    """An audit reads in a thread of its own; what it sees half of, it only suspects."""
    maps.apply(FIRST)
    reader = PolicyMaps(pin_dir)
    with ThreadPoolExecutor(1) as thread:
        for version in range(1, 40):
            reading = thread.submit(reader.observe)
            for policy in (SECOND, THIRD, FIRST):
                maps.apply(replace(policy, version=version))
            reading.result()
    reader.close()
    assert_in_force(maps, replace(FIRST, version=39))
