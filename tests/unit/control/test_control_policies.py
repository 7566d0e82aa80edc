"""PolicyService, and what agents get of it: a real control, agents that speak Sync."""

from __future__ import annotations

import grpc
import pytest
from control_fleet import Agent, Fleet, refused, until
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
    rollback,
    verdict,
    versions,
)

from netagent.api.control.v1 import machine_service_pb2 as machines_pb
from netagent.api.control.v1 import network_service_pb2 as networks_pb
from netagent.api.control.v1 import policy_service_pb2 as pb
from netagent.control import policy_apply, policy_service, policy_tables
from netagent.control.named_identities import NamedIdentities
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


async def test_locations_go_where_both_policies_let_machines_talk(fleet: Fleet) -> None:
    await populate(fleet.stubs)
    agent = await fleet.agent("h1")

    await apply(fleet.stubs, BLUE_OPENS)
    await apply(fleet.stubs, RED_OPENS)

    await until(lambda: agent.names(2) == ["one"])
    assert 2 not in agent.policies
    await rollback(fleet.stubs, "red", 0)
    await until(lambda: 2 not in agent.tables)


async def test_all_that_is_wrong_is_said_at_once_and_nothing_applied(fleet: Fleet) -> None:
    await populate(fleet.stubs)
    bad = (
        WEB_TO_DB.replace("5432", "70000")
        + "  - {name: x, from: any, to: {machine: nobody}, alow: [tcp]}\n"
    )

    async with refused(grpc.StatusCode.INVALID_ARGUMENT, "blue.yaml:6:"):
        await apply(fleet.stubs, bad)

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await apply(fleet.stubs, bad)
    details = (caught.value.details() or "").splitlines()
    assert len(details) >= 2
    assert all(line.startswith("blue.yaml:") for line in details)
    assert await versions(fleet.stubs, "blue") == []


async def test_a_test_that_fails_refuses_the_policy(fleet: Fleet) -> None:
    await populate(fleet.stubs)
    text = WEB_TO_DB + "tests:\n  - {from: web-1, to: db-1, allow: [tcp/22]}\n"

    async with refused(grpc.StatusCode.INVALID_ARGUMENT, "blue.yaml:8:"):
        await apply(fleet.stubs, text)


async def test_a_dry_run_says_what_would_change_and_changes_nothing(fleet: Fleet) -> None:
    await populate(fleet.stubs)

    response = await apply(fleet.stubs, WEB_TO_DB, dry_run=True)

    assert (response.applied, response.policy.version) == (False, 1)
    effects = {change.effect for change in response.changes}
    assert effects == {pb.AccessChange.EFFECT_CLOSES}
    async with refused(grpc.StatusCode.NOT_FOUND, "network: blue has the built-in policy"):
        await fleet.stubs.policies.GetPolicy(pb.GetPolicyRequest(network="blue"))


async def test_a_policy_comes_into_force_only_over_the_version_that_was_expected(
    fleet: Fleet,
) -> None:
    await populate(fleet.stubs)
    await apply(fleet.stubs, WEB_TO_DB, expected_version=0)

    async with refused(grpc.StatusCode.ABORTED, "expected_version: version 1"):
        await apply(fleet.stubs, NAMES_ONE, expected_version=0)

    assert (await apply(fleet.stubs, NAMES_ONE, expected_version=1)).policy.version == 2


async def test_the_same_text_again_makes_no_version(fleet: Fleet) -> None:
    await populate(fleet.stubs)
    await apply(fleet.stubs, WEB_TO_DB)

    again = await apply(fleet.stubs, WEB_TO_DB)

    assert (again.applied, again.policy.version) == (False, 1)


