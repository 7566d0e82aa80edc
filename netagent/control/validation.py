"""What requests must satisfy beyond what reading them into the model checks."""

from __future__ import annotations

from collections.abc import Mapping

from netagent.control.view import Stored, View
from netagent.model.addresses import REGION_MAX, Fleet, make_locator
from netagent.model.errors import InvalidError, NotFoundError
from netagent.model.fleet import Endpoint, Host, Network, check_labels, check_name

LABELS_MAX = 64
CANDIDATES_MAX = 10

_FIELD_PRIME = (1 << 255) - 19
_ORDER_EIGHT = (
    325606250916557431795983626356110631294008115727848805560023387167927233504,
    39382357235489614581723060781553021112529911719440698176882885853963445705823,
)
_LOW_ORDER = frozenset({0, 1, *_ORDER_EIGHT, _FIELD_PRIME - 1, _FIELD_PRIME, _FIELD_PRIME + 1})
"""Points of Curve25519 with which every exchange gives the same, known secret (RFC 7748, 6.1)."""


def check_public_key(public_key: bytes) -> bytes:
    """Return a usable Curve25519 public key, 32 bytes; InvalidError otherwise."""
    if len(public_key) != 32:
        raise InvalidError("public_key", f"{len(public_key)} bytes; a Curve25519 key has 32")
    if int.from_bytes(public_key, "little") & ((1 << 255) - 1) in _LOW_ORDER:
        raise InvalidError("public_key", "is a point of low order; make a key with `wg genkey`")
    return public_key


def check_machine_labels(labels: Mapping[str, str]) -> dict[str, str]:
    """Return well-formed labels sorted by key; InvalidError for a bad one or too many."""
    if len(labels) > LABELS_MAX:
        raise InvalidError("labels", f"{len(labels)} labels; a machine has at most {LABELS_MAX}")
    return check_labels(labels)


def check_region(region: int) -> int:
    """Return a region number; InvalidError when it does not fit."""
    if region > REGION_MAX:
        raise InvalidError("region", f"{region} is not within 0 to {REGION_MAX}")
    return region


def check_underlay(fleet: Fleet, endpoint: Endpoint) -> Endpoint:
    """Return an endpoint that is outside the overlay: a tunnel cannot run through itself."""
    if endpoint.address.version == 6:
        is_locator = int(endpoint.address) >> 112 == make_locator(fleet, 0, 0) >> 48
        if endpoint.address in fleet.prefix or is_locator:
            raise InvalidError(
                "endpoint.address",
                f"{endpoint.address} is in the overlay; give an underlay address",
            )
    return endpoint


def find_host(view: View, field: str, name: str) -> Stored[Host]:
    """Return a host; NotFoundError names the request's field."""
    host = view.hosts.get(check_name(field, name))
    if host is None:
        raise NotFoundError(f"{field}: there is no host {name}")
    return host


def find_network(view: View, field: str, name: str) -> Stored[Network]:
    """Return a network; NotFoundError names the request's field."""
    network = view.networks.get(check_name(field, name))
    if network is None:
        raise NotFoundError(f"{field}: there is no network {name}")
    return network


def resolve_machine(view: View, machine: str, field: str = "machine") -> str:
    """Return NETWORK/NAME for what a request calls a machine: that, or a bare NAME.

    Raises InvalidError when it is no name or several networks have one of that name, NotFoundError
    when there is none; both name the request's field.
    """
    network, slash, name = machine.rpartition("/")
    check_name(field, name)
    if slash:
        check_name(field, network)
        if machine not in view.machines:
            if machine in view.addresses:
                raise NotFoundError(f"{field}: {machine} is a floating address, no machine")
            raise NotFoundError(f"{field}: there is no machine {machine}")
        return machine
    paths = sorted(view.paths_by_name.get(name, ()))
    if not paths:
        raise NotFoundError(f"{field}: there is no machine {name}")
    if len(paths) > 1:
        some = ", ".join(paths[:CANDIDATES_MAX]) + (", …" if len(paths) > CANDIDATES_MAX else "")
        raise InvalidError(field, f"{name} may be {some}; say which")
    return paths[0]
