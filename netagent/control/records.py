"""Records as they stand in the store: JSON, one object a key.

Decoding takes only what encoding wrote; a record that does not decode is a StoreFormatError, never
a default. Where a release added a field, the records of those before it mean what they did then.
"""

from __future__ import annotations

import json
import zlib
from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv6Network, ip_address
from typing import Any

from netagent.model.addresses import HOST_NETWORK, Fleet, StableId, make_id, make_locator
from netagent.model.errors import InvalidError, NetagentError
from netagent.model.fleet import (
    Endpoint,
    FloatingAddress,
    Host,
    Identity,
    Machine,
    Move,
    MovePhase,
    MoveTrigger,
    Network,
)

READY_BOUND_S = 3600.0
"""How long a move waits for its trigger unless it says otherwise."""


class StoreFormatError(NetagentError):
    """The store holds something that this release did not write."""


@dataclass(frozen=True, slots=True)
class MachineRecord:
    """A machine and the move it is on; move_id is None while it does not move.

    last_epoch: the newest that any move of it had, also one that was undone: none is used twice, so
    what is late of an undone move can never be taken for the next one's.
    """

    machine: Machine
    move_id: str | None
    last_epoch: int = 0


@dataclass(frozen=True, slots=True)
class MoveRecord:
    """A move, and how it went.

    prepare_lagging, settle_lagging: the hosts that its phases' bounds have overtaken.
    is_called: somebody said that the machine is at the destination, before all was prepared.
    ready_bound_s: how long it waits for its trigger.
    carried: how many connections the source has carried; None: it has not said.
    warnings: what went less well. reason: why it was undone, or empty.
    """

    move: Move
    prepare_lagging: tuple[str, ...] = ()
    settle_lagging: tuple[str, ...] = ()
    is_called: bool = False
    ready_bound_s: float = READY_BOUND_S
    carried: int | None = None
    warnings: tuple[str, ...] = ()
    reason: str = ""


@dataclass(frozen=True, slots=True)
class PolicyRecord:
    """One version of a network's policy.

    text: YAML; empty for the built-in policy. numbers: of its rules, by name. applied_at_s: Unix.
    rolled_back_to: the version whose text this is, or None.
    """

    network: str
    version: int
    text: str
    numbers: Mapping[str, int]
    applied_at_s: float
    rolled_back_to: int | None = None


def encode_fleet(fleet: Fleet) -> bytes:
    """Return the fleet as it is stored."""
    return _encode(fleet_id=fleet.fleet_id, prefix=str(fleet.prefix), locator_top=fleet.locator_top)


def decode_fleet(value: bytes) -> Fleet:
    """Return the fleet from what is stored."""
    with _reading("fleet", value) as fields:
        return Fleet(fields["fleet_id"], IPv6Network(fields["prefix"]), fields["locator_top"])


def make_host(
    fleet: Fleet, name: str, region: int, number: int, public_key: bytes, endpoint: Endpoint
) -> Host:
    """Return a host with what follows from its numbers: stable id and locator."""
    return Host(
        name=name,
        region=region,
        number=number,
        public_key=public_key,
        endpoint=endpoint,
        stable_id=make_id(HOST_NETWORK, region, number),
        locator=make_locator(fleet, region, number),
    )


def encode_host(host: Host) -> bytes:
    """Return a host as it is stored."""
    return _encode(
        region=host.region,
        number=host.number,
        public_key=host.public_key.hex(),
        address=str(host.endpoint.address),
        port=host.endpoint.port,
    )


def decode_host(fleet: Fleet, name: str, value: bytes) -> Host:
    """Return a host from what is stored."""
    with _reading(f"host {name}", value) as fields:
        return make_host(
            fleet,
            name,
            fields["region"],
            fields["number"],
            bytes.fromhex(fields["public_key"]),
            Endpoint(ip_address(fields["address"]), fields["port"]),
        )


def encode_network(network: Network) -> bytes:
    """Return a network as it is stored."""
    return _encode(number=network.number)


def decode_network(name: str, value: bytes) -> Network:
    """Return a network from what is stored."""
    with _reading(f"network {name}", value) as fields:
        return Network(name, fields["number"])


def encode_machine(record: MachineRecord) -> bytes:
    """Return a machine as it is stored."""
    machine = record.machine
    return _encode(
        id=machine.stable_id,
        identity=machine.identity,
        labels=dict(machine.labels),
        host=machine.host,
        epoch=machine.epoch,
        move=record.move_id,
        last_epoch=record.last_epoch,
    )


