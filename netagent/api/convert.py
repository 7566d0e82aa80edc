"""Between messages and the model: the nouns. Rows of sync are in convert_sync.

Reading validates: what a message may not hold raises InvalidError with the path of the field.
Fields that are output only are ignored where the caller sends them to control.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network

from netagent.api.control.v1 import host_service_pb2
from netagent.api.types.v1 import types_pb2
from netagent.model.addresses import (
    Fleet,
    Locator,
    locator_network,
    machine_mac,
    parse_stable_address,
    stable_address,
)
from netagent.model.errors import InvalidError
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
    check_labels,
    check_name,
)

_PHASES: Mapping[MovePhase, types_pb2.MovePhase] = {
    MovePhase.PREPARING: types_pb2.MOVE_PHASE_PREPARING,
    MovePhase.READY: types_pb2.MOVE_PHASE_READY,
    MovePhase.COMMITTED: types_pb2.MOVE_PHASE_COMMITTED,
    MovePhase.SETTLED: types_pb2.MOVE_PHASE_SETTLED,
    MovePhase.ABORTED: types_pb2.MOVE_PHASE_ABORTED,
}
_PHASES_READ = {number: phase for phase, number in _PHASES.items()}
_TRIGGERS: Mapping[MoveTrigger, types_pb2.MoveTrigger] = {
    MoveTrigger.AT_ONCE: types_pb2.MOVE_TRIGGER_AT_ONCE,
    MoveTrigger.CALL: types_pb2.MOVE_TRIGGER_CALL,
    MoveTrigger.LIFE: types_pb2.MOVE_TRIGGER_LIFE,
}
_TRIGGERS_READ = {
    types_pb2.MOVE_TRIGGER_UNSPECIFIED: MoveTrigger.AT_ONCE,
    **{number: trigger for trigger, number in _TRIGGERS.items()},
}


def fleet_to_message(fleet: Fleet) -> host_service_pb2.FleetParameters:
    """Return the fleet's parameters as a message."""
    return host_service_pb2.FleetParameters(
        fleet_id=fleet.fleet_id, prefix=str(fleet.prefix), locator_top=fleet.locator_top
    )


def fleet_from_message(message: host_service_pb2.FleetParameters) -> Fleet:
    """Return the fleet from its parameters."""
    if not message.fleet_id:
        raise InvalidError("fleet.fleet_id", "is empty")
    prefix = _network(message.prefix, "fleet.prefix")
    return Fleet(message.fleet_id, prefix, message.locator_top)


def endpoint_to_message(endpoint: Endpoint) -> types_pb2.Endpoint:
    """Return an underlay endpoint as a message."""
    return types_pb2.Endpoint(address=str(endpoint.address), port=endpoint.port)


def endpoint_from_message(message: types_pb2.Endpoint, field: str = "endpoint") -> Endpoint:
    """Return an underlay endpoint at which a host can be reached.

    field: path of the message, for errors. Raises InvalidError for what no peer can send to.
    """
    address = _address(message.address, f"{field}.address")
    reason = _unusable(address)
    if reason:
        raise InvalidError(f"{field}.address", f"{address} {reason}; give the host's own address")
    if not 0 < message.port <= 0xFFFF:
        raise InvalidError(f"{field}.port", f"{message.port} is not within 1 to 65535")
    return Endpoint(address, message.port)


def host_to_message(
    fleet: Fleet, host: Host, *, connected: bool = False, applied_revision: int = 0, etag: str = ""
) -> types_pb2.Host:
    """Return a host as a message."""
    return types_pb2.Host(
        name=host.name,
        region=host.region,
        number=host.number,
        public_key=host.public_key,
        endpoint=endpoint_to_message(host.endpoint),
        address=str(stable_address(fleet, host.stable_id)),
        locator=str(locator_network(host.locator)),
        connected=connected,
        applied_revision=applied_revision,
        etag=etag,
    )


def host_from_message(fleet: Fleet, message: types_pb2.Host) -> Host:
    """Return a host from a message that control has sent."""
    if len(message.public_key) != 32:
        raise InvalidError("host.public_key", f"{len(message.public_key)} bytes instead of 32")
    return Host(
        name=check_name("host.name", message.name),
        region=message.region,
        number=message.number,
        public_key=message.public_key,
        endpoint=endpoint_from_message(message.endpoint, "host.endpoint"),
        stable_id=parse_stable_address(fleet, _address6(message.address, "host.address")),
        locator=Locator(int(_network(message.locator, "host.locator").network_address) >> 64),
    )


def network_to_message(
    network: Network, *, machine_count: int = 0, etag: str = ""
) -> types_pb2.Network:
    """Return a network as a message."""
    return types_pb2.Network(
        name=network.name, number=network.number, machine_count=machine_count, etag=etag
    )


