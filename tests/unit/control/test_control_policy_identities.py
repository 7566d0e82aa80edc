"""Labels, names and networks that policies speak of, and the identities that come of them."""

from __future__ import annotations

import pytest
from control_fleet import Fleet, until
from control_policies import (
    BLUE_OPENS,
    NAMES_ONE,
    RED_OPENS,
    TCP,
    WEB_TO_DB,
    apply,
    identity,
    policy_parts,
    populate,
    verdict,
)

from netagent.api.control.v1 import machine_service_pb2 as machines_pb
from netagent.api.control.v1 import network_service_pb2 as networks_pb
from netagent.control import policy_tables
from netagent.policy.entries import Direction
from netagent.policy.language import Verdict
from netagent.policy.lookup import Key, evaluate_compiled


async def test_a_label_comes_with_the_entries_that_know_it(fleet: Fleet) -> None:
    await populate(fleet.stubs)
    await apply(fleet.stubs, WEB_TO_DB)
    agent = await fleet.agent("h1")
    batches = len(agent.batches)

    await fleet.stubs.machines.UpdateMachineLabels(
        machines_pb.UpdateMachineLabelsRequest(machine="blue/db-1", labels={"app": "web", "x": "y"})
    )

    new = await identity(fleet.stubs, "blue/db-1")
    await until(lambda: len(agent.batches) > batches)
    batch = agent.batches[batches]
    assert any(new in table.identities for part in batch for table in part.locations)
    kinds = ["policies" if part.policies else "locations" for part in batch[:-1]]
    assert kinds == ["policies", "locations"]


async def test_a_named_machine_gets_an_identity_of_its_own_and_loses_it_again(fleet: Fleet) -> None:
    await populate(fleet.stubs)
    shared = await identity(fleet.stubs, "blue/web-1")

    await apply(fleet.stubs, NAMES_ONE)
    own = await identity(fleet.stubs, "blue/web-1")
    await apply(fleet.stubs, WEB_TO_DB)

    assert own != shared
    assert await identity(fleet.stubs, "blue/web-2") == shared
    assert await identity(fleet.stubs, "blue/web-1") == shared


async def test_a_machine_that_comes_under_a_name_in_force_has_its_own_identity(
    fleet: Fleet,
) -> None:
    await populate(fleet.stubs)
    agent = await fleet.agent("h1")
    await apply(fleet.stubs, NAMES_ONE)
    await fleet.stubs.delete("blue/web-1")

    await fleet.stubs.machine("blue/web-1", "h1", app="web")

    assert await identity(fleet.stubs, "blue/web-1") != await identity(fleet.stubs, "blue/web-2")
    await until(lambda: "web-1" in agent.names(1))
    assert await verdict(agent, fleet.stubs, "blue/web-1", "blue/db-1", 80) is Verdict.DENY
    assert await verdict(agent, fleet.stubs, "blue/web-2", "blue/db-1", 80) is Verdict.ALLOW


async def test_many_machines_are_separated_in_few_transactions(fleet: Fleet) -> None:
    await fleet.stubs.network("blue")
    for number in range(70):
        await fleet.stubs.machine(f"blue/m{number}")
    names = ", ".join(f"m{number}" for number in range(70))
    text = (
        "network: blue\nrules:\n"
        f"  - {{name: some, from: {{machine: [{names}]}}, to: any, allow: [any]}}\n"
    )
    before = (await apply(fleet.stubs, text, dry_run=True)).revision

    applied = await apply(fleet.stubs, text)

    identities = {await identity(fleet.stubs, f"blue/m{number}") for number in range(70)}
    assert len(identities) == 70
    assert applied.revision == before + 3


async def test_a_second_machine_with_the_labels_of_another_changes_no_policy(fleet: Fleet) -> None:
    await populate(fleet.stubs)
    agent = await fleet.agent("h1")

    await fleet.stubs.machine("blue/db-2", "h2", app="db")
    await until(lambda: "db-2" in agent.names(1))

    assert policy_parts(agent, after=1) == []


async def test_what_an_identity_was_judged_by_outlives_it_for_a_while(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policy_tables, "LINGER_S", 0.2)
    await populate(fleet.stubs)
    await apply(fleet.stubs, WEB_TO_DB)
    agent = await fleet.agent("h1")
    old = await identity(fleet.stubs, "blue/db-1")
    key = Key(Direction.INSIDE, await identity(fleet.stubs, "blue/web-1"), old)
    request = machines_pb.UpdateMachineLabelsRequest(machine="blue/db-1", labels={"app": "x"})

    await fleet.stubs.machines.UpdateMachineLabels(request)
    await until(lambda: old not in {row[1] for row in agent.tables[1].values()})

    assert evaluate_compiled(agent.policies[1], key, TCP, 5432).verdict is Verdict.ALLOW
    await until(lambda: evaluate_compiled(agent.policies[1], key, TCP, 5432).rule is None)


async def test_a_named_machine_that_goes_and_comes_is_matched_again(fleet: Fleet) -> None:
    await populate(fleet.stubs)
    agent = await fleet.agent("h2")
    await apply(fleet.stubs, NAMES_ONE)
    await fleet.stubs.delete("blue/web-1")
    assert (await apply(fleet.stubs, WEB_TO_DB)).applied

    await fleet.stubs.machine("blue/web-1", "h1", app="web")

    assert await identity(fleet.stubs, "blue/web-1") == await identity(fleet.stubs, "blue/web-2")
    await until(lambda: "web-1" in agent.names(1))


async def test_labels_of_a_named_machine_change_with_its_own_identity(fleet: Fleet) -> None:
    await populate(fleet.stubs)
    agent = await fleet.agent("h1")
    await apply(fleet.stubs, NAMES_ONE)
    request = machines_pb.UpdateMachineLabelsRequest(machine="blue/web-1", labels={"app": "db"})

    await fleet.stubs.machines.UpdateMachineLabels(request)

    own = await identity(fleet.stubs, "blue/web-1")
    assert own != await identity(fleet.stubs, "blue/db-1")
    await until(lambda: own in {row[1] for row in agent.tables[1].values()})
    assert await verdict(agent, fleet.stubs, "blue/web-1", "blue/db-1", 80) is Verdict.DENY
    assert await verdict(agent, fleet.stubs, "blue/db-1", "blue/web-1", 80) is Verdict.ALLOW


async def test_a_network_that_comes_again_is_meant_by_the_policies_that_name_it(
    fleet: Fleet,
) -> None:
    await populate(fleet.stubs)
    agent = await fleet.agent("h1")
    await apply(fleet.stubs, BLUE_OPENS)
    await apply(fleet.stubs, RED_OPENS)
    await until(lambda: 2 in agent.tables)
    await fleet.stubs.delete("red/one")
    await fleet.stubs.networks.DeleteNetwork(networks_pb.DeleteNetworkRequest(name="red"))
    await until(lambda: 2 not in agent.tables)

    again = (await fleet.stubs.network("red")).number
    await fleet.stubs.machine("red/two", "h2")
    await apply(fleet.stubs, RED_OPENS)

    await until(lambda: agent.names(again) == ["two"])
    key = Key(
        Direction.EGRESS,
        await identity(fleet.stubs, "blue/web-1"),
        await identity(fleet.stubs, "red/two"),
    )
    assert evaluate_compiled(agent.policies[1], key, TCP, 80).verdict is Verdict.ALLOW
