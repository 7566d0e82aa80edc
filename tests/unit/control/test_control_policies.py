"""PolicyService, and what agents get of it: a real control, agents that speak Sync."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from control_fleet import Agent, Fleet, Stubs, refused, until

from netagent.api.control.v1 import machine_service_pb2 as machines_pb
from netagent.api.control.v1 import network_service_pb2 as networks_pb
from netagent.api.control.v1 import policy_service_pb2 as pb
from netagent.api.types.v1 import types_pb2
from netagent.model.fleet import Identity
from netagent.policy.entries import HOST, STRANGER, Direction
from netagent.policy.language import Verdict
from netagent.policy.lookup import Key, evaluate_compiled

TCP = 6
WEB_TO_DB = """\
network: blue
rules:
  - name: web-to-db
    from: {labels: {app: web}}
    to: {labels: {app: db}}
    allow: [tcp/5432]
"""
NAMES_ONE = """\
network: blue
default: allow
rules:
  - {name: no-web-1, from: {machine: web-1}, to: any, deny: [any]}
"""
BLUE_OPENS = """\
network: blue
rules:
  - {name: out, from: {labels: {}}, to: {network: red}, allow: [tcp/80]}
"""
RED_OPENS = """\
network: red
rules:
  - {name: in, from: {network: blue}, to: {labels: {}}, allow: [tcp/80]}
"""


async def populate(stubs: Stubs) -> None:
    """Hosts h1 and h2; blue with web-1 and web-2 at h1 and db-1 at h2; red with one at h2."""
    for number in (1, 2):
        await stubs.host(number)
    await stubs.network("blue")
    await stubs.network("red")
    await stubs.machine("blue/web-1", "h1", app="web")
    await stubs.machine("blue/web-2", "h1", app="web")
    await stubs.machine("blue/db-1", "h2", app="db")
    await stubs.machine("red/one", "h2")


async def apply(stubs: Stubs, text: str, **fields: Any) -> pb.ApplyPolicyResponse:
    request = pb.ApplyPolicyRequest(text=text, file_name="blue.yaml", **fields)
    response: pb.ApplyPolicyResponse = await stubs.policies.ApplyPolicy(request)
    return response


async def rollback(stubs: Stubs, network: str, version: int) -> pb.RollbackPolicyResponse:
    request = pb.RollbackPolicyRequest(network=network, version=version)
    response: pb.RollbackPolicyResponse = await stubs.policies.RollbackPolicy(request)
    return response


async def identity(stubs: Stubs, path: str) -> Identity:
    return Identity((await stubs.get(path)).identity)


async def verdict(agent: Agent, stubs: Stubs, source: str, destination: str, port: int) -> Verdict:
    """Return what the entries that an agent holds say, as its kernel would find it."""
    machine = await stubs.get(source)
    number = (
        await stubs.networks.GetNetwork(networks_pb.GetNetworkRequest(name=machine.network))
    ).network.number
    identities = await identity(stubs, source), await identity(stubs, destination)
    key = Key(Direction.INSIDE, *identities)
    return evaluate_compiled(agent.policies[number], key, TCP, port).verdict


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
    versions = await fleet.stubs.policies.ListPolicyVersions(
        pb.ListPolicyVersionsRequest(network="blue")
    )
    assert list(versions.policies) == []


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
    versions = await fleet.stubs.policies.ListPolicyVersions(
        pb.ListPolicyVersionsRequest(network="blue")
    )
    assert [one.version for one in versions.policies] == [3, 2, 1]
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

    versions = await fleet.stubs.policies.ListPolicyVersions(
        pb.ListPolicyVersionsRequest(network="blue")
    )
    assert list(versions.policies) == []
    assert (await apply(fleet.stubs, "network: blue\ndefault: deny\n")).policy.version == 1


async def test_a_policy_that_fits_on_no_host_is_refused_with_figures(fleet: Fleet) -> None:
    await populate(fleet.stubs)
    # Each machine of 600 has labels of its own, so that every pair needs an entry: 360,000.
    for number in range(600):
        await fleet.stubs.machine(f"red/m{number}", n=str(number))
    rules = "".join(
        f"  - {{name: r{number}, from: {{labels: {{n: '{number}'}}}},"
        f" to: any, allow: [tcp/{number}]}}\n"
        for number in range(600)
    )

    async with refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "the policies do not fit: pairs: "):
        await apply(fleet.stubs, "network: red\nrules:\n" + rules)


async def test_both_hosts_are_asked_about_a_flow(fleet: Fleet) -> None:
    await populate(fleet.stubs)
    sender, receiver = await fleet.agent("h1"), await fleet.agent("h2")
    sender.opinion = types_pb2.Opinion(network="blue", version=3, allowed=True, rule="web-to-db")
    receiver.opinion = types_pb2.Opinion(network="blue", version=3, allowed=False)

    found = await fleet.stubs.policies.ExplainFlow(
        pb.ExplainFlowRequest(**{"from": "web-1", "to": "db-1", "traffic": "tcp/5432"})
    )

    assert (found.complete, found.allowed) == (True, False)
    assert [(one.at, one.host) for one in found.opinions] == [("sender", "h1"), ("receiver", "h2")]
    assert found.opinions[0].opinion.rule == "web-to-db"
    assert (sender.questions[0].port, sender.questions[0].at_receiver) == (5432, False)
    assert receiver.questions[0].at_receiver


async def test_an_end_that_cannot_answer_is_named(fleet: Fleet) -> None:
    await populate(fleet.stubs)
    await fleet.agent("h1")

    found = await fleet.stubs.policies.ExplainFlow(
        pb.ExplainFlowRequest(**{"from": "web-1", "to": "db-1", "traffic": "icmp6/echo"})
    )

    assert not found.complete
    problems = [one.problem for one in found.opinions]
    assert problems == ["host h1: does not know", "the agent of host h2 is not connected"]


@pytest.mark.parametrize(
    ("parties", "code", "begins"),
    [
        pytest.param(
            ("web-1", "nobody", "tcp/1"), "NOT_FOUND", "machine: there is no", id="unknown"
        ),
        pytest.param(("web-1", "db-1", "tcp"), "INVALID_ARGUMENT", "traffic: ", id="not-a-packet"),
        pytest.param(("2001:db8::1", "host", "tcp/1"), "INVALID_ARGUMENT", "to: ", id="no-machine"),
        pytest.param(("web-1", "::zz", "tcp/1"), "INVALID_ARGUMENT", "to: ", id="no-address"),
    ],
)
async def test_a_question_that_makes_no_sense_is_refused(
    fleet: Fleet, parties: tuple[str, str, str], code: str, begins: str
) -> None:
    await populate(fleet.stubs)
    fields = dict(zip(("from", "to", "traffic"), parties, strict=True))

    async with refused(grpc.StatusCode[code], begins):
        await fleet.stubs.policies.ExplainFlow(pb.ExplainFlowRequest(**fields))
