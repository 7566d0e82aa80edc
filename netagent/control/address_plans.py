"""The transactions of floating addresses, and everything for which a wish is refused. Without I/O.

Whoever gives an address to a machine writes the machine's record as well, though it stays as it is:
so whoever deletes the machine meanwhile, without knowing of the address, finds it changed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from ipaddress import AddressValueError, IPv6Address

from netagent.control import keys
from netagent.control.allocation import DEFAULT_REGION, allocate_machine
from netagent.control.paging import check_etag
from netagent.control.records import MachineRecord, encode_address, encode_machine
from netagent.control.validation import CANDIDATES_MAX, find_network, resolve_machine
from netagent.control.view import Stored, View
from netagent.control.writer import Plan
from netagent.model.addresses import make_id, parse_stable_address
from netagent.model.errors import (
    ConflictError,
    ExhaustedError,
    ExistsError,
    InvalidError,
    NotFoundError,
)
from netagent.model.fleet import ASSIGNMENT_MAX, FloatingAddress, check_name
from netagent.store.contract import Compare, Delete, Operation, Put, Unchanged

HELD_MAX = 32
"""Most floating addresses of one machine: deleting it releases them in one transaction."""


@dataclass(frozen=True, slots=True)
class Expectation:
    """What a caller says of an address as it is; empty: anything.

    holder: NETWORK/NAME, or NAME in the address's network. etag: of the record.
    """

    holder: str = ""
    etag: str = ""


def resolve_address(view: View, text: str, field: str = "address") -> str:
    """Return NETWORK/NAME for what a request calls a floating address.

    text: NETWORK/NAME, a bare NAME, or the address itself. Raises InvalidError when it is no name
    or several networks have one of that name, NotFoundError when there is none.
    """
    if ":" in text:
        return _find_by_address(view, text, field)
    network, slash, name = text.rpartition("/")
    check_name(field, name)
    if slash:
        check_name(field, network)
        paths = [text] if text in view.addresses else []
    else:
        paths = [path for path, stored in view.addresses.items() if stored.value.name == name]
    if not paths:
        raise NotFoundError(f"{field}: there is no floating address {text}")
    if len(paths) > 1:
        some = ", ".join(paths[:CANDIDATES_MAX]) + (", …" if len(paths) > CANDIDATES_MAX else "")
        raise InvalidError(field, f"{name} may be {some}; say which")
    return paths[0]


def plan_creation(view: View, network_name: str, name: str, machine: str) -> Plan:
    """Record a new floating address; machine: who has it first, may be empty."""
    network = find_network(view, "network", network_name)
    path = f"{network_name}/{name}"
    if path in view.addresses:
        raise ExistsError(f"name: floating address {path} exists already")
    if path in view.machines:
        raise ExistsError(f"name: {path} is a machine; choose another name")
    holder = _find_holder(view, network_name, machine) if machine else None
    host = view.hosts.get(holder.value.machine.host or "") if holder is not None else None
    region = host.value.region if host is not None else DEFAULT_REGION
    number = allocate_machine(view, network.value.number, region)
    stable_id = make_id(network.value.number, region, number.number)
    address = FloatingAddress(network_name, name, stable_id)
    compares: list[Compare] = [
        *number.compares,
        Unchanged(keys.network_key(network_name), network.revision),
        Unchanged(keys.machine_key(path), 0),
        Unchanged(keys.id_key(stable_id), 0),
    ]
    operations = [*number.operations, Put(keys.id_key(stable_id), path.encode())]
    if holder is not None:
        address = replace(address, holder=holder.value.machine.name, epoch=1)
    return _with_holder(view, Stored(address, 0), holder, compares, operations)


def plan_assignment(view: View, text: str, machine: str, expected: Expectation) -> Plan:
    """Give an address to a machine; nothing when that has it already.

    Raises NotFoundError, InvalidError, ConflictError (etag, holder) and ExhaustedError.
    """
    stored = _find_expected(view, text, expected)
    address = stored.value
    holder = _find_holder(view, address.network, machine)
    if address.holder == holder.value.machine.name:
        return Plan((), ())
    assigned = replace(address, holder=holder.value.machine.name, epoch=_next_epoch(address))
    return _with_holder(view, Stored(assigned, stored.revision), holder, [], [])


def plan_release(view: View, text: str, expected: Expectation) -> Plan:
    """Take an address from its holder; nothing when nobody has it. Errors as plan_assignment."""
    stored = _find_expected(view, text, expected)
    if stored.value.holder is None:
        return Plan((), ())
    key = keys.address_key(stored.value.path)
    return Plan((Unchanged(key, stored.revision),), (Put(key, _release(stored.value)),))


def plan_deletion(view: View, text: str, etag: str) -> Plan:
    """Delete an address, whoever has it. Errors as plan_assignment."""
    stored = _find_expected(view, text, Expectation(etag=etag))
    key = keys.address_key(stored.value.path)
    return Plan(
        (Unchanged(key, stored.revision),),
        (Delete(key), Delete(keys.id_key(stored.value.stable_id))),
    )


def release_all(view: View, machine: str) -> tuple[list[Compare], list[Operation]]:
    """Return what a transaction that deletes a machine (NETWORK/NAME) has to add."""
    compares: list[Compare] = []
    operations: list[Operation] = []
    for path in view.held_by(machine):
        stored = view.addresses[path]
        compares.append(Unchanged(keys.address_key(path), stored.revision))
        operations.append(Put(keys.address_key(path), _release(stored.value)))
    return compares, operations


def _release(address: FloatingAddress) -> bytes:
    return encode_address(replace(address, holder=None, epoch=_next_epoch(address)))


def _next_epoch(address: FloatingAddress) -> int:
    if address.epoch >= ASSIGNMENT_MAX:
        raise ExhaustedError(
            f"address: {address.path} has been assigned {ASSIGNMENT_MAX:,} times; make another"
        )
    return address.epoch + 1


def _with_holder(
    view: View,
    stored: Stored[FloatingAddress],
    holder: Stored[MachineRecord] | None,
    compares: list[Compare],
    operations: list[Operation],
) -> Plan:
    """Add the address's record to a transaction, and what ties it to its holder."""
    key = keys.address_key(stored.value.path)
    compares.append(Unchanged(key, stored.revision))
    operations.append(Put(key, encode_address(stored.value)))
    if holder is not None:
        path = holder.value.machine.path
        if len(view.held_by(path)) >= HELD_MAX:
            raise ExhaustedError(f"machine: {path} has {HELD_MAX} floating addresses already")
        compares.append(Unchanged(keys.machine_key(path), holder.revision))
        operations.append(Put(keys.machine_key(path), encode_machine(holder.value)))
    return Plan(tuple(compares), tuple(operations))


