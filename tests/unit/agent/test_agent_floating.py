"""Floating addresses on one host: whose endpoint they have, and in what order that changes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from agent_rig import DB, H1, H2, H3, WEB, Rig, at, located, moving, settled, snapshot

from netagent.dataplane.abi import EndpointRow
from netagent.model.addresses import StableId, make_id
from netagent.model.errors import DataplaneError, ExhaustedError
from netagent.model.fleet import Host, Identity, floating_epoch
from netagent.reconcile.batch import Batch, LocationChange, NamedLocation

VIP = make_id(1, 1, 9)
APART = Identity(3)
IN_TURN = [
    *("endpoint.delete", "await_programs", "location.update"),
    *("generation.raise", "endpoint.update"),
]
"""One holder, nobody, the other; who finds no flow that was right for the first."""


def held(holder: StableId, host: Host, assignment: int, epoch: int = 1) -> NamedLocation:
    row = at(host, floating_epoch(assignment, epoch), "vip")
    identity = APART if holder == DB else row.location.identity
    return NamedLocation("vip", replace(row.location, identity=identity), holder)


def db_at(host: Host, epoch: int = 1) -> NamedLocation:
    row = at(host, epoch, "db")
    return NamedLocation("db", replace(row.location, identity=APART))


def released(assignment: int, revision: int) -> Batch:
    gone = {VIP: floating_epoch(assignment, 1)}
    return Batch(revision, locations=(LocationChange(1, "red", False, {}, gone),))


@pytest.fixture
def both(rig: Rig) -> Rig:
    """A rig with two machines attached and located here; WEB has the address."""
    rig.start({WEB: at(H1, 1), DB: db_at(H1)})
    rig.attach(WEB, "web")
    rig.attach(DB, "db")
    rig.engine.take_batch(located({VIP: held(WEB, H1, 1)}, revision=2))
    rig.state.journal.clear()
    return rig


def endpoint(rig: Rig, stable_id: StableId) -> EndpointRow | None:
    return rig.state.endpoint.get(stable_id)


def test_the_address_has_the_endpoint_of_its_holder(both: Rig) -> None:
    assert endpoint(both, VIP) == endpoint(both, WEB) != endpoint(both, DB)
    assert both.engine.reconcile().writes == 0
    assert both.engine.reconcile(with_large=False).writes == 0
    entries, _ = both.engine.status().maps["endpoint"]
    assert entries == len(both.state.endpoint.rows)


def test_a_fail_over_on_one_host_takes_turns_and_gives(both: Rig) -> None:
    both.engine.take_batch(located({VIP: held(DB, H1, 2)}, revision=3))

    assert both.state.changes() == IN_TURN
    assert endpoint(both, VIP) == endpoint(both, DB)
    assert both.engine.reconcile().writes == 0


def test_a_holder_elsewhere_and_none_have_no_endpoint_here(both: Rig) -> None:
    both.engine.take_batch(located({VIP: held(DB, H2, 2)}, revision=3))
    assert endpoint(both, VIP) is not None  # DB is attached here, though it is located elsewhere
    both.engine.take_batch(located({VIP: held(make_id(1, 1, 7), H2, 3)}, revision=4))
    assert endpoint(both, VIP) is None
    both.engine.take_batch(located({VIP: held(WEB, H1, 4)}, revision=5))
    assert endpoint(both, VIP) == endpoint(both, WEB)
    both.engine.take_batch(released(4, revision=6))
    assert endpoint(both, VIP) is None
    assert VIP not in both.state.location.rows
    assert both.engine.reconcile().writes == 0


def test_what_is_older_gives_the_address_to_nobody(both: Rig) -> None:
    both.engine.take_batch(located({VIP: held(DB, H1, 3)}, revision=3))
    both.state.journal.clear()

    both.engine.take_batch(located({VIP: held(WEB, H1, 2, epoch=99)}, revision=4))
    both.engine.take_batch(released(2, revision=5))

    assert both.state.journal == []
    assert endpoint(both, VIP) == endpoint(both, DB)


def test_attaching_and_detaching_its_holder(rig: Rig) -> None:
    rig.start({WEB: at(H1, 1), VIP: held(WEB, H1, 1)})
    assert endpoint(rig, VIP) is None

    rig.attach()
    assert endpoint(rig, VIP) == endpoint(rig, WEB) is not None
    rig.engine.detach(WEB)

    assert rig.state.endpoint.rows.keys() == {H1.stable_id}


def test_it_goes_with_its_holder_and_leaves_nothing(rig: Rig) -> None:
    engine = rig.start({WEB: at(H1, 1), VIP: held(WEB, H1, 1)})
    rig.attach()
    engine.take_batch(moving(WEB, H1, H2, 2, revision=2))

    engine.take_batch(located({WEB: at(H2, 2), VIP: held(WEB, H2, 1, epoch=2)}, revision=3))
    assert rig.state.changes().count("location.update") == 1
    engine.take_batch(settled(WEB, 2, revision=4))
    # As netns machines do when another host leads their route.
    rig.state.active[engine.interfaces.attached[WEB].netns] = "elsewhere"
    assert engine.retire() == (WEB,)

    assert rig.state.endpoint.rows.keys() == {H1.stable_id}


def test_a_fail_over_that_the_kernel_refuses_half_way_is_finished_in_order(both: Rig) -> None:
    both.state.location.refuses = True
    with pytest.raises(DataplaneError):
        both.engine.take_batch(located({VIP: held(DB, H1, 2)}, revision=3))
    assert endpoint(both, VIP) is None

    both.state.location.refuses = False
    both.state.journal.clear()
    both.engine.reconcile()

    assert both.state.changes() == ["location.update", "generation.raise", "endpoint.update"]
    assert endpoint(both, VIP) == endpoint(both, DB)


@pytest.mark.parametrize("with_large", [True, False], ids=["all", "what-is-small"])
def test_drift_of_both_rows_is_mended_in_order(both: Rig, with_large: bool) -> None:
    """As if somebody had put back what was before: the row of WEB is not lent to DB."""
    before = endpoint(both, VIP), both.state.location.get(VIP)
    both.engine.take_batch(located({VIP: held(DB, H1, 2)}, revision=3))
    both.state.endpoint.rows[VIP], both.state.location.rows[VIP] = before
    both.state.journal.clear()

    both.engine.reconcile(with_large=with_large)

    assert both.state.changes() == IN_TURN
    assert endpoint(both, VIP) == endpoint(both, DB)
    assert both.engine.reconcile().writes == 0


def test_an_agent_with_an_older_replica_gives_nothing_back_before_control_speaks(
    both: Rig,
) -> None:
    old = both.engine
    view, attached = old.view, dict(old.interfaces.attached)
    both.restart().restore(view, attached)
    # The kernel has heard more than the replica: DB has it.
    both.state.location.rows[VIP] = held(DB, H1, 2).location
    both.state.endpoint.rows[VIP] = both.state.endpoint.rows[DB]

    both.engine.reconcile()
    both.engine.attach(attached[WEB])
    both.engine.reconcile(with_large=False)
    assert endpoint(both, VIP) == endpoint(both, DB)
    both.engine.take_batch(located({VIP: held(WEB, H1, 3)}, revision=3))

    assert endpoint(both, VIP) == endpoint(both, WEB)
    changes = [change for change in both.state.changes() if change != "prepare"]
    assert changes.index("endpoint.delete") < changes.index("location.update")


def test_floating_addresses_count_for_the_endpoint_table(both: Rig) -> None:
    room = both.state.endpoint.capacity - len(both.state.endpoint.rows)
    many = {
        make_id(1, 1, 100 + number): replace(held(WEB, H1, 1), name=f"vip-{number}")
        for number in range(room + 1)
    }
    with pytest.raises(ExhaustedError, match="map endpoint"):
        both.engine.take_batch(located(many, revision=3))
    many.popitem()
    both.engine.take_batch(located(many, revision=3))


def test_it_cannot_be_attached_as_a_machine(both: Rig) -> None:
    assert both.engine.view.find_machines("red/vip") == []
    assert both.engine.view.find_machines("web") == [("red/web", WEB)]


def test_a_third_host_only_turns_the_location(rig: Rig) -> None:
    engine = rig.start({WEB: at(H2, 1), DB: db_at(H3), VIP: held(WEB, H2, 1)})
    engine.take_batch(located({VIP: held(DB, H3, 2)}, revision=2))
    assert rig.state.changes() == ["location.update", "generation.raise"]


def test_a_snapshot_without_it_takes_it_away(both: Rig) -> None:
    both.engine.take_batch(snapshot({WEB: at(H1, 1), DB: db_at(H1)}, revision=5))
    assert endpoint(both, VIP) is None
    assert VIP not in both.state.location.rows
