"""The replica holds what was written, is readable by anybody, and its documented queries run."""

import os
import re
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
from agent_rig import DB, FLEET, H1, H2, OWN, WEB, at, located, moving, settled, snapshot

from netagent.agent.attached import AttachedMachine, FormerLink
from netagent.agent.replica import Replica, read_handed_of_stopped
from netagent.agent.replica_schema import SCHEMA_VERSION
from netagent.model.addresses import GATEWAY_MAC, stable_address
from netagent.model.errors import ConfigError
from netagent.reconcile.batch import Batch
from netagent.reconcile.delta import plan_delta
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

    assert select(path, "SELECT * FROM transitions UNION ALL SELECT * FROM attachments") == []
    assert select(path, "SELECT value FROM meta WHERE key = 'revision'") == [("3",)]


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
    database.execute("DROP TABLE handed_interfaces")
    database.close()
    assert read_handed_of_stopped(path) == {}

    held = Replica(path).read()

    assert held.attached == {WEB: replace(TAP, former=None)}


def documented_queries() -> list[str]:
    return re.findall(r"```sql\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)


@pytest.mark.parametrize("query", documented_queries())
def test_documented_queries_run(path: Path, query: str) -> None:
    written(
        path, snapshot({WEB: at(H1, 1), DB: at(H2, 1, "db")}), moving(WEB, H1, H2, 2, revision=2)
    )
    address = str(stable_address(FLEET, DB))

    rows = select(path, query.replace("fd00:1:2::1:10:2", address))

    assert rows


def test_every_column_is_documented(path: Path) -> None:
    written(path, snapshot({}))
    document = DOCUMENT.read_text()
    objects = select(path, "SELECT name FROM sqlite_master WHERE type IN ('table', 'view')")
    assert len(objects) == 8

    for (name,) in objects:
        assert f"### {name}" in document
        for _, column, *_ in select(path, f"PRAGMA table_info({name})"):
            assert f"`{column}`" in document or name == "meta", (name, column)
    for (key,) in select(path, "SELECT key FROM meta"):
        assert f"`{key}`" in document