async def test_history_and_rollback(fleet: Fleet) -> None:
    await populate(fleet.stubs)
    await apply(fleet.stubs, WEB_TO_DB)
    await apply(fleet.stubs, NAMES_ONE)

    back = await rollback(fleet.stubs, "blue", 1)

    assert (back.policy.version, back.policy.rolled_back_to) == (3, 1)
    assert back.policy.text == WEB_TO_DB
    assert await versions(fleet.stubs, "blue") == [3, 2, 1]
    found = await fleet.stubs.policies.GetPolicy(pb.GetPolicyRequest(network="blue", version=2))
    assert found.policy.text == NAMES_ONE
    async with refused(
        grpc.StatusCode.NOT_FOUND, "version: network blue has no policy of version 9"
    ):
        await rollback(fleet.stubs, "blue", 9)


async def test_a_network_takes_its_policy_along(fleet: Fleet) -> None:
    await fleet.stubs.network("blue")
    await apply(fleet.stubs, "network: blue\ndefault: deny\n")
    await fleet.stubs.networks.DeleteNetwork(networks_pb.DeleteNetworkRequest(name="blue"))

    await fleet.stubs.network("blue")

    assert await versions(fleet.stubs, "blue") == []
    assert (await apply(fleet.stubs, "network: blue\ndefault: deny\n")).policy.version == 1


async def test_a_policy_that_does_not_fit_leaves_no_trace(
    fleet: Fleet,
) -> None:
    await populate(fleet.stubs)
    # Each machine of 600 has labels of its own, so that every pair needs an entry: 360,000.
    for number in range(600):
        await fleet.stubs.machine(f"red/m{number}", n=str(number))
    await fleet.stubs.machine("red/like-one", "h1")
    rules = "".join(
        f"  - {{name: r{number}, from: {{labels: {{n: '{number}'}}}},"
        f" to: any, allow: [tcp/{number}]}}\n"
        for number in range(600)
    )
    rules += "  - {name: last, from: {machine: one}, to: any, allow: [udp]}\n"
    before = await identity(fleet.stubs, "red/one")

    async with refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "the policies do not fit: pairs: "):
        await apply(fleet.stubs, "network: red\nrules:\n" + rules)

    assert await versions(fleet.stubs, "red") == []
    assert await identity(fleet.stubs, "red/one") == before


