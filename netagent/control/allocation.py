"""Numbers that are given out once and not again soon.

Each scope of numbers has a cursor in the store. A number is taken by putting the record that uses
it and the cursor behind it in one transaction, which holds only if the cursor has not moved since.
Cursors only go up until they wrap, so a freed number comes back after all others of its scope.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from netagent.control import keys
from netagent.control.records import encode_number
from netagent.control.view import View
from netagent.model.addresses import HOST_NUMBER_MAX, NETWORK_MAX, NUMBER_MAX, make_id
from netagent.model.errors import ExhaustedError
from netagent.model.fleet import Identity
from netagent.policy.fleet import FIRST_MACHINE_IDENTITY, LAST_MACHINE_IDENTITY
from netagent.store.contract import Compare, Operation, Put, Unchanged

DEFAULT_REGION = 1
"""The region of machines that are created before they have a host."""


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


@dataclass(frozen=True, slots=True)
class Wanted:
    """An identity that is asked for: of a label set in a network, by the network's number.

    name: of the machine, when policies name it: then it has an identity of its own.
    """

    network: int
    labels: Mapping[str, str]
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Identities:
    """Identities in the order in which they were asked for; the rest as in Allocation."""

    numbers: tuple[Identity, ...]
    compares: tuple[Compare, ...]
    operations: tuple[Operation, ...]


def allocate_identity(
    view: View, network: int, labels: Mapping[str, str], name: str | None = None
) -> Allocation:
    """Return one identity; see allocate_identities."""
    found = allocate_identities(view, [Wanted(network, labels, name)])
    return Allocation(found.numbers[0], found.compares, found.operations)


def allocate_identities(view: View, wanted: Iterable[Wanted]) -> Identities:
    """Return identities, allocated where they are the first of their kind.

    Identities last as long as their network: two thousand million come before the first repeats.
    """
    cursor = view.numbers.get(keys.CURSOR_IDENTITY)
    following = cursor.value if cursor is not None else FIRST_MACHINE_IDENTITY
    found: dict[bytes, int] = {}
    compares: list[Compare] = []
    operations: list[Operation] = []
    ordered = [keys.identity_key(one.network, one.labels, one.name) for one in wanted]
    for key in dict.fromkeys(ordered):
        known = view.numbers.get(key)
        compares.append(Unchanged(key, known.revision if known is not None else 0))
        if known is not None:
            found[key] = known.value
            continue
        found[key] = following
        operations.append(Put(key, encode_number(following)))
        is_last = following == LAST_MACHINE_IDENTITY
        following = FIRST_MACHINE_IDENTITY if is_last else Identity(following + 1)
    if operations:
        revision = cursor.revision if cursor is not None else 0
        compares.append(Unchanged(keys.CURSOR_IDENTITY, revision))
        operations.append(Put(keys.CURSOR_IDENTITY, encode_number(following)))
    numbers = tuple(Identity(found[key]) for key in ordered)
    return Identities(numbers, tuple(compares), tuple(operations))


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
