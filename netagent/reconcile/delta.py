"""From a batch to the least change of the view: guards, net effect, capacity.

The epoch guard: a row with an older epoch than the one held is ignored, and so is one that is not
newer than a removed one; a removal names the epoch it removes and leaves a newer one alone. So a
late message of a former owner can never touch the new one's rows. A table that comes whole is
control's present state and outweighs the memory of removals.

The revision guard: a batch from before the revision that is held changes nothing, however it came
here. Epochs alone would let it bring back the transition of a move that is over.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from netagent.model.addresses import HOST_NETWORK, StableId, network_of
from netagent.model.errors import ExhaustedError, InvalidError
from netagent.model.fleet import Host, Transition
from netagent.policy.capacity import check_capacity as check_policy_capacity
from netagent.reconcile.batch import Batch, NamedLocation
from netagent.reconcile.policies import find_dropped_policies, plan_policies
from netagent.reconcile.view import Delta, View


class _Versioned(Protocol):
    @property
    def epoch(self) -> int: ...


_R = TypeVar("_R", bound=_Versioned)


@dataclass(frozen=True, slots=True)
class Capacities:
    """How many rows each kernel table has room for."""

    locations: int
    transitions: int
    endpoints: int


class _Overlay(Generic[_R]):
    """Net effect on one network's table, while its changes are read in order."""

    def __init__(self, held: Mapping[StableId, _R]) -> None:
        self._held = held
        self._unnamed: set[StableId] = set()
        self._written: dict[StableId, _R] = {}
        self._removed: set[StableId] = set()
        self.is_whole = False

    def begin_whole(self) -> None:
        self.is_whole = True
        self._unnamed = {*self._held, *self._written}

    def current(self, stable_id: StableId) -> _R | None:
        if stable_id in self._removed:
            return None
        return self._written.get(stable_id) or self._held.get(stable_id)

    def put(self, stable_id: StableId, row: _R) -> None:
        self._unnamed.discard(stable_id)
        current = self.current(stable_id)
        if current is None or row.epoch >= current.epoch:
            self._removed.discard(stable_id)
            self._written[stable_id] = row

    def remove(self, stable_id: StableId, epoch: int) -> None:
        current = self.current(stable_id)
        if current is not None and current.epoch <= epoch:
            self._removed.add(stable_id)

    def result(self) -> tuple[dict[StableId, _R], dict[StableId, _R]]:
        """Return (rows that differ from what is held, held rows that go)."""
        gone = self._removed | self._unnamed
        written = {
            stable_id: row
            for stable_id, row in self._written.items()
            if stable_id not in gone and self._held.get(stable_id) != row
        }
        return written, {i: self._held[i] for i in sorted(gone) if i in self._held}


def plan_delta(view: View, batch: Batch) -> Delta:
    """Return what `batch` changes in `view`, which stays as it is.

    Raises InvalidError, naming the field, when the batch cannot be meant: a network or policy that
    is changed before it was sent whole, an id outside its network, two hosts with one locator, key
    or id, an entry of a class that is not there. Pure.
    """
    if batch.revision < view.revision and not batch.is_snapshot:
        return Delta(revision=view.revision)
    hosts, removed_hosts = _plan_hosts(view, batch)
    networks = _plan_networks(view, batch)
    named = {change.network for change in batch.locations}
    dropped = {number for number in batch.dropped_networks if number in view.networks} - named
    if batch.is_snapshot:
        dropped |= view.networks.keys() - named
    kept = networks.keys() | (view.networks.keys() - dropped)
    policies, dropped_policies = plan_policies(view, batch), find_dropped_policies(view, batch)
    delta = Delta(
        revision=batch.revision,
        hosts=hosts,
        removed_hosts=removed_hosts,
        networks={
            number: name
            for number, name in networks.items()
            if number not in view.networks or view.networks[number].name != name
        },
        dropped_networks=frozenset(dropped),
        policies=policies,
        dropped_policies=dropped_policies,
        former_policies={
            number: view.policies[number]
            for number in (*policies, *dropped_policies)
            if number in view.policies
        },
    )
    _plan_locations(view, batch, delta)
    _plan_transitions(view, batch, kept, delta)
    for number in dropped:
        delta.removed_locations.update(view.networks[number].locations)
        delta.removed_transitions.update(view.networks[number].transitions)
    return delta


