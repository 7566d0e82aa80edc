"""ExplainFlow: agents at both ends answer, or do not."""

from __future__ import annotations

import asyncio
from ipaddress import IPv6Address

import grpc
import pytest
from control_fleet import Fleet, refused, until
from control_policies import explain, populate

from netagent.api.types.v1 import types_pb2
from netagent.control import sync_hub


async def test_both_hosts_are_asked_about_a_flow(fleet: Fleet) -> None:
    await populate(fleet.stubs)
    sender, receiver = await fleet.agent("h1"), await fleet.agent("h2")
    sender.opinion = types_pb2.Opinion(network="blue", version=3, allowed=True, rule="web-to-db")
    receiver.opinion = types_pb2.Opinion(network="blue", version=3, allowed=False)

    found = await explain(fleet.stubs, "web-1", "db-1", "tcp/5432")

    assert (found.complete, found.allowed) == (True, False)
    assert [(one.at, one.host) for one in found.opinions] == [("sender", "h1"), ("receiver", "h2")]
    assert found.opinions[0].opinion.rule == "web-to-db"
    assert (sender.questions[0].port, sender.questions[0].at_receiver) == (5432, False)
    assert receiver.questions[0].at_receiver


async def test_an_end_that_cannot_answer_is_named(fleet: Fleet) -> None:
    await populate(fleet.stubs)
    await fleet.agent("h1")

    found = await explain(fleet.stubs, "web-1", "db-1", "icmp6/echo")

    assert (found.complete, found.allowed) == (False, False)
    problems = [one.problem for one in found.opinions]
    assert problems == ["host h1: does not know", "the agent of host h2 is not connected"]


@pytest.mark.parametrize(
    ("parties", "code", "begins"),
    [
        pytest.param(
            ("web-1", "nobody", "tcp/1"), "NOT_FOUND", "to: there is no machine", id="unknown"
        ),
        pytest.param(("web-1", "db-1", "tcp"), "INVALID_ARGUMENT", "traffic: ", id="not-a-packet"),
        pytest.param(("2001:db8::1", "host", "tcp/1"), "INVALID_ARGUMENT", "to: ", id="no-machine"),
        pytest.param(("host", "host", "tcp/1"), "INVALID_ARGUMENT", "to: ", id="hosts-only"),
        pytest.param(
            ("2001:db8::1", "2001:db8::2", "tcp/1"), "INVALID_ARGUMENT", "from: ", id="outside-only"
        ),
        pytest.param(("web-1", "::zz", "tcp/1"), "INVALID_ARGUMENT", "to: ", id="no-address"),
        pytest.param(("web-1", "db-1", "tcp/1-2"), "INVALID_ARGUMENT", "traffic: ", id="a-range"),
        pytest.param(("web-1", "db-1", "any"), "INVALID_ARGUMENT", "traffic: ", id="anything"),
        pytest.param(
            ("web-1", "unplaced", "tcp/1"), "FAILED_PRECONDITION", "to: machine blue/", id="nowhere"
        ),
    ],
)
async def test_a_question_that_makes_no_sense_is_refused(
    fleet: Fleet, parties: tuple[str, str, str], code: str, begins: str
) -> None:
    await populate(fleet.stubs)
    await fleet.stubs.machine("blue/unplaced")

    async with refused(grpc.StatusCode[code], begins):
        await explain(fleet.stubs, *parties)


async def test_an_address_of_the_fleet_is_refused(fleet: Fleet) -> None:
    await populate(fleet.stubs)
    address = (await fleet.stubs.get("db-1")).address

    async with refused(grpc.StatusCode.INVALID_ARGUMENT, f"to: {address} is within the fleet's"):
        await explain(fleet.stubs, "web-1", address, "tcp/1")


@pytest.mark.parametrize("how", ["path", "name", "address"])
async def test_a_floating_address_is_asked_about_at_its_holders_host(
    fleet: Fleet, how: str
) -> None:
    await populate(fleet.stubs)
    made = await fleet.stubs.address("blue/vip")
    text = {"path": "blue/vip", "name": "vip", "address": made.address}[how]
    async with refused(
        grpc.StatusCode.FAILED_PRECONDITION, "to: floating address blue/vip is on no host now"
    ):
        await explain(fleet.stubs, "web-1", text, "tcp/1")
    await fleet.stubs.assign("vip", "db-1")
    agents = [await fleet.agent(host) for host in ("h1", "h2")]

    found = await explain(fleet.stubs, "web-1", text, "tcp/1")

    assert [(one.at, one.host) for one in found.opinions] == [("sender", "h1"), ("receiver", "h2")]
    (stable_id,) = {question.destination_id for a in agents for question in a.questions}
    assert made.address == str(IPv6Address(int(IPv6Address(made.address)) >> 64 << 64 | stable_id))


async def test_the_host_is_that_of_the_other_party_and_only_the_machine_is_asked(
    fleet: Fleet,
) -> None:
    await populate(fleet.stubs)
    agent = await fleet.agent("h1")
    agent.opinion = types_pb2.Opinion(network="blue", allowed=True)

    found = await explain(fleet.stubs, "host", "web-1", "udp/53")

    assert [(one.at, one.host) for one in found.opinions] == [("receiver", "h1")]
    (question,) = agent.questions
    assert (question.source_id >> 32, question.at_receiver) == (0, True)
    assert found.complete


async def test_outside_has_no_end_to_ask(fleet: Fleet) -> None:
    await populate(fleet.stubs)
    agent = await fleet.agent("h1")
    agent.opinion = types_pb2.Opinion(network="blue", allowed=False)

    found = await explain(fleet.stubs, "web-1", "2001:db8::7", "icmp6/echo")

    assert [(one.at, one.host) for one in found.opinions] == [("sender", "h1")]
    (question,) = agent.questions
    assert (question.destination_id, question.destination_address[-1]) == (0, 7)
    assert (question.protocol, question.port) == (58, 128 << 8)
    assert (found.complete, found.allowed) == (True, False)


async def test_an_agent_that_does_not_answer_is_not_waited_for(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync_hub, "ANSWER_S", 0.05)
    await populate(fleet.stubs)
    agent = await fleet.agent("h1")
    agent.is_silent = True

    found = await explain(fleet.stubs, "web-1", "2001:db8::7", "tcp/1")

    assert not found.complete
    (end,) = found.opinions
    assert end.problem == "host h1 has not answered within 0.05 s"


async def test_an_agent_that_leaves_is_not_waited_for(fleet: Fleet) -> None:
    await populate(fleet.stubs)
    agent = await fleet.agent("h1")
    agent.is_silent = True
    asking = asyncio.ensure_future(explain(fleet.stubs, "web-1", "2001:db8::7", "tcp/1"))
    await until(lambda: bool(agent.questions))

    await fleet.leave(agent)

    (end,) = (await asking).opinions
    assert end.problem == "host h1 has left"
