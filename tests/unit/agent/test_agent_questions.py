"""Questions of control: who is asked at which end, and what the kernel's entries say."""

from __future__ import annotations

import asyncio
from ipaddress import IPv6Address

import grpc.aio
import pytest
from agent_policies import DB_IDENTITY, WEB_IDENTITY, allowing, compiled, whole
from agent_rig import DB, H1, H2, H3, OWN, WEB, Rig

from netagent.agent.questions import (
    Asked,
    answer_question,
    question_from_message,
    who_is_asked,
)
from netagent.agent.respondent import WAITING_MOST, Respondent
from netagent.api.control.v1 import sync_service_pb2
from netagent.api.types.v1 import types_pb2
from netagent.model.addresses import StableId, make_id
from netagent.model.errors import InvalidError, NetagentError
from netagent.model.fleet import Identity, Location
from netagent.policy.entries import Direction
from netagent.reconcile.batch import Batch, LocationChange, NamedLocation

BOX = make_id(2, 1, 1)
LOST = make_id(1, 1, 9)
MIRROR = IPv6Address("2001:db8::7")
RED, BLUE = 1, 2
RED_POLICY = allowing("tcp/5432", version=3)
BLUE_POLICY = compiled(
    "{name: audited, from: any, to: any, deny: [tcp/22], mode: audit}",
    "{name: in, from: any, to: {labels: {}}, allow: [any]}",
    network="blue",
    default="allow",
)


def red(identity: Identity, host, name: str) -> NamedLocation:
    return NamedLocation(name, Location(host.locator, identity, 1))


@pytest.fixture
def answering(rig: Rig) -> Rig:
    """A host with red/web and blue/box; red/db is elsewhere."""
    rig.engine.reconcile()
    tables = (
        LocationChange(
            RED, "red", True, {WEB: red(WEB_IDENTITY, H1, "web"), DB: red(DB_IDENTITY, H2, "db")}
        ),
        LocationChange(BLUE, "blue", True, {BOX: red(Identity(4), H1, "box")}),
    )
    policies = (whole(RED_POLICY), whole(BLUE_POLICY, b"b"))
    rig.engine.take_batch(Batch(1, True, (H1, H2, H3), locations=tables, policies=policies))
    return rig


def flow(
    source: StableId | IPv6Address,
    destination: StableId | IPv6Address,
    port: int = 5432,
    *,
    at_receiver: bool = False,
) -> types_pb2.FlowQuestion:
    message = types_pb2.FlowQuestion(protocol=6, port=port, at_receiver=at_receiver)
    for end, party in (("source", source), ("destination", destination)):
        if isinstance(party, IPv6Address):
            setattr(message, f"{end}_address", party.packed)
        else:
            setattr(message, f"{end}_id", party)
    return message


def ask(rig: Rig, message: types_pb2.FlowQuestion) -> types_pb2.Opinion:
    question = question_from_message(message)
    return answer_question(question, rig.kernel.datapath, rig.engine.view, H1.locator)


SENDER, RECEIVER = False, True


@pytest.mark.parametrize(
    ("source", "destination", "at_receiver", "asked"),
    [
        pytest.param(WEB, DB, SENDER, Asked(RED, Direction.INSIDE), id="inside, sender"),
        pytest.param(WEB, DB, RECEIVER, Asked(RED, Direction.INSIDE), id="inside, receiver"),
        pytest.param(WEB, BOX, SENDER, Asked(RED, Direction.EGRESS), id="across, sender"),
        pytest.param(WEB, BOX, RECEIVER, Asked(BLUE, Direction.INGRESS), id="across, receiver"),
        pytest.param(
            WEB, H2.stable_id, SENDER, Asked(RED, Direction.EGRESS), id="to a host, sender"
        ),
        pytest.param(
            WEB, H2.stable_id, RECEIVER, Asked(RED, Direction.EGRESS), id="to a host, receiver"
        ),
        pytest.param(H2.stable_id, WEB, SENDER, None, id="from a host, sender"),
        pytest.param(
            H2.stable_id, WEB, RECEIVER, Asked(RED, Direction.INGRESS), id="from a host, receiver"
        ),
        pytest.param(WEB, MIRROR, SENDER, Asked(RED, Direction.EGRESS), id="to outside, sender"),
        pytest.param(WEB, MIRROR, RECEIVER, None, id="to outside, receiver"),
        pytest.param(MIRROR, WEB, SENDER, None, id="from outside, sender"),
        pytest.param(
            MIRROR, WEB, RECEIVER, Asked(RED, Direction.INGRESS), id="from outside, receiver"
        ),
        pytest.param(H1.stable_id, H2.stable_id, SENDER, None, id="hosts, sender"),
        pytest.param(H1.stable_id, H2.stable_id, RECEIVER, None, id="hosts, receiver"),
        pytest.param(MIRROR, H1.stable_id, RECEIVER, None, id="outside to a host"),
    ],
)
def test_each_end_asks_the_policy_that_the_law_says(
    source: StableId, destination: StableId, at_receiver: bool, asked: Asked | None
) -> None:
    assert who_is_asked(source, destination, at_receiver=at_receiver) == asked


def test_the_rule_that_allows_is_named(answering: Rig) -> None:
    opinion = ask(answering, flow(WEB, DB))

    assert (opinion.network, opinion.version) == ("red", 3)
    assert (opinion.allowed, opinion.rule, opinion.audited) == (True, "web-to-db", False)


def test_the_default_has_no_name(answering: Rig) -> None:
    opinion = ask(answering, flow(WEB, DB, port=22))

    assert (opinion.network, opinion.allowed, opinion.rule) == ("red", False, "")


