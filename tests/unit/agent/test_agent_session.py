"""One Sync stream, message by message, without a network."""

import pytest
from agent_policies import allowing, whole
from agent_rig import DB, FLEET, H1, H2, WEB

from netagent.agent.session import Malformed, SyncSession, Welcomed
from netagent.api.control.v1 import sync_service_pb2 as pb
from netagent.api.convert import fleet_to_message, host_to_message
from netagent.api.convert_policy import policy_to_messages
from netagent.model.errors import InvalidError
from netagent.model.fleet import Identity, Location
from netagent.reconcile.batch import Batch, LocationChange, NamedLocation


def welcome(*, snapshot: bool) -> pb.SyncResponse:
    return pb.SyncResponse(
        welcome=pb.Welcome(
            fleet=fleet_to_message(FLEET), host=host_to_message(FLEET, H1), snapshot=snapshot
        )
    )


def update(**fields) -> pb.SyncResponse:
    return pb.SyncResponse(update=pb.Update(**fields))


def table(stable_id: int, name: str, *, whole: bool) -> pb.LocationTable:
    return pb.LocationTable(
        network=1,
        network_name="red",
        whole=whole,
        ids=[stable_id],
        locators=[H2.locator],
        identities=[2],
        epochs=[7],
        names=[name],
    )


def welcomed(*, snapshot: bool) -> SyncSession:
    session = SyncSession()
    session.receive(welcome(snapshot=snapshot))
    return session


def test_hello_tells_what_is_held() -> None:
    hello = SyncSession().hello("h1", "fleet-1", 42, (7, 3), {7: b"seven", 3: b"three"}).hello

    assert (hello.host, hello.fleet_id, hello.revision) == ("h1", "fleet-1", 42)
    assert (list(hello.networks), hello.protocol_version) == ([3, 7], 1)
    assert [(held.network, held.content) for held in hello.policies] == [
        (3, b"three"),
        (7, b"seven"),
    ]


def test_welcome_tells_who_we_are() -> None:
    response = SyncSession().receive(welcome(snapshot=True))

    assert isinstance(response, Welcomed)
    assert (response.own.fleet, response.own.host, response.is_snapshot) == (FLEET, H1, True)


def test_a_batch_is_whole_with_its_revision() -> None:
    session = welcomed(snapshot=True)

    assert session.receive(update(hosts=[host_to_message(FLEET, H2)])) is None
    assert session.receive(update(locations=[table(WEB, "web", whole=True)])) is None
    batch = session.receive(update(locations=[table(DB, "db", whole=False)], revision=9))

    row = Location(H2.locator, Identity(2), 7)
    assert batch == Batch(
        9,
        is_snapshot=True,
        hosts=(H2,),
        locations=(
            LocationChange(1, "red", True, {WEB: NamedLocation("web", row)}),
            LocationChange(1, "red", False, {DB: NamedLocation("db", row)}),
        ),
    )


def test_a_snapshot_is_due_until_one_was_taken() -> None:
    session = welcomed(snapshot=True)
    first = session.receive(update(revision=9))
    session.reject(9, "no room")
    second = session.receive(update(revision=10))
    session.accept(10)
    third = session.receive(update(revision=11))

    assert [batch.is_snapshot for batch in (first, second, third)] == [True, True, False]


def test_a_host_removed_and_registered_anew_in_one_batch_is_there() -> None:
    session = welcomed(snapshot=False)
    session.receive(update(removed_hosts=["h2"]))

    batch = session.receive(update(hosts=[host_to_message(FLEET, H2)], revision=9))

    assert (batch.hosts, batch.removed_hosts) == ((H2,), ())


def test_uneven_columns_are_malformed_and_the_stream_goes_on() -> None:
    session = welcomed(snapshot=False)
    uneven = table(WEB, "web", whole=True)
    uneven.ids.append(DB)

    refused = session.receive(update(locations=[uneven], revision=9))

    assert isinstance(refused, Malformed)
    assert refused.revision == 9
    assert "unequal length" in refused.reason
    assert session.receive(update(revision=10)) == Batch(10)


def test_a_policy_in_parts_is_one_change_of_the_batch() -> None:
    policy = allowing("tcp/5432")
    first, *_ = policy_to_messages(policy, b"1")
    last = pb.PolicyTable(network=1, network_name="red")
    for field in ("content", "version", "defaults", "rule_numbers", "rule_names"):
        taken = getattr(first, field)
        if isinstance(taken, bytes | int):
            setattr(last, field, taken)
        else:
            getattr(last, field).extend(taken)
    first.content = b""
    session = welcomed(snapshot=False)

    assert session.receive(update(policies=[first])) is None
    batch = session.receive(update(policies=[last], dropped_policies=[7], revision=9))

    assert batch == Batch(9, policies=(whole(policy),), dropped_policies=(7,))


def test_a_policy_without_its_last_part_is_malformed() -> None:
    (message,) = policy_to_messages(allowing("tcp/5432"), b"1")
    message.content = b""

    refused = welcomed(snapshot=False).receive(update(policies=[message], revision=9))

    assert refused == Malformed(9, "policies[1].content: the last part did not come")


def test_a_question_comes_between_the_parts_of_a_batch() -> None:
    session = welcomed(snapshot=False)
    question = pb.Question(number=5)
    session.receive(update(hosts=[host_to_message(FLEET, H2)]))

    assert session.receive(pb.SyncResponse(question=question)) == question
    assert session.receive(update(revision=9)) == Batch(9, hosts=(H2,))


def test_update_before_welcome_ends_the_stream() -> None:
    with pytest.raises(InvalidError, match="did not come first"):
        SyncSession().receive(update(revision=1))


def test_second_welcome_ends_the_stream() -> None:
    with pytest.raises(InvalidError, match="came twice"):
        welcomed(snapshot=False).receive(welcome(snapshot=False))
