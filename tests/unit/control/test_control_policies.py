"""What agents get of policies: a real control, agents that speak Sync."""

from __future__ import annotations

from control_fleet import Agent, Fleet, until
from control_policies import (
    BLUE_OPENS,
    RED_OPENS,
    TCP,
    WEB_TO_DB,
    apply,
    identity,
    policy_parts,
    populate,
    rollback,
    verdict,
    versions,
)

from netagent.api.control.v1 import network_service_pb2 as networks_pb
from netagent.policy.entries import HOST, STRANGER, Direction
from netagent.policy.language import Verdict
from netagent.policy.lookup import Key, evaluate_compiled


async def test_a_network_begins_with_the_built_in_policy(fleet: Fleet) -> None:
    await populate(fleet.stubs)
    agent = await fleet.agent("h1")

    (compiled,) = agent.policies.values()

    assert compiled.version == 0
    assert await verdict(agent, fleet.stubs, "blue/web-1", "blue/db-1", 22) is Verdict.ALLOW
    web = await identity(fleet.stubs, "blue/web-1")
    for peer, expected in ((HOST, Verdict.ALLOW), (STRANGER, Verdict.DENY)):
        key = Key(Direction.INGRESS, peer, web)
        assert evaluate_compiled(compiled, key, TCP, 22).verdict is expected


async def test_a_policy_reaches_the_hosts_of_its_network_and_no_others(fleet: Fleet) -> None:
    await populate(fleet.stubs)
    await fleet.stubs.host(3)
    await fleet.stubs.machine("red/two", "h3")
    agents = [await fleet.agent(name) for name in ("h1", "h2", "h3")]

    applied = await apply(fleet.stubs, WEB_TO_DB)

    assert (applied.applied, applied.policy.version) == (True, 1)
    await until(lambda: all(agent.policies[1].version == 1 for agent in agents[:2]))
    assert 1 not in agents[2].policies
    assert await verdict(agents[0], fleet.stubs, "blue/web-1", "blue/db-1", 5432) is Verdict.ALLOW
    assert await verdict(agents[0], fleet.stubs, "blue/web-1", "blue/db-1", 22) is Verdict.DENY
    assert await verdict(agents[1], fleet.stubs, "blue/db-1", "blue/web-1", 5432) is Verdict.DENY


async def test_a_changed_rule_is_sent_as_a_difference(fleet: Fleet) -> None:
    await populate(fleet.stubs)
    agent = await fleet.agent("h1")
    await apply(fleet.stubs, WEB_TO_DB)
    await until(lambda: agent.policies[1].version == 1)

    await apply(fleet.stubs, WEB_TO_DB.replace("5432", "5433"))

    await until(lambda: agent.policies[1].version == 2)
    (table,) = [table for part in agent.batches[-1] for table in part.policies]
    assert not table.whole
    assert len(table.pair_classes) == 1
    assert await verdict(agent, fleet.stubs, "blue/web-1", "blue/db-1", 5433) is Verdict.ALLOW


async def test_a_rejected_difference_is_made_again_from_what_the_agent_holds(fleet: Fleet) -> None:
    await populate(fleet.stubs)
    agent = await fleet.agent("h1")
    await apply(fleet.stubs, WEB_TO_DB)
    await until(lambda: agent.policies[1].version == 1)
    agent.reject = "no room"

    await apply(fleet.stubs, WEB_TO_DB.replace("5432", "5433"))
    await apply(fleet.stubs, WEB_TO_DB.replace("5432", "5434"))

    await until(lambda: agent.policies[1].version == 3)
    assert await verdict(agent, fleet.stubs, "blue/web-1", "blue/db-1", 5434) is Verdict.ALLOW
    assert await verdict(agent, fleet.stubs, "blue/web-1", "blue/db-1", 5432) is Verdict.DENY


async def test_an_agent_that_comes_back_is_sent_no_policy_that_it_holds(fleet: Fleet) -> None:
    await populate(fleet.stubs)
    agent = await fleet.agent("h1")
    await apply(fleet.stubs, WEB_TO_DB)
    await until(lambda: agent.policies[1].version == 1)
    await fleet.stop()

    await fleet.start()
    back = Agent(
        fleet.stubs,
        "h1",
        revision=agent.revision,
        tables=agent.tables,
        transitions=agent.transitions,
        policies=agent.policies,
        contents=agent.contents,
        fleet_id=agent.fleet_id,
    )
    await fleet.agent(back)

    assert [table for batch in back.batches for part in batch for table in part.policies] == []