async def test_what_a_crash_left_half_way_is_settled_at_the_next_start(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    await populate(fleet.stubs)
    await apply(fleet.stubs, NAMES_ONE)

    async def crash(*_: object) -> None:
        """Do nothing, as control does once it is dead."""

    with monkeypatch.context() as dead:
        dead.setattr(NamedIdentities, "settle", crash)
        await apply(fleet.stubs, NAMES_ONE.replace("web-1", "db-1"))
    await fleet.stop()
    await fleet.start()

    web = await identity(fleet.stubs, "blue/web-1")
    assert web == await identity(fleet.stubs, "blue/web-2")
    agent = await fleet.agent("h1")
    assert await verdict(agent, fleet.stubs, "blue/db-1", "blue/web-1", 80) is Verdict.DENY


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


async def test_a_network_that_is_not_there_is_not_found(fleet: Fleet) -> None:
    async with refused(grpc.StatusCode.NOT_FOUND, "network: there is no network blue"):
        await apply(fleet.stubs, WEB_TO_DB)


async def test_an_empty_text_is_refused(fleet: Fleet) -> None:
    async with refused(grpc.StatusCode.INVALID_ARGUMENT, "text: is empty"):
        await apply(fleet.stubs, "\n")


async def test_a_text_that_is_too_large_is_refused(fleet: Fleet) -> None:
    await populate(fleet.stubs)

    async with refused(grpc.StatusCode.INVALID_ARGUMENT, "text: 1,048,577 bytes"):
        await apply(fleet.stubs, WEB_TO_DB.ljust((1 << 20) + 1, "\n"))

    assert (await apply(fleet.stubs, WEB_TO_DB.ljust(1 << 20, "\n"))).applied


async def test_more_changes_than_an_answer_can_hold_are_counted(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policy_service, "LINES_MAX", 1)
    await populate(fleet.stubs)

    answer = await apply(fleet.stubs, WEB_TO_DB, dry_run=True)

    assert len(answer.changes) == 1
    assert answer.warnings[-1].startswith("only the first 1 of ")


async def test_warnings_come_back_and_stop_nothing(fleet: Fleet) -> None:
    await populate(fleet.stubs)

    applied = await apply(fleet.stubs, WEB_TO_DB.replace("app: db", "app: nobody"))

    assert applied.applied
    (warning,) = applied.warnings
    assert warning.startswith("blue.yaml:5:")
    assert "matches nobody today" in warning


async def test_policies_in_force_are_listed_without_built_in_ones(fleet: Fleet) -> None:
    await populate(fleet.stubs)
    for text in (WEB_TO_DB, RED_OPENS):
        await apply(fleet.stubs, text)

    pages = []
    token = ""
    while not pages or token:
        request = pb.ListPoliciesRequest(page_size=1, page_token=token)
        response = await fleet.stubs.policies.ListPolicies(request)
        pages.append([(one.network, one.version, one.text) for one in response.policies])
        token = response.next_page_token
    await rollback(fleet.stubs, "blue", 0)

    assert pages == [[("blue", 1, "")], [("red", 1, "")]]
    listed = await fleet.stubs.policies.ListPolicies(pb.ListPoliciesRequest())
    assert [one.network for one in listed.policies] == ["red"]
    current = await fleet.stubs.policies.GetPolicy(pb.GetPolicyRequest(network="blue"))
    assert (current.policy.version, current.policy.text) == (2, "")
    assert current.policy.rolled_back_to == 0


async def test_the_oldest_versions_are_forgotten(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policy_apply, "VERSIONS_MAX", 3)
    await populate(fleet.stubs)

    for port in range(1, 6):
        await apply(fleet.stubs, WEB_TO_DB.replace("5432", str(port)))

    assert await versions(fleet.stubs, "blue") == [5, 4, 3]
    async with refused(grpc.StatusCode.NOT_FOUND, "version: network blue has no policy of"):
        await rollback(fleet.stubs, "blue", 2)


async def test_a_rollback_is_checked_like_any_policy(fleet: Fleet) -> None:
    await populate(fleet.stubs)
    await apply(fleet.stubs, NAMES_ONE)
    await apply(fleet.stubs, WEB_TO_DB)
    await fleet.stubs.delete("blue/web-1")

    async with refused(grpc.StatusCode.INVALID_ARGUMENT, "blue version 1:"):
        await rollback(fleet.stubs, "blue", 1)
    async with refused(grpc.StatusCode.ABORTED, "expected_version: version 2"):
        await rollback(fleet.stubs, "blue", 0, expected_version=1)
    tried = await rollback(fleet.stubs, "blue", 0, dry_run=True)

    assert (tried.applied, tried.policy.version) == (False, 3)
    assert await versions(fleet.stubs, "blue") == [2, 1]


async def test_tests_are_run_with_the_policies_of_other_networks_in_force(fleet: Fleet) -> None:
    await populate(fleet.stubs)
    tested = BLUE_OPENS + "tests:\n  - {from: web-1, to: red/one, allow: [tcp/80]}\n"

    async with refused(grpc.StatusCode.INVALID_ARGUMENT, "blue.yaml:5:"):
        await apply(fleet.stubs, tested)
    await apply(fleet.stubs, RED_OPENS)

    assert (await apply(fleet.stubs, tested)).applied


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


async def test_a_long_list_of_problems_ends_in_how_many_more_there_are(fleet: Fleet) -> None:
    await populate(fleet.stubs)
    rules = "".join(
        f"  - {{name: r{number}, from: {{machine: nobody-{number}}}, to: any, allow: [any]}}\n"
        for number in range(300)
    )

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await apply(fleet.stubs, "network: blue\nrules:\n" + rules)

    lines = (caught.value.details() or "").splitlines()
    assert all(line.startswith("blue.yaml:") for line in lines[:-1])
    assert lines[-1].startswith(f"and {300 - len(lines) + 1} more")


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
