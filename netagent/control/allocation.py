"""Numbers that are given out once and not again soon.

Each scope of numbers has a cursor in the store. A number is taken by putting the record that uses
it and the cursor behind it in one transaction, which holds only if the cursor has not moved since.
Cursors only go up until they wrap, so a freed number comes back after all others of its scope.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from netagent.control import keys
from netagent.control.records import encode_number
from netagent.control.view import View
from netagent.model.addresses import HOST_NUMBER_MAX, NETWORK_MAX, NUMBER_MAX, make_id
from netagent.model.errors import ExhaustedError
from netagent.model.fleet import IDENTITY_HOST, Identity
from netagent.store.contract import Compare, Operation, Put, Unchanged

DEFAULT_REGION = 1
"""The region of machines that are created before they have a host."""

IDENTITY_MAX = (1 << 32) - 1


@dataclass(frozen=True, slots=True)
class Allocation:
    """A number, and what the transaction that uses it must compare and write."""

    number: int
    compares: tuple[Compare, ...]
    operations: tuple[Operation, ...]


def allocate_network(view: View) -> Allocation:
    """Allocate a network number; 0 is the hosts'."""
    return _allocate(
        view, keys.CURSOR_NETWORK, 1, NETWORK_MAX, view.network_names.__contains__, "network number"
    )


def allocate_host(view: View, region: int) -> Allocation:
    """Allocate a host number in a region. Raises ExhaustedError."""
    used = {host.value.number for _, host in view.hosts.items() if host.value.region == region}
    return _allocate(
        view,
        keys.cursor_host_key(region),
        1,
        HOST_NUMBER_MAX,
        used.__contains__,
        f"host number in region {region}",
    )


def allocate_machine(view: View, network: int, region: int) -> Allocation:
    """Allocate a machine number in a network and region. Raises ExhaustedError."""
    return _allocate(
        view,
        keys.cursor_machine_key(network, region),
        1,
        NUMBER_MAX,
        lambda number: make_id(network, region, number) in view.paths_by_id,
        f"address in region {region} of the network",
    )


def allocate_identity(
    view: View, network: int, labels: Mapping[str, str], name: str | None = None
) -> Allocation:
    """Return the identity of a label set in a network, allocated when it is the first of its kind.

    name: of the machine, when policies name it: then it has an identity of its own.
    Identities last as long as their network.
    """
    key = keys.identity_key(network, labels, name)
    known = view.numbers.get(key)
    if known is not None:
        return Allocation(Identity(known.value), (Unchanged(key, known.revision),), ())
    new = _allocate(
        view,
        keys.CURSOR_IDENTITY,
        IDENTITY_HOST + 1,
        IDENTITY_MAX,
        lambda _: False,  # four thousand million label sets come before the first repeats
        "identity",
    )
    return Allocation(
        new.number,
        (*new.compares, Unchanged(key, 0)),
        (*new.operations, Put(key, encode_number(new.number))),
    )


def _allocate(
    view: View, cursor_key: bytes, least: int, most: int, is_used: Callable[[int], bool], what: str
) -> Allocation:
    cursor = view.numbers.get(cursor_key)
    first = cursor.value if cursor is not None else least
    count = most - least + 1
    number = next(
        (
            candidate
            for offset in range(count)
            if not is_used(candidate := least + (first - least + offset) % count)
        ),
        None,
    )
    if number is None:
        raise ExhaustedError(f"no {what} is left; delete what is not needed")
    following = number + 1 if number < most else least
    return Allocation(
        number,
        (Unchanged(cursor_key, cursor.revision if cursor is not None else 0),),
        (Put(cursor_key, encode_number(following)),),
    )
