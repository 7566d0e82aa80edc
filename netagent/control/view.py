"""The whole store in memory, with the indexes that services and the fan-out need.

Fed with the store's changes in order (netagent.control.feed), never written to by services: they
write to the store with compare-and-swap on what they saw here, and wait until the view has it.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from netagent.control import keys
from netagent.control.floating import follow_location, follow_transition
from netagent.control.identities import Identities
from netagent.control.interest import Interest, Need
from netagent.control.ordered import OrderedNames
from netagent.control.records import (
    MachineRecord,
    MoveRecord,
    PolicyRecord,
    decode_address,
    decode_host,
    decode_machine,
    decode_move,
    decode_network,
    decode_number,
    decode_policy,
)
from netagent.control.tables import REMOVED_MAX, LocationRow, NetworkTable, TransitionRow
from netagent.model.addresses import Fleet, Locator, StableId, network_of
from netagent.model.fleet import (
    ENDED_PHASES,
    Endpoint,
    FloatingAddress,
    Host,
    Location,
    Machine,
    Network,
    Transition,
)
from netagent.store.contract import Change, Changes, Item

_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class Stored(Generic[_Value]):
    """A record and the revision at which it last changed."""

    value: _Value
    revision: int


class Listener(Protocol):
    """Who hears of changes, synchronously, while one revision is taken in."""

    def host_changed(self, name: str) -> None:
        """Hear that a host was registered, changed or removed."""

    def row_changed(self, network: int, stable_id: StableId) -> None:
        """Hear that a row of a location or transition table changed or went."""

    def interest_changed(self, host: str, network: int) -> None:
        """Hear that a host may have begun or ceased to need a network, or its policy."""

    def move_changed(self, move_id: str) -> None:
        """Hear that a move was recorded in a phase, or forgotten."""

    def revision_reached(self, revision: int) -> None:
        """Hear that all of a revision has been taken in."""


class View:
    """Everything, as of `revision`.

    floor: the revision the view was first loaded at. hosts_floor: it knows the hosts that were
    removed after this revision.
    """

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.revision = 0
        self.floor = 0
        self.hosts: OrderedNames[Stored[Host]] = OrderedNames()
        self.networks: OrderedNames[Stored[Network]] = OrderedNames()
        self.network_names: dict[int, str] = {}
        self.machines: OrderedNames[Stored[MachineRecord]] = OrderedNames()
        self.moves: OrderedNames[Stored[MoveRecord]] = OrderedNames()
        self.addresses: OrderedNames[Stored[FloatingAddress]] = OrderedNames()
        self._held: dict[str, set[str]] = {}
        """Machine to its floating addresses, both NETWORK/NAME."""
        self.paths_by_name: dict[str, set[str]] = {}
        self.paths_by_id: dict[StableId, str] = {}
        self.paths_at: dict[str, set[str]] = {}
        self.interest = Interest()
        self.identities = Identities(self._has_own_identity)
        self.policies: OrderedNames[Stored[int]] = OrderedNames()
        self.policy_versions: dict[int, dict[int, bytes]] = {}
        self.changed_policies: set[str] = set()
        self.tables: dict[int, NetworkTable] = {}
        self.numbers: dict[bytes, Stored[int]] = {}
        self.machine_counts: Counter[int] = Counter()
        self._hosts_by_key: dict[bytes, str] = {}
        self._hosts_by_endpoint: dict[Endpoint, str] = {}
        self.removed_hosts: deque[tuple[int, str]] = deque()
        self.hosts_floor = 0
        self.listeners: list[Listener] = []
        self._at_network: dict[bytes, tuple[str, int]] = {}
        self._handlers: dict[bytes, Callable[[bytes, Item | None, int], None]] = {
            b"host": self._take_host,
            b"network": self._take_network,
            b"machine": self._take_machine,
            b"move": self._take_move,
            b"address": self._take_address,
            b"at": self._take_at,
            b"cursor": self._take_number,
            b"identity": self._take_number,
            b"id": self._take_id,
            b"policy": self._take_policy,
            b"policy-version": self._take_policy_version,
        }

    def load(self, items: tuple[Item, ...]) -> None:
        """Take in part of a first load; keys in any order but hosts before machines and moves."""
        for item in items:
            self._take(Change(item.key, item), item.mod_revision)

    def loaded(self, revision: int) -> None:
        """End the first load."""
        self.revision = self.floor = self.hosts_floor = revision
        for table in self.tables.values():
            table.removed_locations.floor = table.removed_transitions.floor = revision

    def apply(self, changes: Changes) -> None:
        """Take in one revision."""
        for change in changes.changes:
            self._take(change, changes.revision)
        self.revision = changes.revision
        self.announce()

    def announce(self) -> None:
        """Tell the listeners that what they heard so far is whole."""
        for listener in self.listeners:
            listener.revision_reached(self.revision)

    def table(self, network: int) -> NetworkTable:
        """Return the table of a network number, made when first asked for."""
        table = self.tables.get(network)
        if table is None:
            table = self.tables[network] = NetworkTable(self.floor)
        return table

    def host_of_key(self, public_key: bytes) -> str | None:
        """Return the name of the host that has a public key."""
        return self._hosts_by_key.get(public_key)

    def host_of_endpoint(self, endpoint: Endpoint) -> str | None:
        """Return the name of the host that listens at an endpoint."""
        return self._hosts_by_endpoint.get(endpoint)

    def policy(self, network: str) -> PolicyRecord | None:
        """Return a network's policy in force; None where none was ever applied."""
        version = self.policies.get(network)
        if version is None:
            return None
        return self.policy_version(self.networks[network].value.number, version.value)

    def policy_version(self, network: int, version: int) -> PolicyRecord | None:
        """Return one version of the policy of a network number; None when it is not kept."""
        value = self.policy_versions.get(network, {}).get(version)
        return decode_policy(version, value) if value is not None else None

    def set_reach(self, reach: Mapping[int, frozenset[int]]) -> None:
        """Take who may talk to whom: a host needs the networks that its own machines may reach."""
        self._interest_changed(self.interest.set_reach(reach))

    def held_by(self, machine: str) -> list[str]:
        """Return the floating addresses that a machine has, both NETWORK/NAME; sorted."""
        return sorted(self._held.get(machine, ()))

    def active_moves(self) -> list[str]:
        """Return the ids of moves that have not ended, oldest first."""
        return [
            move_id
            for move_id, move in self.moves.items()
            if move.value.move.phase not in ENDED_PHASES
        ]

    def _take(self, change: Change, revision: int) -> None:
        kind, _, rest = change.key[len(keys.ROOT) :].partition(b"/")
        handler = self._handlers.get(kind)
        if handler is not None:
            handler(
                rest if kind not in (b"cursor", b"identity") else change.key, change.item, revision
            )

    def _take_number(self, key: bytes, item: Item | None, revision: int) -> None:
        if item is None:
            self.numbers.pop(key, None)
        else:
            self.numbers[key] = Stored(decode_number(item.value), revision)

    def _has_own_identity(self, machine: Machine) -> bool:
        """Whether a machine's identity was allocated for it alone, by its name."""
        network = network_of(machine.stable_id)
        own = self.numbers.get(keys.identity_key(network, machine.labels, machine.name))
        return own is not None and own.value == machine.identity

    def _take_id(self, key: bytes, item: Item | None, revision: int) -> None:
        stable_id = StableId(int(key, 16))
        if item is None:
            self.paths_by_id.pop(stable_id, None)
        else:
            self.paths_by_id[stable_id] = item.value.decode()

    def _take_host(self, key: bytes, item: Item | None, revision: int) -> None:
        name = key.decode()
        old = self.hosts.get(name)
        if old is not None:
            self._hosts_by_key.pop(old.value.public_key, None)
            self._hosts_by_endpoint.pop(old.value.endpoint, None)
        if item is None:
            self.hosts.remove(name)
            self.removed_hosts.append((revision, name))
            if len(self.removed_hosts) > REMOVED_MAX:
                self.hosts_floor, _ = self.removed_hosts.popleft()
        else:
            host = decode_host(self.fleet, name, item.value)
            self.hosts.set(name, Stored(host, revision))
            self._hosts_by_key[host.public_key] = name
            self._hosts_by_endpoint[host.endpoint] = name
        for listener in self.listeners:
            listener.host_changed(name)

    def _take_network(self, key: bytes, item: Item | None, revision: int) -> None:
        name = key.decode()
        old = self.networks.get(name)
        if old is not None:
            self.network_names.pop(old.value.number, None)
        if item is None:
            self.networks.remove(name)
            self.changed_policies.add(name)
            if old is not None:
                self.tables.pop(old.value.number, None)
        else:
            network = decode_network(name, item.value)
            self.networks.set(name, Stored(network, revision))
            self.changed_policies.add(name)
            self.network_names[network.number] = name

    def _take_machine(self, key: bytes, item: Item | None, revision: int) -> None:
        path = key.decode()
        name = path.partition("/")[2]
        old = self.machines.get(path)
        record = decode_machine(path, item.value) if item is not None else None
        self.identities.replace(
            old.value.machine if old is not None else None,
            record.machine if record is not None else None,
        )
        if old is not None and (
            record is None or record.machine.stable_id != old.value.machine.stable_id
        ):
            self._set_location(old.value.machine.stable_id, None, revision)
        if record is None:
            if old is not None:
                self.machine_counts[network_of(old.value.machine.stable_id)] -= 1
            self.machines.remove(path)
            paths = self.paths_by_name.get(name, set())
            paths.discard(path)
            if not paths:
                self.paths_by_name.pop(name, None)
            self._place_held(path, revision)
            return
        if old is None:
            self.machine_counts[network_of(record.machine.stable_id)] += 1
        self.machines.set(path, Stored(record, revision))
        self.paths_by_name.setdefault(name, set()).add(path)
        machine = record.machine
        row = None
        if machine.host is not None:
            location = Location(self._locator(machine.host), machine.identity, machine.epoch)
            row = LocationRow(name, location, revision)
        self._set_location(machine.stable_id, row, revision)
        self._place_held(path, revision)

    def _take_move(self, key: bytes, item: Item | None, revision: int) -> None:
        move_id = key.decode()
        if item is None:
            self.moves.remove(move_id)
        else:
            record = decode_move(move_id, item.value)
            self.moves.set(move_id, Stored(record, revision))
            move = record.move
            row = None
            # Of a forced move there is none: whoever knows of it accepts the source no longer.
            if move.source and not move.is_forced and move.phase not in ENDED_PHASES:
                places = self._locator(move.source), self._locator(move.destination)
                row = TransitionRow(Transition(*places, move.epoch, move.trigger), revision)
            old = self.table(network_of(move.stable_id)).transitions.get(move.stable_id)
            if old is None or old.transition.epoch <= move.epoch:
                self._set_transition(move.stable_id, row, revision)
                self._place_held(move.machine, revision)
        for listener in self.listeners:
            listener.move_changed(move_id)

    def _take_address(self, key: bytes, item: Item | None, revision: int) -> None:
        path = key.decode()
        old = self.addresses.get(path)
        if old is not None:
            if old.value.holder_path is not None:
                self._held[old.value.holder_path].discard(path)
            if item is None:
                self._set_location(old.value.stable_id, None, revision)
                self._set_transition(old.value.stable_id, None, revision)
        if item is None:
            self.addresses.remove(path)
            return
        address = decode_address(path, item.value)
        self.addresses.set(path, Stored(address, revision))
        if address.holder_path is not None:
            self._held.setdefault(address.holder_path, set()).add(path)
        self._place_address(path, revision)

    def _place_held(self, machine: str, revision: int) -> None:
        """Have a machine's floating addresses follow it."""
        for path in self.held_by(machine):
            self._place_address(path, revision)

    def _place_address(self, path: str, revision: int) -> None:
        stored = self.addresses[path]
        address, location, transition = stored.value, None, None
        holder = self.machines.get(address.holder_path) if address.holder_path else None
        if holder is not None:
            holder_id = holder.value.machine.stable_id
            table = self.table(network_of(address.stable_id))
            if (row := table.locations.get(holder_id)) is not None:
                location = follow_location(address, stored.revision, holder_id, row)
            if (moving := table.transitions.get(holder_id)) is not None:
                transition = follow_transition(address, stored.revision, moving)
        self._set_location(address.stable_id, location, revision)
        self._set_transition(address.stable_id, transition, revision)

    def _take_policy(self, key: bytes, item: Item | None, revision: int) -> None:
        network = key.decode()
        self.changed_policies.add(network)
        if item is None:
            self.policies.remove(network)
        else:
            self.policies.set(network, Stored(decode_number(item.value), revision))

    def _take_policy_version(self, key: bytes, item: Item | None, revision: int) -> None:
        number, _, text = key.decode().partition("/")
        network, version = int(number, 16), int(text)
        versions = self.policy_versions.setdefault(network, {})
        if item is not None:
            versions[version] = item.value
            return
        versions.pop(version, None)
        if not versions:
            del self.policy_versions[network]

    def _take_at(self, key: bytes, item: Item | None, revision: int) -> None:
        host, _, path = key.decode().partition("/")
        if item is not None and key not in self._at_network:
            network = decode_number(item.value)
            self._at_network[key] = host, network
            self.paths_at.setdefault(host, set()).add(path)
            self._interest_changed(self.interest.add(host, network))
        elif item is None and key in self._at_network:
            host, network = self._at_network.pop(key)
            self.paths_at[host].discard(path)
            self._interest_changed(self.interest.remove(host, network))

    def _set_location(self, stable_id: StableId, row: LocationRow | None, revision: int) -> None:
        if self.table(network_of(stable_id)).set_location(stable_id, row, revision):
            self._row_changed(stable_id)

    def _set_transition(
        self, stable_id: StableId, row: TransitionRow | None, revision: int
    ) -> None:
        if self.table(network_of(stable_id)).set_transition(stable_id, row, revision):
            self._row_changed(stable_id)

    def _locator(self, host: str) -> Locator:
        return self.hosts[host].value.locator

    def _row_changed(self, stable_id: StableId) -> None:
        for listener in self.listeners:
            listener.row_changed(network_of(stable_id), stable_id)

    def _interest_changed(self, needs: Iterable[Need]) -> None:
        for host, network in sorted(needs):
            for listener in self.listeners:
                listener.interest_changed(host, network)