def decode_machine(path: str, value: bytes) -> MachineRecord:
    """Return a machine from what is stored. path: NETWORK/NAME."""
    network, _, name = path.partition("/")
    with _reading(f"machine {path}", value) as fields:
        machine = Machine(
            network=network,
            name=name,
            stable_id=StableId(fields["id"]),
            identity=Identity(fields["identity"]),
            labels=fields["labels"],
            host=fields["host"],
            epoch=fields["epoch"],
        )
        return MachineRecord(machine, fields["move"], fields.get("last_epoch", machine.epoch))


def encode_address(address: FloatingAddress) -> bytes:
    """Return a floating address as it is stored."""
    return _encode(id=address.stable_id, holder=address.holder, epoch=address.epoch)


def decode_address(path: str, value: bytes) -> FloatingAddress:
    """Return a floating address from what is stored. path: NETWORK/NAME."""
    network, _, name = path.partition("/")
    with _reading(f"address {path}", value) as fields:
        return FloatingAddress(
            network, name, StableId(fields["id"]), fields["holder"], fields["epoch"]
        )


def encode_move(record: MoveRecord) -> bytes:
    """Return a move as it is stored."""
    move = record.move
    return _encode(
        machine=move.machine,
        id=move.stable_id,
        source=move.source,
        destination=move.destination,
        epoch=move.epoch,
        phase=move.phase.value,
        prepare_lagging=list(record.prepare_lagging),
        settle_lagging=list(record.settle_lagging),
        trigger=move.trigger.value,
        is_forced=move.is_forced,
        is_called=record.is_called,
        ready_bound_s=record.ready_bound_s,
        carried=record.carried,
        warnings=list(record.warnings),
        reason=record.reason,
    )


def decode_move(move_id: str, value: bytes) -> MoveRecord:
    """Return a move from what is stored."""
    with _reading(f"move {move_id}", value) as fields:
        move = Move(
            move_id=move_id,
            machine=fields["machine"],
            stable_id=StableId(fields["id"]),
            source=fields["source"],
            destination=fields["destination"],
            epoch=fields["epoch"],
            phase=MovePhase(fields["phase"]),
            trigger=MoveTrigger(fields.get("trigger", MoveTrigger.AT_ONCE.value)),
            is_forced=fields.get("is_forced", False),
        )
        return MoveRecord(
            move,
            tuple(fields["prepare_lagging"]),
            tuple(fields["settle_lagging"]),
            is_called=fields.get("is_called", False),
            ready_bound_s=fields.get("ready_bound_s", READY_BOUND_S),
            carried=fields.get("carried"),
            warnings=tuple(fields.get("warnings", ())),
            reason=fields.get("reason", ""),
        )


def encode_policy(record: PolicyRecord) -> bytes:
    """Return a version of a policy as it is stored: a hundred of each are held in memory so."""
    return _encode(
        network=record.network,
        text_zlib=b64encode(zlib.compress(record.text.encode())).decode(),
        numbers=dict(record.numbers),
        applied_at_s=record.applied_at_s,
        rolled_back_to=record.rolled_back_to,
    )


def decode_policy(version: int, value: bytes) -> PolicyRecord:
    """Return a version of a policy from what is stored."""
    with _reading(f"policy version {version}", value) as fields:
        return PolicyRecord(
            network=fields["network"],
            version=version,
            text=zlib.decompress(b64decode(fields["text_zlib"], validate=True)).decode(),
            numbers=fields["numbers"],
            applied_at_s=fields["applied_at_s"],
            rolled_back_to=fields["rolled_back_to"],
        )


def encode_number(number: int) -> bytes:
    """Return a number (cursor, identity) as it is stored."""
    return str(number).encode()


def decode_number(value: bytes) -> int:
    """Return a number from what is stored."""
    return int(value)


def _encode(**fields: object) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode()


@contextmanager
def _reading(what: str, value: bytes) -> Iterator[dict[str, Any]]:
    """Give the fields of a record; what goes wrong with them is a StoreFormatError."""
    try:
        yield json.loads(value)
    except (InvalidError, KeyError, TypeError, ValueError, zlib.error) as error:
        raise StoreFormatError(
            f"the store's record of {what} cannot be read ({error!r}); was it written by a newer"
            " release?"
        ) from error
