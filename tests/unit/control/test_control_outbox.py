"""What an agent is owed: bounded by keys, never forgotten."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest

from netagent.api.control.v1 import sync_service_pb2 as pb
from netagent.control import keys, sync_batches, tables
from netagent.control.outbox import Outbox
from netagent.control.policy_messages import PolicyMessages
from netagent.control.policy_tables import PolicyTables
from netagent.control.records import (
    MachineRecord,
    encode_host,
    encode_machine,
    encode_network,
    encode_number,
    make_host,
)
from netagent.control.sync_batches import Batches
from netagent.control.sync_hub import SyncHub
from netagent.control.view import View
from netagent.model.addresses import Fleet, make_id, random_prefix
from netagent.model.fleet import Endpoint, Identity, Machine, Network
from netagent.store.contract import Change, Changes, Item

FLEET = Fleet("f", random_prefix())


class World:
    """A view with hosts h1 and h2 and network n, which h1 needs, and h1's session."""

    def __init__(self) -> None:
        self.view = View(FLEET)
        self.view.loaded(1)
        self.hub = SyncHub(self.view, PolicyTables(self.view), 0.25)
        self.batches = Batches(self.view)
        for number in (1, 2):
            self.host(number)
        self.put(keys.network_key("n"), encode_network(Network("n", 1)))
        self.machine(1, "h1")

    def put(self, key: bytes, value: bytes | None) -> None:
        revision = self.view.revision + 1
        item = Item(key, value, revision, revision, 1) if value is not None else None
        self.view.apply(Changes(revision, (Change(key, item),)))

    def host(self, number: int, port: int = 1) -> None:
        endpoint = Endpoint(IPv4Address(f"192.0.2.{number}"), port)
        host = make_host(FLEET, f"h{number}", 1, number, bytes([number]) * 32, endpoint)
        self.put(keys.host_key(host.name), encode_host(host))

    def machine(self, number: int, host: str | None, identity: int = 2) -> None:
        """Put a machine, or (None) delete it."""
        path = f"n/m{number}"
        value = None
        if host is not None:
            stable_id = make_id(1, 1, number)
            machine = Machine("n", f"m{number}", stable_id, Identity(identity), {}, host, 1)
            value = encode_machine(MachineRecord(machine, None))
            self.put(keys.at_key(host, path), encode_number(1))
        self.put(keys.machine_key(path), value)

    def take(self, outbox: Outbox) -> list[pb.Update]:
        return list(self.batches.make(outbox.take(self.view)))

    async def in_step(self) -> Outbox:
        session, is_snapshot = self.hub.open("h1", 0, (), {})
        assert is_snapshot
        updates = self.take(session.outbox)
        assert session.outbox.confirm(updates[-1].revision)
        assert not session.outbox.is_due
        return session.outbox


def names(updates: list[pb.Update]) -> list[str]:
    return [name for update in updates for table in update.locations for name in table.names]


def hosts(updates: list[pb.Update]) -> list[str]:
    return [host.name for update in updates for host in update.hosts]


async def test_one_batch_is_out_at_a_time() -> None:
    world = World()
    outbox = await world.in_step()
    world.machine(2, "h2")
    first = world.take(outbox)

    world.machine(3, "h2")

    assert not outbox.is_due
    assert outbox.in_step_with(world.view) < first[-1].revision
    assert outbox.confirm(first[-1].revision)
    assert outbox.is_due
    assert names(world.take(outbox)) == ["m3"]


async def test_an_idle_agent_is_in_step_with_every_revision() -> None:
    world = World()
    outbox = await world.in_step()

    world.put(keys.network_key("other"), encode_network(Network("other", 2)))

    assert outbox.in_step_with(world.view) == world.view.revision


async def test_what_was_rejected_waits_for_a_change() -> None:
    world = World()
    outbox = await world.in_step()
    world.machine(2, "h2")
    world.host(2, port=7)
    rejected = world.take(outbox)

    assert outbox.reject(rejected[-1].revision)

    assert not outbox.is_due
    assert outbox.in_step_with(world.view) < rejected[-1].revision
    world.host(1, port=8)
    assert outbox.is_due
    again = world.take(outbox)
    assert (names(again), hosts(again)) == (["m2"], ["h1", "h2"])


async def test_what_changed_while_a_rejected_batch_was_out_goes_with_it_at_once() -> None:
    world = World()
    outbox = await world.in_step()
    world.machine(2, "h2")
    world.host(2, port=7)
    rejected = world.take(outbox)
    world.machine(3, "h2")
    world.host(1, port=8)

    assert outbox.reject(rejected[-1].revision)

    assert outbox.is_due
    again = world.take(outbox)
    assert (names(again), hosts(again)) == (["m2", "m3"], ["h1", "h2"])


