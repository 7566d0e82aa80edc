"""The first transaction of a move, and everything for which a wish to move is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from netagent.control import keys
from netagent.control.paging import check_etag
from netagent.control.records import (
    READY_BOUND_S,
    MoveRecord,
    encode_machine,
    encode_move,
    encode_number,
)
from netagent.control.validation import find_host, resolve_machine
from netagent.control.view import View
from netagent.control.writer import Plan
from netagent.model.addresses import network_of
from netagent.model.errors import ExhaustedError, InvalidError, StateError
from netagent.model.fleet import EPOCH_MAX, Move, MovePhase, MoveTrigger
from netagent.store.contract import Exists, Put, Unchanged


@dataclass(frozen=True, slots=True)
class Wish:
    """What a caller wants moved. machine: NETWORK/NAME or NAME. etag: may be empty.

    is_source_dead: the caller vouches for it although the source's agent is connected.
    """

    machine: str
    destination: str
    etag: str = ""
    trigger: MoveTrigger = MoveTrigger.AT_ONCE
    ready_bound_s: float = READY_BOUND_S
    is_forced: bool = False
    is_source_dead: bool = False


def plan_begin(
    view: View,
    move_id: str,
    wish: Wish,
    is_connected: Callable[[str], bool],
    is_reporting: Callable[[str], bool],
) -> Plan:
    """Record a move in its first phase and tie the machine to its destination.

    is_connected, is_reporting: whether a host's agent holds a stream, and sends reports.
    Raises InvalidError, NotFoundError, ConflictError (etag) and StateError (moves already, the
    destination is away or too old, or a source that is to be forced is there); ExhaustedError.
    """
    path = resolve_machine(view, wish.machine)
    host = find_host(view, "destination", wish.destination)
    old = view.machines[path]
    check_etag(wish.etag, old.revision, f"machine {path}")
    record = old.value
    if record.move_id is not None:
        raise StateError(
            f"machine: {path} is on move {record.move_id} already; wait until that has settled"
        )
    if record.machine.host == wish.destination:
        raise InvalidError("destination", f"{path} is on host {wish.destination} already")
    source = record.machine.host or ""
    _check_force(wish, path, source, is_connected)
    if not is_connected(wish.destination):
        raise StateError(
            f"destination: the agent of host {wish.destination} is not connected; start it first"
        )
    if wish.trigger is MoveTrigger.LIFE and not is_reporting(wish.destination):
        raise StateError(
            f"trigger: the agent of host {wish.destination} does not watch for life; upgrade it, or"
            " use the trigger CALL"
        )
    epoch = max(record.machine.epoch, record.last_epoch) + 1
    if epoch > EPOCH_MAX:
        raise ExhaustedError(f"machine: {path} has been moved {EPOCH_MAX:,} times; make another")
    move = Move(
        move_id=move_id,
        machine=path,
        stable_id=record.machine.stable_id,
        source=source,
        destination=host.value.name,
        epoch=epoch,
        phase=MovePhase.PREPARING,
        trigger=wish.trigger,
        is_forced=wish.is_forced,
    )
    begun = replace(record, move_id=move_id, last_epoch=epoch)
    return Plan(
        (
            Unchanged(keys.machine_key(path), old.revision),
            Unchanged(keys.move_key(move_id), 0),
            Exists(keys.host_key(wish.destination)),
        ),
        (
            Put(keys.machine_key(path), encode_machine(begun)),
            Put(
                keys.move_key(move_id),
                encode_move(MoveRecord(move, ready_bound_s=wish.ready_bound_s)),
            ),
            Put(
                keys.at_key(wish.destination, path),
                encode_number(network_of(record.machine.stable_id)),
            ),
        ),
    )


def _check_force(wish: Wish, path: str, source: str, is_connected: Callable[[str], bool]) -> None:
    if wish.trigger is MoveTrigger.LIFE and (wish.is_forced or not source):
        raise InvalidError("trigger", "LIFE is for moves from one living host to another; use CALL")
    if not wish.is_forced:
        if wish.is_source_dead:
            raise InvalidError("source_is_dead", "is of meaning with `force` only")
        return
    if not source:
        raise InvalidError("force", f"{path} has no host that could be dead; leave it out")
    if is_connected(source) and not wish.is_source_dead:
        raise StateError(
            f"force: the agent of host {source} is connected, so {path} may well be running there;"
            " move it without force, or say with source_is_dead that it is not"
        )
