"""The replica holds what was written, is readable by anybody, and its documented queries run."""

import os
import re
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
from agent_policies import (
    DB_IDENTITY,
    TO_MIRRORS,
    allowing,
    compiled,
    difference,
    whole,
)
from agent_rig import DB, FLEET, H1, H2, OWN, WEB, at, located, moving, settled, snapshot

from netagent.agent.attached import AttachedMachine, FormerLink
from netagent.agent.replica import Replica, read_handed_of_stopped
from netagent.agent.replica_schema import SCHEMA_VERSION
from netagent.model.addresses import GATEWAY_MAC, StableId, make_id, stable_address
from netagent.model.errors import ConfigError
from netagent.model.fleet import (
    ASSIGNMENT_MAX,
    EPOCH_MAX,
    Identity,
    Location,
    MoveTrigger,
    Transition,
    floating_epoch,
)
from netagent.policy.entries import CompiledPolicy
from netagent.reconcile.batch import Batch, NamedLocation, TransitionChange
from netagent.reconcile.delta import plan_delta
from netagent.reconcile.moving import Taking
from netagent.reconcile.view import View

DOCUMENT = Path(__file__).parents[3] / "docs" / "replica.md"
ATTACHED = AttachedMachine(WEB, "red/web", "na-web", b"\x02\x6e\0\0\0\1", Path("/run/netns/web"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "replica.db"


def written(path: Path, *batches: Batch) -> tuple[Replica, View]:
    replica, view = Replica(path), View()
    replica.write_own(OWN)
    for batch in batches:
        delta = plan_delta(view, batch)
        view.apply(delta)
        replica.write_delta(FLEET, delta)
    return replica, view


def select(path: Path, query: str) -> list[tuple]:
    database = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        return database.execute(query).fetchall()
    finally:
        database.close()


def test_an_empty_replica_holds_nothing(path: Path) -> None:
    held = Replica(path).read()

    assert (held.own, held.view.revision, held.attached) == (None, 0, {})


def test_what_was_written_is_read_again(path: Path) -> None:
    replica, view = written(
        path,
        snapshot({WEB: at(H1, 1), DB: at(H2, 1, "db")}),
        moving(WEB, H1, H2, 2, revision=2),
    )
    replica.write_attached(FLEET, ATTACHED)
    replica.close()

    held = Replica(path).read()

    assert held.own == OWN
    assert held.view.revision == 2
    assert held.view.hosts == view.hosts
    assert held.view.networks == view.networks
    assert held.attached == {WEB: ATTACHED}


def test_departure_and_settling_are_one_transaction(path: Path) -> None:
    replica, view = written(path, snapshot({WEB: at(H1, 1)}), moving(WEB, H1, H2, 2, revision=2))
    replica.write_attached(FLEET, ATTACHED)
    delta = plan_delta(view, settled(WEB, 2, revision=3))

    replica.write_delta(FLEET, delta, [WEB])

    rows = "SELECT address FROM transitions UNION ALL SELECT address FROM attachments"
    assert select(path, rows) == []
    assert select(path, "SELECT value FROM meta WHERE key = 'revision'") == [("3",)]


def test_what_a_move_waits_for_comes_back(path: Path) -> None:
    replica, view = written(path, snapshot({WEB: at(H1, 1)}))
    row = Transition(H1.locator, H2.locator, 2, MoveTrigger.LIFE)
    batch = Batch(2, transitions=(TransitionChange(1, False, {WEB: row}),))
    replica.write_delta(FLEET, plan_delta(view, batch))
    found = replica.read().view.transition(WEB)
    assert (found, found and found.trigger) == (row, MoveTrigger.LIFE)


def test_a_file_from_before_moves_waited_for_anything_is_taken_on(path: Path) -> None:
    replica, _ = written(path, snapshot({WEB: at(H1, 1)}), moving(WEB, H1, H2, 2, revision=2))
    replica.close()
    with sqlite3.connect(path) as database:
        database.execute("ALTER TABLE transitions DROP COLUMN waits_for")
        database.execute("DROP TABLE taken_machines")
    database.close()
    held = Replica(path).read()
    found = held.view.transition(WEB)
    assert found is not None
    assert found.trigger is MoveTrigger.AT_ONCE
    assert held.taken == {}


VIP = make_id(1, 1, 9)


def floating(holder: StableId, epoch: int) -> NamedLocation:
    return NamedLocation("vip", Location(H1.locator, Identity(2), epoch), holder)


def test_who_has_a_floating_address_comes_back_and_can_be_read(path: Path) -> None:
    epoch = floating_epoch(ASSIGNMENT_MAX, EPOCH_MAX)
    rows = {WEB: at(H1, 1), DB: at(H2, 1, "db"), VIP: floating(WEB, 1)}
    replica, _ = written(path, snapshot(rows), located({VIP: floating(DB, epoch)}, revision=2))
    replica.close()
    view = Replica(path).read().view
    assert (view.holder(VIP), view.location(VIP)) == (DB, floating(DB, epoch).location)
    assert view.find_machines("vip") == []
    machines = select(path, "SELECT machine FROM machines ORDER BY machine")
    assert machines == [("db",), ("web",)]
    found = select(path, "SELECT network, name, machine, host, is_here FROM floating_addresses")
    assert found == [("red", "vip", "db", "h1", 1)]


def test_a_file_from_before_addresses_could_float_is_taken_on_and_asked_for_anew(
    path: Path,
) -> None:
    """That release kept rows of floating addresses without their holders."""
    replica, _ = written(path, snapshot({WEB: at(H1, 1), VIP: floating(WEB, 1)}))
    replica.close()
    with sqlite3.connect(path) as database:
        database.execute("DROP VIEW floating_addresses")
        database.execute("DROP VIEW machines")
        database.execute("ALTER TABLE locations DROP COLUMN holder")
        database.execute("CREATE VIEW machines AS SELECT address FROM locations")
    database.close()
    replica = Replica(path)
    held = replica.read()
    assert held.view.revision == 0
    assert held.view.holder(VIP) is None
    delta = plan_delta(held.view, snapshot({WEB: at(H1, 1), VIP: floating(WEB, 1)}, revision=1))
    assert delta.locations == {VIP: floating(WEB, 1)}
    replica.write_delta(FLEET, delta)
    assert Replica(path).read().view.revision == 1
    assert select(path, "SELECT machine FROM floating_addresses") == [("web",)]


def test_takings_come_back_until_the_attachment_goes(path: Path) -> None:
    replica, _ = written(path, snapshot({WEB: at(H1, 1)}))
    replica.write_attached(FLEET, ATTACHED)
    replica.write_taken(FLEET, {WEB: Taking("h2", 7)})
    assert replica.read().taken == {WEB: Taking("h2", 7)}
    replica.delete_attached(FLEET, WEB)
    assert replica.read().taken == {}


def test_a_failed_write_leaves_the_revision_before(path: Path) -> None:
    replica, view = written(path, snapshot({WEB: at(H1, 1)}))
    delta = plan_delta(view, located({WEB: at(H2, 2)}, revision=2))
    blocker = sqlite3.connect(path, isolation_level=None)
    blocker.execute(
        "CREATE TRIGGER full BEFORE INSERT ON locations BEGIN SELECT RAISE(FAIL, 'full'); END"
    )

    with pytest.raises(sqlite3.Error, match="full"):
        replica.write_delta(FLEET, delta)
    blocker.close()

    assert select(path, "SELECT epoch FROM locations") == [(1,)]
    assert select(path, "SELECT value FROM meta WHERE key = 'revision'") == [("1",)]


def test_a_dropped_network_is_gone(path: Path) -> None:
    replica, view = written(path, snapshot({WEB: at(H1, 1)}))

    replica.write_delta(FLEET, plan_delta(view, Batch(2, dropped_networks=(1,))))

    assert select(path, "SELECT * FROM machines") == []
    assert select(path, "SELECT * FROM networks") == []


def test_view_names_host_and_place(path: Path) -> None:
    written(
        path, snapshot({WEB: at(H1, 1), DB: at(H2, 4, "db")}), moving(DB, H2, H1, 5, revision=2)
    )

    rows = select(
        path,
        "SELECT network, machine, host, epoch, is_here, is_moving FROM machines ORDER BY machine",
    )

    assert rows == [("red", "db", "h2", 4, 0, 1), ("red", "web", "h1", 1, 1, 0)]


def test_anybody_may_read_it_and_nobody_else_write(path: Path) -> None:
    before = os.umask(0o077)
    try:
        replica, _ = written(path, snapshot({WEB: at(H1, 1)}))
    finally:
        os.umask(before)

    for file in path.parent.iterdir():
        assert file.stat().st_mode & 0o777 == 0o644, file
    replica.close()
    assert [file.name for file in path.parent.iterdir()] == ["replica.db"]
    assert select(path, "SELECT machine FROM machines") == [("web",)]


def test_a_reader_at_work_holds_nothing_up(path: Path) -> None:
    replica, view = written(path, snapshot({WEB: at(H1, 1)}))
    reader = sqlite3.connect(f"file:{path}?mode=ro", uri=True, isolation_level=None)
    reader.execute("BEGIN")
    assert reader.execute("SELECT epoch FROM locations").fetchall() == [(1,)]

    replica.write_delta(FLEET, plan_delta(view, located({WEB: at(H2, 2)}, revision=2)))
    replica.close()

    assert reader.execute("SELECT epoch FROM locations").fetchall() == [(1,)]
    reader.close()
    assert select(path, "SELECT epoch FROM locations") == [(2,)]


def test_a_newer_schema_is_left_alone(path: Path) -> None:
    database = sqlite3.connect(path)
    database.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    database.close()

    with pytest.raises(ConfigError, match="of a newer release"):
        Replica(path)


def test_a_file_that_is_no_replica_is_named(path: Path) -> None:
    path.write_text("not a database, but long enough to look at: " * 10)

    with pytest.raises(ConfigError, match=r"replica\.db cannot be used"):
        Replica(path)


TAP = replace(
    ATTACHED, interface="tap0", netns=None, former=FormerLink(b"\x02\0\0\0\0\x05", is_up=False)
)


def test_what_an_interface_was_outlives_departure_and_return(path: Path) -> None:
    replica, view = written(path, snapshot({WEB: at(H1, 1)}), moving(WEB, H1, H2, 2, revision=2))
    replica.write_attached(FLEET, TAP)
    replica.write_delta(FLEET, plan_delta(view, settled(WEB, 2, revision=3)), [WEB])

    again = replica.write_attached(FLEET, replace(TAP, former=FormerLink(GATEWAY_MAC, is_up=True)))

    assert again == TAP
    assert replica.read().attached == {WEB: TAP}
    assert read_handed_of_stopped(path) == {"tap0": TAP.former}


def test_what_an_interface_was_is_forgotten_when_it_is_given_back(path: Path) -> None:
    replica, _ = written(path, snapshot({WEB: at(H1, 1)}))
    replica.write_attached(FLEET, TAP)

    replica.delete_attached(FLEET, WEB)

    assert replica.read_handed() == {}


def test_a_file_of_the_first_release_is_taken_over(path: Path) -> None:
    replica, _ = written(path, snapshot({WEB: at(H1, 1)}))
    replica.write_attached(FLEET, replace(TAP, former=None))
    replica.close()
    database = sqlite3.connect(path)
    for table in ("handed_interfaces", "policy", "policy_pair", "policy_rule"):
        database.execute(f"DROP TABLE {table}")
    database.close()
    assert read_handed_of_stopped(path) == {}

    held = Replica(path).read()

    assert held.attached == {WEB: replace(TAP, former=None)}
    assert held.view.policies == {}


def test_policies_are_read_again_as_they_were(path: Path) -> None:
    red, blue = allowing("tcp/5432", "udp/53"), compiled(network="blue", default="allow")
    replica, view = written(path, Batch(1, True, policies=(whole(red, b"r"), whole(blue, b"b"))))
    replica.close()

    assert Replica(path).read().view.policies == view.policies


@pytest.mark.parametrize(
    "after",
    [
        pytest.param(allowing("tcp/80", version=2), id="another class"),
        pytest.param(compiled(TO_MIRRORS, version=2), id="a pair less"),
        pytest.param(compiled(version=2), id="a prefix less"),
        pytest.param(allowing("tcp/5432", version=2), id="another version"),
        pytest.param(compiled(default="allow", version=2), id="another default"),
    ],
)
def test_policies_that_change_are_read_as_they_are(path: Path, after: CompiledPolicy) -> None:
    before, blue = allowing("tcp/5432"), compiled(network="blue", default="allow")
    replica, view = written(
        path,
        Batch(1, True, policies=(whole(before), whole(blue))),
        Batch(2, policies=(difference(before, after),)),
        Batch(3, policies=(difference(after, before, b"3"),)),
        Batch(4, policies=(whole(after, b"4"),)),
    )

    assert replica.read().view.policies == view.policies
    assert view.policies[1].compiled == after


def test_a_change_of_policy_writes_only_what_changes(path: Path) -> None:
    before, after = allowing("tcp/5432"), allowing("tcp/5432", "tcp/80", version=2)
    replica, view = written(path, Batch(1, True, policies=(whole(before),)))
    delta = plan_delta(view, Batch(2, policies=(difference(before, after),)))
    watcher = sqlite3.connect(path)
    watcher.execute("UPDATE policy_prefix SET identity = 7")
    watcher.commit()

    replica.write_delta(FLEET, delta)

    assert select(path, "SELECT DISTINCT identity FROM policy_prefix") == [(7,)]
    assert select(path, "SELECT version FROM policy") == [(2,)]
    watcher.close()


def test_a_change_of_policy_written_twice_is_as_one(path: Path) -> None:
    before, after = allowing("tcp/5432"), allowing("tcp/80", version=2)
    replica, view = written(path, Batch(1, True, policies=(whole(before),)))
    delta = plan_delta(view, Batch(2, policies=(difference(before, after),)))
    view.apply(delta)

    replica.write_delta(FLEET, delta)
    replica.write_delta(FLEET, delta)

    assert replica.read().view.policies == view.policies


def test_a_dropped_policy_leaves_nothing(path: Path) -> None:
    policies = (whole(allowing("tcp/80")), whole(compiled(network="blue")))
    written(path, Batch(1, True, policies=policies), Batch(2, dropped_policies=(1,)))

    for table in ("policy", "policy_pair", "policy_interval", "policy_prefix", "policy_rule"):
        assert select(path, f"SELECT * FROM {table} WHERE network = 1") == [], table
    assert select(path, "SELECT name FROM policy") == [("blue",)]


def documented_queries() -> list[str]:
    return re.findall(r"```sql\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)


@pytest.mark.parametrize("query", documented_queries())
def test_documented_queries_run(path: Path, query: str) -> None:
    database = NamedLocation("db", Location(H2.locator, DB_IDENTITY, 1))
    written(
        path,
        snapshot({WEB: at(H1, 1), DB: database}),
        Batch(2, policies=(whole(allowing("tcp/5432")),)),
        moving(WEB, H1, H2, 2, revision=3),
    )
    address = str(stable_address(FLEET, DB))

    rows = select(path, query.replace("fd00:1:2::1:10:2", address))

    assert rows


def test_every_column_is_documented(path: Path) -> None:
    written(path, snapshot({}))
    document = DOCUMENT.read_text()
    objects = select(path, "SELECT name FROM sqlite_master WHERE type IN ('table', 'view')")
    assert len(objects) == 15

    for (name,) in objects:
        assert f"### {name}" in document
        for _, column, *_ in select(path, f"PRAGMA table_info({name})"):
            assert f"`{column}`" in document or name == "meta", (name, column)
    for (key,) in select(path, "SELECT key FROM meta"):
        assert f"`{key}`" in document
