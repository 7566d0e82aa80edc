"""Who leaves and who comes, as a view has it."""

from ipaddress import IPv4Address, IPv6Network

import pytest

from netagent.model.addresses import Fleet, StableId, make_id, make_locator, stable_address
from netagent.model.fleet import Endpoint, Host, Identity, Location, MoveTrigger, Transition
from netagent.reconcile.batch import Batch, LocationChange, NamedLocation, TransitionChange
from netagent.reconcile.delta import plan_delta
from netagent.reconcile.moving import (
    Arrival,
    Departure,
    Taking,
    find_arrivals,
    find_departures,
    find_taken,
)
from netagent.reconcile.view import View

FLEET = Fleet("fleet-1", IPv6Network("fd00:1:2::/64"))
WEB = make_id(1, 1, 1)


def make_host(number: int) -> Host:
    return Host(
        name=f"h{number}",
        region=1,
        number=number,
        public_key=bytes([number]) * 32,
        endpoint=Endpoint(IPv4Address(f"10.0.0.{number}"), 51820),
        stable_id=make_id(0, 1, number),
        locator=make_locator(FLEET, 1, number),
    )


H1, H2, H3 = map(make_host, (1, 2, 3))


def view_of(place: Host, epoch: int, transitions: dict[StableId, Transition]) -> View:
    view = View()
    row = NamedLocation("web", Location(place.locator, Identity(2), epoch))
    batch = Batch(
        1,
        True,
        (H1, H2, H3),
        locations=(LocationChange(1, "red", True, {WEB: row}),),
        transitions=(TransitionChange(1, True, transitions),),
    )
    view.apply(plan_delta(view, batch))
    return view


def moving(trigger: MoveTrigger = MoveTrigger.AT_ONCE) -> dict[StableId, Transition]:
    return {WEB: Transition(H1.locator, H2.locator, 5, trigger)}


def test_the_source_sees_a_departure_and_later_that_it_has_committed() -> None:
    destination = stable_address(FLEET, H2.stable_id)
    for place, epoch, is_committed in ((H1, 4, False), (H2, 5, True)):
        view = view_of(place, epoch, moving())
        assert find_departures(view, FLEET, H1.locator) == (
            Departure(WEB, 5, destination, is_committed),
        )
        assert find_arrivals(view, FLEET, H1.locator) == ()


def test_the_destination_sees_an_arrival_with_its_trigger() -> None:
    source = stable_address(FLEET, H1.stable_id)
    view = view_of(H1, 4, moving(MoveTrigger.LIFE))
    assert find_arrivals(view, FLEET, H2.locator) == (
        Arrival(WEB, 5, source, MoveTrigger.LIFE, False),
    )
    assert find_departures(view, FLEET, H2.locator) == ()


def test_others_see_neither() -> None:
    view = view_of(H1, 4, moving())
    assert find_departures(view, FLEET, H3.locator) == ()
    assert find_arrivals(view, FLEET, H3.locator) == ()


def relocated(place: Host, epoch: int) -> Batch:
    row = NamedLocation("web", Location(place.locator, Identity(2), epoch))
    return Batch(2, locations=(LocationChange(1, "red", False, {WEB: row}),))


def taken(view: View, batch: Batch, *, was_away: bool = False) -> dict[StableId, Taking]:
    delta = plan_delta(view, batch)
    return find_taken(view, delta, H1.locator, {WEB}, was_away=was_away)


def test_a_machine_that_leaves_without_a_move_was_taken() -> None:
    view = view_of(H1, 4, {})
    assert taken(view, relocated(H2, 5)) == {WEB: Taking("h2", 5)}
    assert taken(view, relocated(H1, 5)) == {}


@pytest.mark.parametrize(
    ("epoch", "is_taken"), [pytest.param(5, False, id="this"), pytest.param(6, True, id="a-later")]
)
def test_a_machine_that_leaves_with_the_move_that_was_heard_of_was_not(
    epoch: int, is_taken: bool
) -> None:
    """That another move was being prepared when this host went away says nothing."""
    view = view_of(H1, 4, moving())
    assert bool(taken(view, relocated(H2, epoch), was_away=True)) is is_taken


def test_a_machine_that_was_elsewhere_before_was_not_taken_from_here() -> None:
    assert taken(view_of(H2, 4, {}), relocated(H3, 5)) == {}


@pytest.mark.parametrize("was_away", [False, True])
def test_a_network_that_this_host_needs_no_longer_tells_of_a_taking_after_an_absence(
    was_away: bool,
) -> None:
    """Where the machine is now is not told; while connected, its deletion looks the same."""
    batch = Batch(2, dropped_networks=(1,))
    found = taken(view_of(H1, 4, {}), batch, was_away=was_away)
    assert found == ({WEB: Taking("", 4)} if was_away else {})
    assert taken(view_of(H1, 4, moving()), batch, was_away=was_away) == {}