async def test_only_the_batch_that_is_out_can_be_answered() -> None:
    world = World()
    outbox = await world.in_step()
    newest = world.view.revision

    assert not outbox.confirm(newest)
    assert not outbox.reject(newest)


async def test_an_agent_slower_than_the_memory_of_removals_gets_the_table_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tables, "REMOVED_MAX", 3)
    world = World()
    outbox = await world.in_step()
    for number in range(2, 8):
        world.machine(number, "h2")
    assert outbox.confirm(world.take(outbox)[-1].revision)

    for number in range(2, 7):
        world.machine(number, None)

    updates = world.take(outbox)
    assert [table.whole for update in updates for table in update.locations] == [True, False]
    assert names(updates) == ["m1", "m7"]


async def test_what_is_owed_stays_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("netagent.control.outbox.ROWS_OWED_MAX", 3)
    world = World()
    outbox = await world.in_step()

    for number in range(2, 8):
        world.machine(number, "h2")
        world.machine(number, None)

    updates = world.take(outbox)
    assert next(table.whole for update in updates for table in update.locations)
    assert names(updates) == ["m1"]


async def test_an_agent_away_for_longer_than_the_memory_of_removals_gets_the_table_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tables, "REMOVED_MAX", 3)
    world = World()
    for number in range(2, 8):
        world.machine(number, "h2")
    left_at = world.view.revision
    for number in range(2, 7):
        world.machine(number, None)

    session, is_snapshot = world.hub.open("h1", left_at, [1], {})

    assert not is_snapshot
    assert names(world.take(session.outbox)) == ["m1", "m7"]


async def test_large_tables_come_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sync_batches, "ROWS_MAX", 2)
    world = World()
    for number in range(2, 8):
        world.machine(number, "h2")

    session, _ = world.hub.open("h1", 0, (), {})

    updates = world.take(session.outbox)
    parts = [table for update in updates for table in update.locations]
    assert [table.whole for table in parts] == [True, False, False, False, False]
    assert max(len(table.ids) for table in parts) == 2
    assert names(updates) == [f"m{number}" for number in range(1, 8)]
    assert [update.revision for update in updates[:-1]] == [0] * (len(updates) - 1)
    assert updates[-1].revision == world.view.revision


def policies(updates: list[pb.Update]) -> list[tuple[int, bool]]:
    return [(table.network, table.whole) for update in updates for table in update.policies]


def identities(updates: list[pb.Update]) -> list[int]:
    return [one for update in updates for table in update.locations for one in table.identities]


async def test_a_rejected_policy_is_made_again_from_what_is_held() -> None:
    world = World()
    outbox = await world.in_step()
    world.machine(2, "h2", identity=3)
    rejected = outbox.take(world.view)
    assert outbox.reject(rejected.revision)

    world.machine(3, "h2", identity=4)

    again = outbox.take(world.view)
    held, newest = again.policies[1]
    assert held is rejected.policies[1][0]
    assert newest.compiled != rejected.policies[1][1].compiled


async def test_a_policy_waits_for_a_batch_that_is_out_and_follows_from_it() -> None:
    world = World()
    outbox = await world.in_step()
    world.machine(2, "h2", identity=3)
    first = outbox.take(world.view)
    world.machine(3, "h2", identity=4)

    assert outbox.confirm(first.revision)

    second = outbox.take(world.view)
    assert second.policies[1][0] is first.policies[1][1]
    assert policies(list(world.batches.make(second))) == [(1, False)]


async def test_a_row_with_an_identity_newer_than_the_batch_waits_for_the_next() -> None:
    world = World()
    outbox = await world.in_step()
    world.machine(2, "h2", identity=3)
    bundle = outbox.take(world.view)
    world.machine(2, "h2", identity=4)

    updates = list(world.batches.make(bundle))

    assert identities(updates) == []
    assert outbox.confirm(bundle.revision)
    following = world.take(outbox)
    assert identities(following) == [4]
    assert policies(following) == [(1, False)]


async def test_hosts_that_are_told_the_same_share_the_messages() -> None:
    world = World()
    for number, host in ((2, "h2"), (3, "h1")):
        world.machine(number, host, identity=3)
    first, _ = world.hub.open("h1", 0, (), {})
    second, _ = world.hub.open("h2", 0, (), {})
    bundles = [session.outbox.take(world.view) for session in (first, second)]
    steps = [bundle.policies[1] for bundle in bundles]
    messages = PolicyMessages()

    halfway = messages.step(*steps[0])
    parts = [next(halfway)]
    others = list(messages.step(*steps[1]))
    parts += halfway

    assert len(parts) == len(others)
    assert all(one is other for one, other in zip(parts, others, strict=True))
