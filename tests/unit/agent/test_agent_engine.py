"""What reaches the kernel, and when: commits, restarts, failures, arrivals and departures."""

from pathlib import Path

import pytest
from agent_rig import (
    DB,
    H1,
    H2,
    H3,
    WEB,
    Rig,
    at,
    located,
    machine_in,
    moving,
    settled,
    snapshot,
)
from simulated_dataplane import SimulatedDataplane

from netagent.agent.attached import EndpointState
from netagent.agent.facts import inner_mtu
from netagent.dataplane.abi import EndpointRow, TransitionRow
from netagent.dataplane.datapath import Attachment
from netagent.model.errors import ConfigError, DataplaneError, ExhaustedError
from netagent.model.fleet import IDENTITY_HOST, Identity, Location
from netagent.reconcile.delta import plan_delta
from netagent.reconcile.view import Delta, View


def test_first_start_brings_everything_up(rig: Rig) -> None:
    rig.engine.reconcile()
    rig.engine.take_batch(snapshot({WEB: at(H2, 1)}))

    kinds = {kind for kind, _ in rig.state.attached.values()}
    assert kinds == {Attachment.MESH, Attachment.HOST}
    assert [peer.public_key for peer in rig.state.peers] == [H2.public_key, H3.public_key]
    assert rig.state.location.rows == {
        WEB: Location(H2.locator, Identity(2), 1),
        **{h.stable_id: Location(h.locator, IDENTITY_HOST, 0) for h in (H1, H2, H3)},
    }
    gateway = rig.state.links["na-host-gw"]
    assert rig.state.endpoint.rows == {
        H1.stable_id: EndpointRow(gateway.ifindex, b"\x0a" * 6, False)
    }


def test_commit_elsewhere_is_exactly_one_map_write(rig: Rig) -> None:
    engine = rig.start({WEB: at(H2, 1)})
    engine.take_batch(moving(WEB, H2, H3, 2, revision=2))
    rig.state.journal.clear()

    engine.take_batch(located({WEB: at(H3, 2)}, revision=3))

    flipped = {WEB: Location(H3.locator, Identity(2), 2)}
    assert rig.state.journal == [("location.update", flipped)]


def test_prepare_is_one_write_with_a_deadline(rig: Rig) -> None:
    engine = rig.start({WEB: at(H2, 1)})

    engine.take_batch(moving(WEB, H2, H3, 2, revision=2))

    row = TransitionRow(H2.locator, H3.locator, rig.now_ns + 60_000_000_000, 2)
    assert rig.state.journal == [("transition.update", {WEB: row})]


def test_arrival_flips_and_then_leads_the_route_here(rig: Rig) -> None:
    engine = rig.start({WEB: at(H2, 1)})
    rig.attach()
    engine.take_batch(moving(WEB, H2, H1, 2, revision=2))
    assert engine.state(WEB) is EndpointState.STAGED
    rig.state.journal.clear()

    engine.take_batch(located({WEB: at(H1, 2)}, revision=3))

    assert rig.state.changes() == ["location.update", "activate"]
    assert engine.state(WEB) is EndpointState.LIVE


def test_route_is_prepared_with_the_move_and_released_when_it_does_not_come(rig: Rig) -> None:
    engine = rig.start({WEB: at(H2, 1)})
    rig.attach()
    assert rig.state.prepared == set()

    engine.take_batch(moving(WEB, H2, H1, 2, revision=2))
    assert rig.state.prepared == {"na-web"}
    engine.take_batch(settled(WEB, 2, revision=3))

    assert rig.state.prepared == set()


def test_machine_attached_while_it_moves_here_is_prepared(rig: Rig) -> None:
    engine = rig.start({WEB: at(H2, 1)})
    engine.take_batch(moving(WEB, H2, H1, 2, revision=2))

    rig.attach()

    assert rig.state.prepared == {"na-web"}


def test_attaching_where_the_machine_is_not_leaves_its_route_alone(rig: Rig) -> None:
    engine = rig.start({WEB: at(H2, 1)})

    rig.attach()

    assert engine.state(WEB) is EndpointState.FENCED
    assert rig.state.active == {}
    assert WEB in rig.state.endpoint.rows