def _find_expected(view: View, text: str, expected: Expectation) -> Stored[FloatingAddress]:
    """Return an address; ConflictError when it is not as the caller expects."""
    path = resolve_address(view, text)
    stored = view.addresses[path]
    check_etag(expected.etag, stored.revision, f"floating address {path}")
    if expected.holder:
        wanted = _in_network(stored.value.network, expected.holder)
        check_name("expected_holder", wanted.rpartition("/")[2])
        if stored.value.holder_path != wanted:
            has_it = stored.value.holder_path or "nobody"
            raise ConflictError(f"expected_holder: {has_it} has {path} now, not {wanted}")
    return stored


def _find_holder(view: View, network: str, machine: str) -> Stored[MachineRecord]:
    path = resolve_machine(view, _in_network(network, machine))
    found = view.machines[path]
    if found.value.machine.network != network:
        raise InvalidError(
            "machine", f"{path} is not of network {network}; an address stays within its network"
        )
    return found


def _in_network(network: str, machine: str) -> str:
    return machine if "/" in machine else f"{network}/{machine}"


def _find_by_address(view: View, text: str, field: str) -> str:
    try:
        stable_id = parse_stable_address(view.fleet, IPv6Address(text))
    except AddressValueError as error:
        raise InvalidError(field, f"{text!r} is no IPv6 address: {error}") from error
    path = view.paths_by_id.get(stable_id, "")
    if path not in view.addresses:
        what = f"machine {path}'s own" if path in view.machines else "nobody's"
        raise NotFoundError(f"{field}: {text} is {what}, no floating address")
    return path


def locate(view: View, address: FloatingAddress) -> str:
    """Return the name of the host where an address is; empty where that is nowhere."""
    holder = view.machines.get(address.holder_path) if address.holder_path is not None else None
    return (holder.value.machine.host or "") if holder is not None else ""