def network_from_message(message: types_pb2.Network) -> Network:
    """Return a network from a message that control has sent."""
    return Network(check_name("network.name", message.name), message.number)


def machine_to_message(
    fleet: Fleet, machine: Machine, *, floating: Sequence[str] = (), etag: str = ""
) -> types_pb2.Machine:
    """Return a machine as a message. floating: its floating addresses, NETWORK/NAME."""
    return types_pb2.Machine(
        network=machine.network,
        name=machine.name,
        address=str(stable_address(fleet, machine.stable_id)),
        labels=dict(machine.labels),
        host=machine.host or "",
        epoch=machine.epoch,
        identity=machine.identity,
        mac=machine_mac(machine.stable_id).hex(":"),
        floating_addresses=floating,
        etag=etag,
    )


def machine_from_message(fleet: Fleet, message: types_pb2.Machine) -> Machine:
    """Return a machine from a message that control has sent."""
    return Machine(
        network=check_name("machine.network", message.network),
        name=check_name("machine.name", message.name),
        stable_id=parse_stable_address(fleet, _address6(message.address, "machine.address")),
        identity=Identity(message.identity),
        labels=check_labels(message.labels),
        host=check_name("machine.host", message.host) if message.host else None,
        epoch=message.epoch,
    )


def address_to_message(
    fleet: Fleet, address: FloatingAddress, *, host: str = "", etag: str = ""
) -> types_pb2.FloatingAddress:
    """Return a floating address as a message. host: where its holder is."""
    return types_pb2.FloatingAddress(
        network=address.network,
        name=address.name,
        address=str(stable_address(fleet, address.stable_id)),
        holder=address.holder_path or "",
        host=host,
        epoch=address.epoch,
        etag=etag,
    )


def move_to_message(
    move: Move,
    *,
    carried: int | None = None,
    warnings: Sequence[str] = (),
    reason: str = "",
    is_called: bool = False,
) -> types_pb2.Move:
    """Return a move as a message; it does not carry the machine's id.

    carried: connections, None: not known. reason: why it was aborted. is_called: early.
    """
    return types_pb2.Move(
        move_id=move.move_id,
        machine=move.machine,
        source=move.source,
        destination=move.destination,
        epoch=move.epoch,
        phase=_PHASES[move.phase],
        trigger=_TRIGGERS[move.trigger],
        forced=move.is_forced,
        carried_connections=carried,
        warnings=warnings,
        abort_reason=reason,
        called=is_called,
    )


def phase_from_message(phase: types_pb2.MovePhase) -> MovePhase:
    """Return a phase of a move; InvalidError for one that this release does not know."""
    if phase not in _PHASES_READ:
        raise InvalidError("move.phase", f"{phase} is not a phase that this release knows")
    return _PHASES_READ[phase]


def trigger_to_message(trigger: MoveTrigger) -> types_pb2.MoveTrigger:
    """Return what commits a move, as a message has it."""
    return _TRIGGERS[trigger]


def trigger_from_message(trigger: types_pb2.MoveTrigger, field: str = "trigger") -> MoveTrigger:
    """Return what commits a move; InvalidError for what this release does not know."""
    if trigger not in _TRIGGERS_READ:
        raise InvalidError(field, f"{trigger} is not a trigger that this release knows")
    return _TRIGGERS_READ[trigger]


def _address(text: str, field: str) -> IPv4Address | IPv6Address:
    try:
        return ip_address(text)
    except ValueError as error:
        raise InvalidError(field, f"{text!r} is not an IPv4 or IPv6 address") from error


def _address6(text: str, field: str) -> IPv6Address:
    address = _address(text, field)
    if not isinstance(address, IPv6Address):
        raise InvalidError(field, f"{text!r} is not an IPv6 address")
    return address


def _network(text: str, field: str) -> IPv6Network:
    try:
        network = ip_network(text)
    except ValueError as error:
        raise InvalidError(field, f"{text!r} is not an IPv6 network") from error
    if not isinstance(network, IPv6Network) or network.prefixlen != 64:
        raise InvalidError(field, f"{text!r} is not an IPv6 /64")
    return network


def _unusable(address: IPv4Address | IPv6Address) -> str:
    """Return why nothing can be sent to an address by itself, or an empty text."""
    if address.is_unspecified:
        return "is the unspecified address"
    if address.is_multicast or address == IPv4Address("255.255.255.255"):
        return "is not the address of one host"
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return "is an IPv4 address in IPv6 form"
        if address.is_link_local or address.scope_id is not None:
            return "is valid on one link only"
    return ""