def test_filter_is_there_before_anything_is_delivered(rig: Rig) -> None:
    engine = rig.start({WEB: at(H1, 1)})

    engine.attach(machine_in("/run/netns/web"))

    assert rig.state.changes() == ["link.make", "attach", "endpoint.update", "activate"]


def test_restart_with_the_replica_writes_nothing(rig: Rig) -> None:
    before = rig.start({WEB: at(H1, 1), DB: at(H2, 1, "db")})
    rig.attach()
    view, attached = before.view, dict(before.interfaces.attached)

    engine = rig.restart()
    engine.restore(view, attached)
    engine.reconcile()
    engine.take_batch(snapshot({WEB: at(H1, 1), DB: at(H2, 1, "db")}))

    assert rig.state.changes() == ["generation.raise"]
    assert engine.status().kernel_writes == 0


def test_restart_without_replica_removes_nothing_before_the_snapshot(rig: Rig) -> None:
    rig.start({WEB: at(H1, 1), DB: at(H2, 1, "db")})
    held = rig.state.location.items()

    engine = rig.restart()
    engine.reconcile()

    assert rig.state.location.rows == held
    assert len(rig.state.peers) == 2
    engine.take_batch(snapshot({WEB: at(H1, 1)}))
    assert DB not in rig.state.location.rows


def test_replica_that_is_behind_does_not_undo_a_commit(rig: Rig) -> None:
    behind = View()
    behind.apply(plan_delta(behind, snapshot({WEB: at(H2, 1)})))
    rig.start({WEB: at(H2, 1)}).take_batch(located({WEB: at(H3, 2)}, revision=2))

    engine = rig.restart()
    engine.restore(behind, {})
    engine.reconcile()

    assert rig.state.location.rows[WEB].locator == H3.locator


def test_dead_wireguard_is_made_anew_and_programs_learn_its_index(rig: Rig) -> None:
    engine = rig.start({WEB: at(H1, 1)})
    rig.attach()
    rig.state.remove_link("netagent0")

    done = engine.reconcile()

    index = rig.state.links["netagent0"].ifindex
    assert done.writes > 0
    assert {constants.mesh_ifindex for _, constants in rig.state.attached.values()} == {index}
    assert len(rig.state.peers) == 2
    assert engine.reconcile().writes == 0


def test_drift_of_every_kind_is_mended(rig: Rig) -> None:
    engine = rig.start({WEB: at(H1, 1), DB: at(H2, 1, "db")})
    rig.attach()
    wanted = rig.state.location.items(), rig.state.endpoint.items(), dict(rig.state.attached)
    del rig.state.location.rows[DB]
    rig.state.location.rows[999] = Location(H3.locator, Identity(9), 9)
    rig.state.endpoint.rows.clear()
    rig.state.transition.rows[WEB] = TransitionRow(H1.locator, H2.locator, 0, 9)
    rig.state.peers = rig.state.peers[:1]
    rig.state.attached.clear()

    engine.reconcile()

    assert (rig.state.location.items(), rig.state.endpoint.items(), rig.state.attached) == wanted
    assert rig.state.transition.rows == {}
    assert len(rig.state.peers) == 2
    assert engine.reconcile().writes == 0


def test_look_at_the_large_table_mends_it(rig: Rig) -> None:
    engine = rig.start({WEB: at(H1, 1), DB: at(H2, 1, "db")})
    wanted = rig.state.location.items()
    del rig.state.location.rows[DB]
    rig.state.location.rows[999] = Location(H3.locator, Identity(9), 9)

    suspects = engine.find_suspects(engine.desired_locations())

    assert suspects == (999, DB)
    assert engine.mend_locations(suspects) == 2
    assert rig.state.location.rows == wanted
    assert engine.find_suspects(engine.desired_locations()) == ()


def test_commit_while_the_large_table_was_read_is_not_undone(rig: Rig) -> None:
    engine = rig.start({WEB: at(H2, 1)})
    desired = engine.desired_locations()
    engine.take_batch(located({WEB: at(H3, 2)}, revision=2))
    suspects = engine.find_suspects(desired)
    assert suspects == (WEB,)
    rig.state.journal.clear()

    assert engine.mend_locations(suspects) == 0
    assert rig.state.journal == []