async def test_rules_keep_their_numbers_over_versions_and_restarts(fleet: Fleet) -> None:
    await populate(fleet.stubs)
    agent = await fleet.agent("h1")
    await apply(fleet.stubs, WEB_TO_DB)
    await until(lambda: agent.policies[1].version == 1)
    before = {name: number for number, name in agent.policies[1].rules.items()}
    await fleet.stop()
    await fleet.start()
    more = WEB_TO_DB.replace(
        "rules:\n", "rules:\n  - {name: ssh, from: any, to: any, deny: [tcp/22]}\n"
    )

    await apply(fleet.stubs, more)
    again = await fleet.agent(Agent(fleet.stubs, "h1"))

    after = {name: number for number, name in again.policies[1].rules.items()}
    assert after["web-to-db"] == before["web-to-db"]
    assert after["ssh"] not in before.values()


async def test_locations_go_where_both_policies_let_machines_talk(fleet: Fleet) -> None:
    await populate(fleet.stubs)
    agent = await fleet.agent("h1")

    await apply(fleet.stubs, BLUE_OPENS)
    await apply(fleet.stubs, RED_OPENS)

    await until(lambda: agent.names(2) == ["one"])
    assert 2 not in agent.policies
    await rollback(fleet.stubs, "red", 0)
    await until(lambda: 2 not in agent.tables)


async def test_a_network_takes_its_policy_along(fleet: Fleet) -> None:
    await fleet.stubs.network("blue")
    await apply(fleet.stubs, "network: blue\ndefault: deny\n")
    await fleet.stubs.networks.DeleteNetwork(networks_pb.DeleteNetworkRequest(name="blue"))

    await fleet.stubs.network("blue")

    assert await versions(fleet.stubs, "blue") == []
    assert (await apply(fleet.stubs, "network: blue\ndefault: deny\n")).policy.version == 1


async def test_a_snapshot_keeps_the_policies_that_the_agent_holds(fleet: Fleet) -> None:
    await populate(fleet.stubs)
    await apply(fleet.stubs, WEB_TO_DB)
    agent = await fleet.agent("h1")
    await fleet.leave(agent)
    agent.revision = 0

    await fleet.agent(agent)

    assert agent.is_snapshot
    (part,) = policy_parts(agent, after=1)
    assert (part.whole, list(part.pair_classes), part.content) == (False, [], agent.contents[1])


async def test_an_agent_with_entries_that_are_not_remembered_gets_them_whole(fleet: Fleet) -> None:
    await populate(fleet.stubs)
    agent = await fleet.agent("h1")
    await fleet.leave(agent)
    agent.contents[1] = b"something else"

    await fleet.agent(agent)

    assert not agent.is_snapshot
    assert [part.whole for part in policy_parts(agent, after=1)] == [True]


async def test_a_policy_goes_with_the_last_machine(fleet: Fleet) -> None:
    await populate(fleet.stubs)
    agent = await fleet.agent("h2")
    assert sorted(agent.policies) == [1, 2]

    await fleet.stubs.delete("red/one")

    await until(lambda: sorted(agent.policies) == [1])
    assert sorted(agent.tables) == [1]


async def test_a_destination_has_the_policy_before_the_machine(fleet: Fleet) -> None:
    await populate(fleet.stubs)
    await apply(fleet.stubs, WEB_TO_DB)
    await fleet.stubs.host(3)
    agents = [await fleet.agent(name) for name in ("h1", "h2", "h3")]

    call = fleet.stubs.move("blue/web-1", "h3")
    await call.read()

    await until(lambda: 1 in agents[2].tables)
    first = next(batch for batch in agents[2].batches if any(part.policies for part in batch))
    assert not any(part.locations for part in first[:1])
    assert agents[2].policies[1].version == 1


async def test_networks_that_do_not_agree_on_a_direction_do_not_meet(fleet: Fleet) -> None:
    await populate(fleet.stubs)
    agent = await fleet.agent("h1")

    await apply(fleet.stubs, BLUE_OPENS)
    both_send = (
        "network: red\nrules:\n  - {name: out, from: any, to: {network: blue}, allow: [any]}\n"
    )
    await apply(fleet.stubs, both_send)
    done = await apply(fleet.stubs, WEB_TO_DB)

    async def has_applied() -> bool:
        return (await fleet.stubs.connected("h1")).applied_revision >= done.revision

    await until(has_applied)
    assert sorted(agent.tables) == [1]


async def test_a_network_that_is_only_reached_keeps_its_rows_and_loses_its_policy(
    fleet: Fleet,
) -> None:
    await populate(fleet.stubs)
    await fleet.stubs.machine("red/two", "h1")
    agent = await fleet.agent("h1")
    await apply(fleet.stubs, BLUE_OPENS)
    await apply(fleet.stubs, RED_OPENS)
    await until(lambda: agent.policies[2].version == 1)

    await fleet.stubs.delete("red/two")

    await until(lambda: 2 not in agent.policies)
    assert agent.names(2) == ["one"]
