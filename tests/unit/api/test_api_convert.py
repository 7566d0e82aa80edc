"""Messages and the model, there and back."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, IPv6Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netagent.api.control.v1 import host_service_pb2, sync_service_pb2
from netagent.api.convert import (
    endpoint_from_message,
    endpoint_to_message,
    fleet_from_message,
    fleet_to_message,
    host_from_message,
    host_to_message,
    machine_from_message,
    machine_to_message,
    move_to_message,
    network_from_message,
    network_to_message,
    phase_from_message,
)
from netagent.api.convert_sync import (
    LocationRows,
    TransitionRows,
    locations_from_message,
    locations_to_message,
    report_from_message,
    report_to_message,
    transitions_from_message,
    transitions_to_message,
)
from netagent.api.types.v1 import types_pb2
from netagent.model.addresses import (
    HOST_NUMBER_MAX,
    NETWORK_MAX,
    NUMBER_MAX,
    REGION_MAX,
    Fleet,
    Locator,
    StableId,
    make_id,
    make_locator,
)
from netagent.model.errors import InvalidError
from netagent.model.fleet import (
    Endpoint,
    Host,
    Identity,
    Location,
    Machine,
    Move,
    MovePhase,
    MoveTrigger,
    Network,
    Transition,
)
from netagent.moves.reports import Alive, Carried, Refused, Report

FLEET = Fleet("f1", IPv6Network("fd12:3456:789a::/64"))

ids = st.builds(
    make_id,
    st.integers(0, NETWORK_MAX),
    st.integers(0, REGION_MAX),
    st.integers(0, NUMBER_MAX),
)
locators = st.builds(
    lambda region, host: make_locator(FLEET, region, host),
    st.integers(0, REGION_MAX),
    st.integers(0, HOST_NUMBER_MAX),
)
epochs = st.integers(0, (1 << 64) - 1)
identities = st.integers(0, (1 << 32) - 1).map(Identity)


@given(
    st.integers(0, REGION_MAX), st.integers(0, HOST_NUMBER_MAX), st.binary(min_size=32, max_size=32)
)
def test_hosts(region: int, number: int, public_key: bytes) -> None:
    host = Host(
        name="h1",
        region=region,
        number=number,
        public_key=public_key,
        endpoint=Endpoint(IPv6Address("2001:db8::1"), 51820),
        stable_id=make_id(0, region, number),
        locator=make_locator(FLEET, region, number),
    )

    message = host_to_message(FLEET, host, connected=True, applied_revision=3, etag="e")

    again = types_pb2.Host.FromString(message.SerializeToString())
    assert host_from_message(FLEET, again) == host
    assert (message.connected, message.applied_revision, message.etag) == (True, 3, "e")


@given(ids, identities, epochs, st.none() | st.just("h1"))
def test_machines(stable_id: StableId, identity: Identity, epoch: int, host: str | None) -> None:
    machine = Machine("blue", "web", stable_id, identity, {"app": "web", "b": ""}, host, epoch)

    message = machine_to_message(FLEET, machine)

    again = types_pb2.Machine.FromString(message.SerializeToString())
    assert machine_from_message(FLEET, again) == machine
    assert len(bytes.fromhex(message.mac.replace(":", ""))) == 6


def test_fleets_networks_and_endpoints() -> None:
    network = Network("blue", 7)
    endpoint = Endpoint(IPv4Address("192.0.2.1"), 65535)

    assert fleet_from_message(fleet_to_message(FLEET)) == FLEET
    assert network_from_message(network_to_message(network, machine_count=3)) == network
    assert endpoint_from_message(endpoint_to_message(endpoint)) == endpoint


@pytest.mark.parametrize("phase", list(MovePhase))
def test_every_phase_has_a_number_of_its_own(phase: MovePhase) -> None:
    move = Move("m1", "blue/web", make_id(1, 1, 1), "a", "b", 2, phase)

    message = move_to_message(move)

    assert phase_from_message(message.phase) is phase
    assert types_pb2.MovePhase.Name(message.phase) == f"MOVE_PHASE_{phase.name}"


def test_phases_of_the_future_are_refused() -> None:
    for number in (0, 99):
        with pytest.raises(InvalidError, match=r"move\.phase: "):
            phase_from_message(types_pb2.Move(phase=number).phase)


transitions = st.builds(Transition, locators, locators, epochs, st.sampled_from(list(MoveTrigger)))
holders = ids.filter(bool)
rows = st.lists(
    st.tuples(
        ids,
        st.builds(Location, locators, identities, epochs),
        st.sampled_from("abc"),
        st.none() | holders,
    )
)
removed = st.lists(st.tuples(ids, epochs))


@given(rows, removed, st.booleans())
def test_location_rows(
    rows: list[tuple[StableId, Location, str, StableId | None]],
    removed: list[tuple[StableId, int]],
    whole: bool,
) -> None:
    table = LocationRows(7, "blue", whole=whole, rows=rows, removed=removed)

    data = locations_to_message(table).SerializeToString()

    assert locations_from_message(sync_service_pb2.LocationTable.FromString(data)) == table


@given(
    st.lists(st.tuples(ids, transitions)),
    removed,
    st.booleans(),
)
def test_transition_rows(
    rows: list[tuple[StableId, Transition]], removed: list[tuple[StableId, int]], whole: bool
) -> None:
    table = TransitionRows(7, whole=whole, rows=rows, removed=removed)

    data = transitions_to_message(table).SerializeToString()

    read = transitions_from_message(sync_service_pb2.TransitionTable.FromString(data))
    assert read == table
    assert [row.trigger for _, row in read.rows] == [row.trigger for _, row in rows]


def test_transitions_of_an_older_release_have_no_trigger() -> None:
    row = Transition(Locator(1), Locator(2), 3, MoveTrigger.LIFE)
    message = transitions_to_message(TransitionRows(7, whole=False, rows=[(StableId(9), row)]))
    del message.triggers[:]

    ((_, read),) = transitions_from_message(message).rows

    assert read.trigger is MoveTrigger.AT_ONCE


def test_a_trigger_of_the_future_is_refused() -> None:
    row = Transition(Locator(1), Locator(2), 3)
    message = transitions_to_message(TransitionRows(7, whole=False, rows=[(StableId(9), row)]))
    message.triggers[0] = 99

    with pytest.raises(InvalidError, match=r"transitions\.triggers: 99"):
        transitions_from_message(message)


@pytest.mark.parametrize(
    "report", [Carried(50_000), Carried(0, is_final=True), Refused("no room"), Alive()]
)
def test_reports(report: Report) -> None:
    data = report_to_message(StableId(9), 3, report).SerializeToString()

    assert report_from_message(sync_service_pb2.MoveReport.FromString(data)) == (9, 3, report)


def test_a_report_of_the_future_is_none() -> None:
    assert report_from_message(sync_service_pb2.MoveReport(id=9, epoch=3)) is None


@pytest.mark.parametrize("column", ["ids", "locators", "identities", "epochs", "holders"])
def test_columns_of_unequal_length_are_refused(column: str) -> None:
    location = Location(Locator(1), Identity(2), 3)
    table = LocationRows(7, "blue", whole=False, rows=[(StableId(9), location, "web", StableId(8))])
    message = locations_to_message(table)
    getattr(message, column).append(1)

    with pytest.raises(InvalidError, match="locations: columns of unequal length"):
        locations_from_message(message)


def test_removals_of_unequal_length_are_refused() -> None:
    with pytest.raises(InvalidError, match=r"transitions\.removed: "):
        transitions_from_message(sync_service_pb2.TransitionTable(removed_ids=[1]))


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": "A"}, "host.name"),
        ({"public_key": b"x"}, "host.public_key"),
        ({"address": "fd00::1"}, "address"),
        ({"address": "192.0.2.1"}, "host.address"),
        ({"locator": "fc1a::/63"}, "host.locator"),
        ({"locator": "x"}, "host.locator"),
        ({"endpoint": types_pb2.Endpoint(address="::", port=1)}, "host.endpoint.address"),
    ],
)
def test_hosts_that_make_no_sense_are_refused(changes: dict[str, object], field: str) -> None:
    host = Host(
        name="h1",
        region=1,
        number=1,
        public_key=b"k" * 32,
        endpoint=Endpoint(IPv4Address("192.0.2.1"), 1),
        stable_id=make_id(0, 1, 1),
        locator=make_locator(FLEET, 1, 1),
    )
    message = host_to_message(FLEET, host)
    for name in changes:
        message.ClearField(name)  # type: ignore[arg-type]
    message.MergeFrom(types_pb2.Host(**changes))  # type: ignore[arg-type]

    with pytest.raises(InvalidError) as caught:
        host_from_message(FLEET, message)

    assert caught.value.field == field


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (host_service_pb2.FleetParameters(prefix="fd00::/64"), "fleet.fleet_id"),
        (host_service_pb2.FleetParameters(fleet_id="f", prefix="fd00::/48"), "fleet.prefix"),
        (host_service_pb2.FleetParameters(fleet_id="f", prefix="fd00::/64"), "locator_top"),
    ],
)
def test_fleets_that_make_no_sense_are_refused(
    message: host_service_pb2.FleetParameters, field: str
) -> None:
    with pytest.raises(InvalidError) as caught:
        fleet_from_message(message)

    assert caught.value.field == field
