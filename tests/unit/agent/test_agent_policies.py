"""Policies on their way to the kernel: in which order, what is refused, what is mended."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from agent_policies import (
    BLUE_IDENTITY,
    DB_IDENTITY,
    WEB_IDENTITY,
    allowing,
    compiled,
    difference,
    whole,
)
from agent_rig import (
    DB,
    FLEET,
    H1,
    H2,
    H3,
    OWN,
    WEB,
    Rig,
    at,
    located,
    moving,
    snapshot,
)

from netagent.agent.engine import Engine
from netagent.agent.replica import Replica
from netagent.model.errors import DataplaneError, ExhaustedError
from netagent.model.fleet import Identity, Location
from netagent.policy.entries import CompiledPolicy, Direction
from netagent.policy.language import Verdict
from netagent.reconcile.batch import Batch, NamedLocation
from netagent.reconcile.delta import plan_delta
from netagent.reconcile.held_policies import EMPTY_SLOT, HeldNetwork
from netagent.reconcile.view import Delta, View

RED = allowing("tcp/5432")
REVOKED = allowing("tcp/80", version=2)
BLUE = compiled(network="blue", default="allow")
POLICIES = (whole(RED), whole(BLUE, b"b"))


def start(rig: Rig, *policies) -> Engine:
    """Bring the engine up with WEB and DB, and policies: red's and blue's if none are given."""
    rig.engine.reconcile()
    rows = {WEB: at(H1, 1), DB: at(H2, 1, "db")}
    rig.engine.take_batch(replace(snapshot(rows), policies=policies or POLICIES))
    rig.state.journal.clear()
    return rig.engine


def identified(identity: Identity, revision: int = 2) -> Batch:
    row = NamedLocation("web", Location(H1.locator, identity, 1))
    return located({WEB: row}, revision)


def says(rig: Rig, port: int) -> Verdict:
    """What the kernel says to TCP from web to db."""
    answer = rig.kernel.datapath.policies.ask(
        1, Direction.INSIDE, WEB_IDENTITY, DB_IDENTITY, 6, port
    )
    assert answer is not None
    return answer.verdict


def test_a_policy_is_in_force_before_the_locations_that_need_it(rig: Rig) -> None:
    rig.engine.reconcile()
    rig.state.journal.clear()

    rig.engine.take_batch(replace(snapshot({WEB: at(H1, 1)}), policies=POLICIES))

    changes = rig.state.changes()
    assert changes.index("policy.turn") < changes.index("location.update")
    assert says(rig, 5432) is Verdict.ALLOW


def test_a_revision_and_a_new_identity_come_in_the_order_that_judges_nobody_by_less(
    rig: Rig,
) -> None:
    engine = start(rig)

    engine.take_batch(replace(identified(BLUE_IDENTITY), policies=(difference(RED, REVOKED),)))

    assert rig.state.changes() == ["policy.turn", "location.update", "generation.raise"]
    assert (says(rig, 5432), says(rig, 80)) == (Verdict.DENY, Verdict.ALLOW)


def test_commit_of_a_move_under_a_policy_is_exactly_one_map_write(rig: Rig) -> None:
    engine = start(rig)
    engine.take_batch(moving(DB, H2, H3, 2, revision=2))
    rig.state.journal.clear()

    engine.take_batch(located({DB: at(H3, 2, "db")}, revision=3))

    assert rig.state.changes() == ["location.update"]


def test_another_identity_has_flows_judged_again(rig: Rig) -> None:
    engine = start(rig)

    engine.take_batch(identified(DB_IDENTITY))

    assert rig.state.changes() == ["location.update", "generation.raise"]


def test_a_dropped_policy_goes_after_the_locations(rig: Rig) -> None:
    engine = start(rig)

    engine.take_batch(Batch(2, dropped_networks=(1,), dropped_policies=(1,)))

    assert rig.state.changes() == [
        "location.delete",
        "location.delete",
        "policy.end",
        "generation.raise",
    ]
    assert rig.state.policies.in_force(1) is None
    assert rig.state.policies.in_force(2) is not None


def test_a_policy_held_already_is_not_written_again(rig: Rig) -> None:
    engine = start(rig)

    engine.take_batch(Batch(2, policies=(whole(RED),)))

    assert rig.state.journal == []


def crowded(pairs: int) -> CompiledPolicy:
    row = dict.fromkeys(map(Identity, range(pairs)), RED.defaults[Direction.EGRESS])
    return replace(RED, pairs={**RED.pairs, Direction.EGRESS: {WEB_IDENTITY: row}})


@pytest.mark.parametrize(
    ("policy", "room", "figures"),
    [
        pytest.param(
            crowded(262_144), {}, r"pairs: 262,145 needed, 262,144 fit", id="more than ever fits"
        ),
        pytest.param(
            REVOKED, {"class_protocols": 1}, r"classes .* need \d entries", id="no room beside it"
        ),
    ],
)
def test_policies_that_do_not_fit_are_refused_whole(
    rig: Rig, policy: CompiledPolicy, room: dict[str, int], figures: str
) -> None:
    engine = start(rig)
    batch = replace(identified(DB_IDENTITY), policies=(whole(policy, b"9"),))
    rig.state.policies.room = replace(rig.state.policies.room, **room)

    with pytest.raises(ExhaustedError, match=figures):
        engine.take_batch(batch)

    assert rig.state.journal == []
    assert engine.view.revision == 1
    assert engine.position() == (1, (1,), {1: b"1", 2: b"b"})


def test_a_kernel_that_refuses_keeps_the_old_revision_and_is_brought_there_later(
    rig: Rig,
) -> None:
    engine = start(rig)
    rig.state.policies.refuses = True
    with pytest.raises(DataplaneError, match="policy_pair"):
        engine.take_batch(Batch(2, policies=(difference(RED, REVOKED),)))
    assert says(rig, 5432) is Verdict.ALLOW
    rig.state.policies.refuses = False

    done = engine.reconcile()

    assert done.writes > 0
    assert says(rig, 5432) is Verdict.DENY
    assert rig.state.changes()[-1] == "generation.raise"
    assert engine.reconcile().writes == 0


def test_flows_are_judged_again_when_something_failed_and_when_it_is_mended(rig: Rig) -> None:
    engine = start(rig)
    rig.state.location.refuses = True
    with pytest.raises(DataplaneError, match="location"):
        engine.take_batch(replace(identified(DB_IDENTITY), policies=(difference(RED, REVOKED),)))
    assert rig.state.changes() == ["policy.turn", "generation.raise"], "the revocation holds"
    rig.state.location.refuses = False

    engine.reconcile()

    assert rig.state.changes()[-2:] == ["location.update", "generation.raise"]
    rig.state.journal.clear()
    engine.reconcile()
    assert rig.state.journal == []


def test_a_restart_adopts_policies_and_raises_the_generation_once(rig: Rig) -> None:
    view = start(rig).view

    engine = rig.restart()
    engine.restore(view, {})
    engine.reconcile()
    engine.take_batch(replace(snapshot({WEB: at(H1, 1), DB: at(H2, 1, "db")}), policies=POLICIES))

    assert rig.state.changes() == ["generation.raise"]
    assert engine.status().kernel_writes == 0


def test_a_rebooted_host_enforces_what_its_replica_holds(rig: Rig, tmp_path: Path) -> None:
    replica = Replica(tmp_path / "replica.db")
    replica.write_own(OWN)
    deltas: list[Delta] = []
    start(rig).hand_over_unwritten(deltas)
    for delta in deltas:
        replica.write_delta(FLEET, delta)
    rebooted = Rig(rig.config)

    rebooted.engine.restore(replica.read().view, {})
    rebooted.engine.reconcile()

    assert says(rebooted, 5432) is Verdict.ALLOW
    assert rebooted.state.policies.in_force(2) is not None
    changes = rebooted.state.changes()
    assert changes.index("policy.turn") < changes.index("location.update")
    assert changes[-1] == "generation.raise"


def test_a_replica_that_is_behind_does_not_bring_a_revoked_policy_back(rig: Rig) -> None:
    behind = View()
    rows = {WEB: at(H1, 1), DB: at(H2, 1, "db")}
    behind.apply(plan_delta(behind, replace(snapshot(rows), policies=(whole(RED),))))
    start(rig).take_batch(Batch(2, policies=(difference(RED, REVOKED),)))

    engine = rig.restart()
    engine.restore(behind, {})
    engine.reconcile()

    assert says(rig, 5432) is Verdict.DENY
    assert rig.state.policies.in_force(2) is not None, "nothing goes before the first batch"
    engine.take_batch(Batch(3, policies=(difference(RED, REVOKED),)))
    assert rig.state.policies.in_force(2) is None


def lose_pairs(rig: Rig) -> None:
    def change(network: HeldNetwork) -> HeldNetwork:
        assert network.active is not None
        slots = list(network.slots)
        slots[network.active.slot] = replace(slots[network.active.slot], pairs=EMPTY_SLOT.pairs)
        return replace(network, slots=tuple(slots))

    rig.state.policies.damage(1, change)


def change_defaults(rig: Rig) -> None:
    def change(network: HeldNetwork) -> HeldNetwork:
        assert network.active is not None
        pairs = network.slots[network.active.slot].pairs[Direction.INSIDE]
        open_class = pairs[WEB_IDENTITY][DB_IDENTITY]
        return replace(
            network, active=replace(network.active, defaults=dict.fromkeys(Direction, open_class))
        )

    rig.state.policies.damage(1, change)


def lose_row(rig: Rig) -> None:
    rig.state.policies.damage(1, lambda network: replace(network, active=None))


def lose_class(rig: Rig) -> None:
    rig.state.policies.lose_class(RED.pairs[Direction.INSIDE][WEB_IDENTITY][DB_IDENTITY])


def lose_rule(rig: Rig) -> None:
    rig.state.policies.damage(1, lambda network: replace(network, rules={}))


def add_network(rig: Rig) -> None:
    held = rig.state.policies.held
    networks = {**held.networks, 7: held.networks[2]}
    rig.state.policies.held = replace(held, networks=networks)


@pytest.mark.parametrize(
    "damage",
    [lose_pairs, change_defaults, lose_row, lose_class, lose_rule, add_network],
)
def test_drift_is_found_beside_the_kernels_thread_mended_and_counted(
    rig: Rig, damage: Callable[[Rig], None]
) -> None:
    engine = start(rig)
    damage(rig)

    assert engine.reconcile(with_large=False).writes == 0
    suspects = engine.find_policy_suspects(engine.policy_intent())
    mended = engine.mend_policies(suspects)

    assert mended > 0
    assert rig.state.policies.in_force(7) is None
    for policy in (RED, BLUE):
        found = rig.state.policies.in_force(policy.number)
        assert found is not None
        assert (found.pairs, found.defaults) == (policy.pairs, policy.defaults)
        assert found.classes.items() >= policy.classes.items()
    assert rig.state.changes()[-1] == "generation.raise"
    assert engine.find_policy_suspects(engine.policy_intent()) == ()


def test_damage_to_the_slot_that_is_not_in_force_is_known_before_it_is_turned_to(
    rig: Rig,
) -> None:
    engine = start(rig)
    engine.take_batch(Batch(2, policies=(difference(RED, REVOKED),)))
    held = rig.state.policies.held.networks[1]
    idle = 1 - held.active.slot
    rig.state.policies.damage(
        1,
        lambda network: replace(
            network,
            slots=tuple(EMPTY_SLOT if i == idle else s for i, s in enumerate(network.slots)),
        ),
    )

    suspects = engine.find_policy_suspects(engine.policy_intent())

    assert suspects == (1,)
    assert engine.mend_policies(suspects) == 0
    assert engine.find_policy_suspects(engine.policy_intent()) == ()
    engine.take_batch(Batch(3, policies=(difference(REVOKED, replace(RED, version=3), b"3"),)))
    assert rig.state.policies.in_force(1).pairs == RED.pairs


def test_a_look_at_a_kernel_in_step_writes_nothing(rig: Rig) -> None:
    engine = start(rig)

    assert engine.find_policy_suspects(engine.policy_intent()) == ()
    assert engine.mend_policies(()) == 0
    assert rig.state.journal == []


def test_a_location_with_a_wrong_identity_is_mended_and_flows_judged_again(rig: Rig) -> None:
    engine = start(rig)
    rig.state.location.rows[WEB] = Location(H1.locator, BLUE_IDENTITY, 1)

    engine.mend_locations(engine.find_suspects(engine.desired_locations()))

    assert rig.state.changes() == ["location.update", "generation.raise"]