def test_audit_is_told_beside_the_verdict(answering: Rig) -> None:
    opinion = ask(answering, flow(WEB, BOX, port=22, at_receiver=True))

    assert (opinion.network, opinion.allowed, opinion.rule) == ("blue", True, "in")
    assert (opinion.audited, opinion.audit_rule) == (True, "audited")


def test_an_outside_address_is_asked_about_by_its_prefix(answering: Rig) -> None:
    assert ask(answering, flow(WEB, MIRROR, port=443)).rule == "to-mirrors"
    assert not ask(answering, flow(WEB, IPv6Address("2001:db9::7"), port=443)).allowed


def test_a_host_that_receives_asks_the_policy_of_the_machine(answering: Rig) -> None:
    opinion = ask(answering, flow(DB, H1.stable_id, at_receiver=True))

    assert (opinion.network, opinion.allowed) == ("red", False)


def test_where_nobody_is_asked_the_opinion_is_nobodys(answering: Rig) -> None:
    opinion = ask(answering, flow(H1.stable_id, WEB))

    assert (opinion.network, opinion.allowed) == ("", True)


@pytest.mark.parametrize(
    ("message", "problem"),
    [
        pytest.param(flow(DB, WEB), "red/db is not located on this host", id="sender elsewhere"),
        pytest.param(
            flow(WEB, DB, at_receiver=True), "red/db is not located", id="receiver elsewhere"
        ),
        pytest.param(flow(LOST, WEB), f"id {LOST:016x} is not located", id="unknown end"),
        pytest.param(flow(WEB, LOST), f"does not know where id {LOST:016x} is", id="unknown peer"),
        pytest.param(flow(H2.stable_id, WEB), "host:h2 is not located", id="another host"),
    ],
)
def test_a_host_that_cannot_say_says_why(
    answering: Rig, message: types_pb2.FlowQuestion, problem: str
) -> None:
    with pytest.raises(NetagentError, match=problem):
        ask(answering, message)


def test_a_host_without_the_policy_says_that_it_drops(answering: Rig) -> None:
    answering.engine.take_batch(Batch(2, dropped_policies=(RED,)))

    with pytest.raises(NetagentError, match="this host has no policy of network red"):
        ask(answering, flow(WEB, DB))


def test_a_damaged_kernel_says_so(answering: Rig) -> None:
    for class_id in RED_POLICY.classes:
        answering.state.policies.lose_class(class_id)

    with pytest.raises(NetagentError, match="class"):
        ask(answering, flow(WEB, DB))


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        pytest.param({"protocol": 0}, "flow.protocol", id="no protocol"),
        pytest.param({"protocol": 256}, "flow.protocol", id="protocol 256"),
        pytest.param({"port": 65536}, "flow.port", id="port"),
        pytest.param({"source_id": 0}, "flow.source", id="no source"),
        pytest.param({"source_address": b"\1" * 16}, "flow.source", id="two sources"),
        pytest.param(
            {"destination_id": 0, "destination_address": b"\1"},
            "flow.destination_address",
            id="a short address",
        ),
    ],
)
def test_a_question_without_sense_names_the_field(fields: dict, field: str) -> None:
    message = flow(WEB, DB)
    for name, value in fields.items():
        setattr(message, name, value)

    with pytest.raises(InvalidError) as caught:
        question_from_message(message)

    assert caught.value.field == field


class Stream:
    """The agent's side of a Sync stream; `broken`: what writing raises."""

    def __init__(self) -> None:
        self.answers: asyncio.Queue[sync_service_pb2.Answer] = asyncio.Queue()
        self.broken: BaseException | None = None

    async def write(self, message: sync_service_pb2.SyncRequest) -> None:
        if self.broken:
            raise self.broken
        await self.answers.put(message.answer)


async def test_answers_carry_the_number_of_their_question(answering: Rig) -> None:
    respondent = Respondent(answering.engine, answering.kernel.datapath, lambda: OWN)
    stream = Stream()
    questions = {5: flow(WEB, DB), 7: flow(DB, WEB), 9: types_pb2.FlowQuestion()}
    for number, message in questions.items():
        await respondent.take(sync_service_pb2.Question(number=number, flow=message), stream.write)

    task = asyncio.ensure_future(respondent.run())
    answers = {}
    for _ in questions:
        answer = await stream.answers.get()
        answers[answer.number] = answer
    task.cancel()

    assert answers[5].opinion.rule == "web-to-db"
    assert answers[7].problem == "red/db is not located on this host"
    assert answers[9].problem.startswith("flow.protocol: ")


async def test_one_question_too_many_is_answered_at_once(answering: Rig) -> None:
    respondent = Respondent(answering.engine, answering.kernel.datapath, lambda: OWN)
    stream = Stream()
    for number in range(WAITING_MOST + 1):
        await respondent.take(sync_service_pb2.Question(number=number), stream.write)

    answer = stream.answers.get_nowait()

    assert (answer.number, answer.problem) == (WAITING_MOST, "more than 64 questions at once")


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(asyncio.InvalidStateError("over"), id="over"),
        pytest.param(asyncio.CancelledError(), id="cancelled"),
        pytest.param(
            grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, None, None), id="unavailable"
        ),
    ],
)
async def test_a_stream_that_has_ended_ends_no_other(answering: Rig, error: BaseException) -> None:
    respondent = Respondent(answering.engine, answering.kernel.datapath, lambda: OWN)
    ended, stream = Stream(), Stream()
    ended.broken = error
    await respondent.take(sync_service_pb2.Question(number=1, flow=flow(WEB, DB)), ended.write)
    await respondent.take(sync_service_pb2.Question(number=2, flow=flow(WEB, DB)), stream.write)

    task = asyncio.ensure_future(respondent.run())

    assert (await stream.answers.get()).number == 2
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
