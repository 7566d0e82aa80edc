"""Records: what is written is read again, and what is not ours is named."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv6Address

import pytest

from netagent.control.records import (
    MachineRecord,
    MoveRecord,
    PolicyRecord,
    StoreFormatError,
    decode_fleet,
    decode_host,
    decode_machine,
    decode_move,
    decode_network,
    decode_policy,
    encode_fleet,
    encode_host,
    encode_machine,
    encode_move,
    encode_network,
    encode_policy,
    make_host,
)
from netagent.model.addresses import Fleet, make_id, random_prefix
from netagent.model.fleet import Endpoint, Identity, Machine, Move, MovePhase, MoveTrigger, Network

FLEET = Fleet("f", random_prefix())


@pytest.mark.parametrize("host", [None, "h1"])
@pytest.mark.parametrize("move_id", [None, "m1"])
def test_machines(host: str | None, move_id: str | None) -> None:
    machine = Machine("n", "m", make_id(1, 2, 3), Identity(9), {"a": "b"}, host, 7)
    record = MachineRecord(machine, move_id)

    assert decode_machine("n/m", encode_machine(record)) == record


@pytest.mark.parametrize("phase", list(MovePhase))
def test_moves(phase: MovePhase) -> None:
    move = Move("m1", "n/m", make_id(1, 2, 3), "", "h2", 7, phase)
    record = MoveRecord(move, ("h1", "h3"), ("h4",))

    assert decode_move("m1", encode_move(record)) == record


def test_moves_with_everything() -> None:
    move = Move(
        *("m1", "n/m", make_id(1, 2, 3), "h1", "h2", 7, MovePhase.ABORTED),
        trigger=MoveTrigger.LIFE,
        is_forced=True,
    )
    record = MoveRecord(
        move,
        is_called=True,
        ready_bound_s=5.5,
        carried=9,
        warnings=("late",),
        reason="no room",
    )

    assert decode_move("m1", encode_move(record)) == record


def test_records_of_the_first_release_mean_what_they_did() -> None:
    move = (
        b'{"machine":"n/m","id":5,"source":"h1","destination":"h2","epoch":7,"phase":"preparing",'
        b'"prepare_lagging":[],"settle_lagging":[]}'
    )
    machine = b'{"id":5,"identity":9,"labels":{},"host":"h1","epoch":7,"move":null}'

    held = decode_move("m1", move)
    assert (held.move.trigger, held.move.is_forced) == (MoveTrigger.AT_ONCE, False)
    assert (held.is_called, held.carried, held.reason) == (False, None, "")
    assert decode_machine("n/m", machine).last_epoch == 7


def test_fleets_hosts_and_networks() -> None:
    endpoint = Endpoint(IPv6Address("2001:db8::1"), 1)
    host = make_host(FLEET, "h1", 3, 4, bytes(range(32)), endpoint)

    assert decode_fleet(encode_fleet(FLEET)) == FLEET
    assert decode_host(FLEET, "h1", encode_host(host)) == host
    assert decode_network("n", encode_network(Network("n", 5))) == Network("n", 5)


def test_policies() -> None:
    record = PolicyRecord("n", 3, "network: n  # ü\n", {"a": 1, "b": 7}, 1_700_000_000.125, 2)

    assert decode_policy(3, encode_policy(record)) == record


@pytest.mark.parametrize("value", [b"", b"\xff", b"[]", b"1", b"null", b"{}", b'"x"'])
@pytest.mark.parametrize(
    ("decode", "what"),
    [
        (decode_fleet, "fleet"),
        (lambda value: decode_host(FLEET, "h1", value), "host h1"),
        (lambda value: decode_network("n", value), "network n"),
        (lambda value: decode_machine("n/m", value), "machine n/m"),
        (lambda value: decode_move("m1", value), "move m1"),
        (lambda value: decode_policy(3, value), "policy version 3"),
    ],
)
def test_what_is_not_ours_is_named(
    decode: Callable[[bytes], object], what: str, value: bytes
) -> None:
    with pytest.raises(StoreFormatError, match=f"record of {what} cannot be read"):
        decode(value)
