"""Numbers: the cursor goes up, wraps, passes over what is used, and says when nothing is left."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest

from netagent.control import keys
from netagent.control.allocation import (
    Wanted,
    allocate_host,
    allocate_identities,
    allocate_identity,
    allocate_machine,
    allocate_network,
)
from netagent.control.records import encode_host, encode_network, encode_number, make_host
from netagent.control.view import View
from netagent.model.addresses import NUMBER_MAX, Fleet, make_id, random_prefix
from netagent.model.errors import ExhaustedError
from netagent.model.fleet import Endpoint, Network
from netagent.policy.fleet import FIRST_MACHINE_IDENTITY, LAST_MACHINE_IDENTITY
from netagent.store.contract import Change, Changes, Item, Put, Unchanged

FLEET = Fleet("f", random_prefix())


def make_view(*puts: Put) -> View:
    view = View(FLEET)
    view.loaded(1)
    put(view, *puts)
    return view


def put(view: View, *puts: Put) -> None:
    revision = view.revision + 1
    items = (Item(p.key, p.value, revision, revision, 1) for p in puts)
    view.apply(Changes(revision, tuple(Change(item.key, item) for item in items)))


def cursor(key: bytes, number: int) -> Put:
    return Put(key, encode_number(number))


def test_the_first_number_is_1_and_guards_against_another_first() -> None:
    allocation = allocate_network(make_view())

    assert allocation.number == 1
    assert allocation.compares == (Unchanged(keys.CURSOR_NETWORK, 0),)
    assert allocation.operations == (cursor(keys.CURSOR_NETWORK, 2),)


def test_the_next_number_is_the_cursors_whatever_is_free() -> None:
    view = make_view(cursor(keys.CURSOR_NETWORK, 7))

    allocation = allocate_network(view)

    assert allocation.number == 7
    assert allocation.compares == (Unchanged(keys.CURSOR_NETWORK, 2),)


def test_used_numbers_are_passed_over() -> None:
    view = make_view(cursor(keys.CURSOR_NETWORK, 7))
    put(
        view, *(Put(keys.network_key(f"n{n}"), encode_network(Network(f"n{n}", n))) for n in (7, 8))
    )

    assert allocate_network(view).number == 9


def test_the_cursor_wraps_to_1() -> None:
    key = keys.cursor_machine_key(5, 2)
    view = make_view(cursor(key, NUMBER_MAX))

    allocation = allocate_machine(view, 5, 2)
    put(view, *allocation.operations, Put(keys.id_key(make_id(5, 2, NUMBER_MAX)), b"n/m"))
    put(view, Put(keys.id_key(make_id(5, 2, 1)), b"n/old"))

    assert allocation.number == NUMBER_MAX
    assert allocate_machine(view, 5, 2).number == 2


def test_regions_and_networks_count_for_themselves() -> None:
    view = make_view(cursor(keys.cursor_machine_key(5, 2), 9))

    assert allocate_machine(view, 5, 2).number == 9
    assert allocate_machine(view, 5, 3).number == 1
    assert allocate_machine(view, 6, 2).number == 1


def test_a_full_region_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("netagent.control.allocation.HOST_NUMBER_MAX", 3)
    hosts = [
        make_host(FLEET, f"h{n}", 1, n, bytes([n]) * 32, Endpoint(IPv4Address(f"192.0.2.{n}"), 1))
        for n in (1, 2, 3)
    ]
    view = make_view(*(Put(keys.host_key(host.name), encode_host(host)) for host in hosts))

    with pytest.raises(ExhaustedError, match="no host number in region 1 is left"):
        allocate_host(view, 1)

    assert allocate_host(view, 2).number == 1


def test_an_identity_is_found_again_whatever_the_order_of_labels() -> None:
    view = make_view()
    first = allocate_identity(view, 5, {"a": "1", "b": "2"})
    put(view, *first.operations)

    again = allocate_identity(view, 5, {"b": "2", "a": "1"})
    other = allocate_identity(view, 6, {"a": "1", "b": "2"})

    assert first.number == again.number == 2
    assert again.operations == ()
    assert other.number == 3


def test_a_named_machine_has_an_identity_that_its_labels_do_not_give() -> None:
    view = make_view()

    several = allocate_identities(
        view,
        [
            Wanted(1, {"app": "web"}),
            Wanted(1, {"app": "web"}, "web-1"),
            Wanted(1, {"app": "web"}, "web-2"),
            Wanted(1, {"app": "web"}),
            Wanted(2, {"app": "web"}),
        ],
    )

    assert several.numbers == (2, 3, 4, 2, 5)
    put(view, *(one for one in several.operations if isinstance(one, Put)))
    assert allocate_identity(view, 1, {"app": "web"}, "web-2").number == 4
    assert allocate_identity(view, 1, {"app": "web"}).operations == ()
    assert allocate_identity(view, 1, {"app": "db"}).number == 6


def test_identities_stay_below_those_of_outside_addresses() -> None:
    view = make_view(cursor(keys.CURSOR_IDENTITY, LAST_MACHINE_IDENTITY))

    several = allocate_identities(view, [Wanted(1, {"n": "1"}), Wanted(1, {"n": "2"})])

    assert several.numbers == (LAST_MACHINE_IDENTITY, FIRST_MACHINE_IDENTITY)