def test_missing_namespace_is_told_and_the_others_go_on(rig: Rig) -> None:
    engine = rig.start({WEB: at(H1, 1), DB: at(H1, 1, "db")})
    rig.attach(DB, "db")
    engine.interfaces.attached[WEB] = machine_in("/run/netns/gone")

    done = engine.reconcile()

    assert list(done.missing) == ["red/web"]
    assert "namespace /run/netns/gone" in done.missing["red/web"]
    assert DB in rig.state.endpoint.rows
    assert WEB not in rig.state.endpoint.rows


def test_a_machine_whose_interface_is_down_holds_nobody_up(rig: Rig) -> None:
    engine = rig.start({WEB: at(H2, 1), DB: at(H2, 1, "db")})
    rig.attach()
    rig.attach(DB, "db")
    rig.state.down_inside = {"na-web"}

    made_trouble = engine.take_batch(located({WEB: at(H1, 2), DB: at(H1, 2, "db")}, revision=2))

    assert made_trouble
    assert engine.applied_revision == 2
    assert rig.state.active == {Path("/run/netns/db"): "na-db"}
    assert not engine.reconcile().missing
    assert rig.state.active[Path("/run/netns/web")] == "na-web"
    assert engine.reconcile().writes == 0
    assert not engine.take_batch(located({WEB: at(H1, 3)}, revision=3))


def test_the_filter_of_a_lost_interface_comes_before_it_is_up(rig: Rig) -> None:
    engine = rig.start({WEB: at(H1, 1)})
    rig.attach()
    rig.state.remove_link("na-web")

    engine.reconcile()

    assert rig.state.changes()[:2] == ["link.make", "attach"]


def test_interface_that_comes_back_is_of_concern(rig: Rig) -> None:
    engine = rig.start({WEB: at(H1, 1)})
    tap = rig.state.make_link("tap0")
    engine.attach(machine_in(None, "tap0"))
    assert not engine.concerns("tap0", is_gone=False)
    rig.state.remove_link(tap.name)
    assert engine.concerns("tap0", is_gone=True)
    engine.reconcile()

    assert engine.concerns("tap0", is_gone=False)
    assert not engine.concerns("eth0", is_gone=True)


def test_kernel_that_refuses_is_brought_there_later(rig: Rig) -> None:
    engine = rig.start({WEB: at(H2, 1)})
    rig.attach()
    rig.state.location.refuses = True

    with pytest.raises(DataplaneError):
        engine.take_batch(located({WEB: at(H1, 2)}, revision=2))
    assert engine.applied_revision == 1
    rig.state.location.refuses = False
    engine.reconcile()

    assert engine.applied_revision == 2
    assert rig.state.location.rows[WEB].epoch == 2
    deltas: list[Delta] = []
    engine.hand_over_unwritten(deltas)
    assert [delta.revision for delta in deltas] == [1, 2]


def test_batch_that_does_not_fit_writes_nothing(rig: Rig) -> None:
    rig.state = SimulatedDataplane(location_capacity=5)
    rig.restart()
    rig.start({WEB: at(H1, 1)})
    rows = {DB + n: at(H2, 1, f"db{n}") for n in range(5)}

    with pytest.raises(ExhaustedError, match="9 entries are needed and 5 fit"):
        rig.engine.take_batch(located(rows, revision=2))

    assert rig.state.journal == []
    assert rig.engine.applied_revision == 1


def test_transition_is_kept_alive_while_control_says_so(rig: Rig) -> None:
    engine = rig.start({WEB: at(H2, 1)})
    engine.take_batch(moving(WEB, H2, H3, 2, revision=2))
    rig.now_ns += 30_000_000_000

    done = engine.reconcile()

    assert rig.state.transition.rows[WEB].deadline_ns == rig.now_ns + 60_000_000_000
    assert done.writes == 0


@pytest.mark.parametrize(
    ("underlay", "inner"),
    [pytest.param(1500, 1408, id="ethernet"), pytest.param(9000, 8912, id="jumbo")],
)
def test_inner_mtu_is_the_greatest_multiple_of_16(underlay: int, inner: int) -> None:
    assert inner_mtu(underlay) == inner


def test_underlay_too_small_for_ipv6_is_refused() -> None:
    with pytest.raises(ConfigError, match="IPv6 needs 1280"):
        inner_mtu(1300)