def check_capacity(view: View, delta: Delta, endpoint_count: int, capacities: Capacities) -> None:
    """Raise ExhaustedError, with figures, when the kernel's tables have no room for `delta`.

    Transitions are written before old ones go, so both have to fit at once. Policies are compared
    with what they may need together, half of what the maps hold. Pure.
    """
    if delta.policies:
        after = view.policies | delta.policies
        check_policy_capacity(
            held.compiled for number, held in after.items() if number not in delta.dropped_policies
        )
    added_hosts = len(delta.hosts.keys() - view.hosts.keys())
    locations = (
        view.count_locations()
        + added_hosts
        - len(delta.removed_hosts)
        + sum(1 for stable_id in delta.locations if view.location(stable_id) is None)
        - len(delta.removed_locations)
    )
    transitions = view.count_transitions() + sum(
        1 for stable_id in delta.transitions if view.transition(stable_id) is None
    )
    for table, needed, capacity in (
        ("location", locations, capacities.locations),
        ("transition", transitions, capacities.transitions),
        ("endpoint", endpoint_count, capacities.endpoints),
    ):
        if needed > capacity:
            raise ExhaustedError(
                f"map {table}: {needed} entries are needed and {capacity} fit; nothing was written"
            )


def _plan_hosts(view: View, batch: Batch) -> tuple[dict[str, Host], dict[str, Host]]:
    if not (batch.hosts or batch.removed_hosts or batch.is_snapshot):
        return {}, {}
    sent = {host.name: host for host in batch.hosts}
    gone = set(view.hosts) if batch.is_snapshot else set(batch.removed_hosts)
    removed = {name: view.hosts[name] for name in sorted(gone - sent.keys()) if name in view.hosts}
    after = {name: host for name, host in view.hosts.items() if name not in removed} | sent
    _check_unique(after.values())
    return {name: host for name, host in sent.items() if view.hosts.get(name) != host}, removed


def _check_unique(hosts: Iterable[Host]) -> None:
    owners: dict[object, str] = {}
    for host in hosts:
        claims = {"locator": host.locator, "public_key": host.public_key, "id": host.stable_id}
        for claim, value in claims.items():
            owner = owners.setdefault((claim, value), host.name)
            if owner != host.name:
                raise InvalidError(f"hosts[{host.name}].{claim}", f"is also host {owner}'s")


def _plan_networks(view: View, batch: Batch) -> dict[int, str]:
    names: dict[int, str] = {}
    for change in batch.locations:
        if change.network == HOST_NETWORK:
            raise InvalidError("locations[0]", "hosts are sent as hosts, not as a table")
        is_new = change.network not in names and (
            batch.is_snapshot or change.network not in view.networks
        )
        if is_new and not change.is_whole:
            raise InvalidError(
                f"locations[{change.network}].whole",
                f"network {change.network_name} is not held, so its table has to come whole",
            )
        names[change.network] = change.network_name
    return names


def _plan_locations(view: View, batch: Batch, delta: Delta) -> None:
    overlays: dict[int, _Overlay[NamedLocation]] = {}
    for change in batch.locations:
        table = view.networks.get(change.network)
        overlay = overlays.setdefault(change.network, _Overlay(table.locations if table else {}))
        if change.is_whole:
            overlay.begin_whole()
        for stable_id, epoch in change.removed.items():
            _check_within("locations", change.network, stable_id)
            overlay.remove(stable_id, epoch)
            delta.remembered[stable_id] = max(epoch, delta.remembered.get(stable_id, 0))
        for stable_id, row in change.rows.items():
            _check_within("locations", change.network, stable_id)
            if row.holder is not None:
                _check_within("locations", change.network, row.holder)
            buried = delta.remembered.get(stable_id, -1)
            if not overlay.is_whole:
                buried = max(buried, view.tombstones.get(stable_id, -1))
            if row.epoch > buried:
                overlay.put(stable_id, row)
                delta.remembered.pop(stable_id, None)
    for overlay in overlays.values():
        written, removed = overlay.result()
        delta.locations.update(written)
        delta.removed_locations.update(removed)


def _plan_transitions(view: View, batch: Batch, kept: set[int], delta: Delta) -> None:
    overlays: dict[int, _Overlay[Transition]] = {}
    if batch.is_snapshot:
        for number in view.networks.keys() & kept:
            overlays[number] = _Overlay(view.networks[number].transitions)
            overlays[number].begin_whole()
    for change in batch.transitions:
        if change.network not in kept:
            raise InvalidError(
                f"transitions[{change.network}]", "the network's locations have not been sent"
            )
        table = view.networks.get(change.network)
        overlay = overlays.setdefault(change.network, _Overlay(table.transitions if table else {}))
        if change.is_whole:
            overlay.begin_whole()
        for stable_id, epoch in change.removed.items():
            _check_within("transitions", change.network, stable_id)
            overlay.remove(stable_id, epoch)
        for stable_id, row in change.rows.items():
            _check_within("transitions", change.network, stable_id)
            overlay.put(stable_id, row)
    for overlay in overlays.values():
        written, removed = overlay.result()
        delta.transitions.update(written)
        delta.removed_transitions.update(removed)


def _check_within(table: str, network: int, stable_id: StableId) -> None:
    if network_of(stable_id) != network:
        raise InvalidError(
            f"{table}[{network}].ids", f"{stable_id:016x} is of network {network_of(stable_id)}"
        )
