"""What the agent holds of the fleet and of its policies: the desired state, as control told it.

Changed by whole deltas only (see delta.py), so it is always the state at one revision. It lives in
memory and knows neither the kernel nor the replica.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

from netagent.model.addresses import HOST_NETWORK, Locator, StableId, network_of
from netagent.model.fleet import IDENTITY_HOST, Host, Location, Transition
from netagent.policy.entries import DEFAULT_RULE, CompiledPolicy
from netagent.reconcile.batch import NamedLocation

TOMBSTONES_MAX = 65_536
"""Removed ids whose epoch is remembered, so that an older row cannot bring them back."""


@dataclass(slots=True)
class NetworkTable:
    """One network's rows by id, and its machines' (no floating addresses') ids by name."""

    name: str
    ids: dict[str, StableId] = field(default_factory=dict)
    locations: dict[StableId, NamedLocation] = field(default_factory=dict)
    transitions: dict[StableId, Transition] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class HeldPolicy:
    """One network's policy. content: what control calls it; two called alike are alike."""

    compiled: CompiledPolicy
    content: bytes


@dataclass(frozen=True, slots=True)
class Delta:
    """The least that brings a view from one revision to the next; see plan_delta.

    removed_locations, removed_transitions: what was held, by id.
    remembered: id -> epoch of rows that control removed by id.
    policies: by network number, those that change, and share what stays with what they were.
    former_policies: what was held of these and of the dropped ones.
    """

    revision: int
    hosts: dict[str, Host] = field(default_factory=dict)
    removed_hosts: dict[str, Host] = field(default_factory=dict)
    networks: dict[int, str] = field(default_factory=dict)
    dropped_networks: frozenset[int] = frozenset()
    locations: dict[StableId, NamedLocation] = field(default_factory=dict)
    removed_locations: dict[StableId, NamedLocation] = field(default_factory=dict)
    transitions: dict[StableId, Transition] = field(default_factory=dict)
    removed_transitions: dict[StableId, Transition] = field(default_factory=dict)
    remembered: dict[StableId, int] = field(default_factory=dict)
    policies: dict[int, HeldPolicy] = field(default_factory=dict)
    dropped_policies: frozenset[int] = frozenset()
    former_policies: dict[int, HeldPolicy] = field(default_factory=dict)

    @property
    def is_empty(self) -> bool:
        """Whether nothing but the revision changes."""
        return not (
            self.hosts
            or self.removed_hosts
            or self.networks
            or self.dropped_networks
            or self.locations
            or self.removed_locations
            or self.transitions
            or self.removed_transitions
            or self.policies
            or self.dropped_policies
        )

    @property
    def touched(self) -> set[StableId]:
        """Ids of machines whose location or transition changes."""
        return {
            *self.locations,
            *self.removed_locations,
            *self.transitions,
            *self.removed_transitions,
        }


def host_location(host: Host) -> Location:
    """Return the location row of a host's own stable id."""
    return Location(locator=host.locator, identity=IDENTITY_HOST, epoch=0)


class View:
    """Hosts, networks, locations, transitions and policies at `revision`.

    policies: by network number; not every network that is held has one here.
    """

    def __init__(self) -> None:
        self.revision = 0
        self.hosts: dict[str, Host] = {}
        self.networks: dict[int, NetworkTable] = {}
        self.policies: dict[int, HeldPolicy] = {}
        self.tombstones: OrderedDict[StableId, int] = OrderedDict()
        self._host_ids: dict[StableId, Host] = {}
        self._holders: dict[StableId, StableId] = {}

    def location(self, stable_id: StableId) -> Location | None:
        """Return where an id is; hosts are where they are."""
        if network_of(stable_id) == HOST_NETWORK:
            host = self._host_ids.get(stable_id)
            return host_location(host) if host else None
        table = self.networks.get(network_of(stable_id))
        row = table.locations.get(stable_id) if table else None
        return row.location if row else None

    def transition(self, stable_id: StableId) -> Transition | None:
        """Return the transition of an id on the move."""
        table = self.networks.get(network_of(stable_id))
        return table.transitions.get(stable_id) if table else None

    def holder(self, stable_id: StableId) -> StableId | None:
        """Return the machine that has a floating address; None for a machine's own."""
        return self._holders.get(stable_id)

    def floating(self) -> dict[StableId, StableId]:
        """Return floating addresses, each with the machine that has it. Any thread may ask."""
        return self._holders.copy()

    def held_by(self, machine: StableId) -> tuple[StableId, ...]:
        """Return the floating addresses that a machine has, ascending. Any thread may ask."""
        return tuple(sorted(i for i, holder in self.floating().items() if holder == machine))

    def locations(self) -> dict[StableId, Location]:
        """Return the whole location table as the kernel should hold it."""
        rows = {host.stable_id: host_location(host) for host in self.hosts.values()}
        for table in self.networks.values():
            rows.update((stable_id, row.location) for stable_id, row in table.locations.items())
        return rows

    def transitions(self) -> dict[StableId, Transition]:
        """Return the whole transition table."""
        return {
            stable_id: row
            for table in self.networks.values()
            for stable_id, row in table.transitions.items()
        }

    def count_locations(self) -> int:
        """Return how many rows `locations` has."""
        return len(self.hosts) + sum(len(table.locations) for table in self.networks.values())

    def count_transitions(self) -> int:
        """Return how many rows `transitions` has."""
        return sum(len(table.transitions) for table in self.networks.values())

    def find_host(self, locator: Locator) -> Host | None:
        """Return the host that a locator stands for."""
        return next((host for host in self.hosts.values() if host.locator == locator), None)

    def find_machines(self, name: str) -> list[tuple[str, StableId]]:
        """Return (NETWORK/NAME, id) of every machine that `name` may mean, sorted.

        name: NETWORK/NAME, or NAME for that name in every network held.
        """
        network, _, machine = name.rpartition("/")
        return sorted(
            (f"{table.name}/{machine}", table.ids[machine])
            for table in self.networks.values()
            if machine in table.ids and network in ("", table.name)
        )

    def party_name(self, stable_id: StableId) -> str:
        """Return NETWORK/NAME of a machine, `host:NAME` of a host, empty of one not held.

        Any thread may ask, as for network_name and rule_name.
        """
        if network_of(stable_id) == HOST_NETWORK:
            host = self._host_ids.get(stable_id)
            return f"host:{host.name}" if host else ""
        table = self.networks.get(network_of(stable_id))
        row = table.locations.get(stable_id) if table else None
        return f"{table.name}/{row.name}" if table and row else ""

    def network_name(self, number: int) -> str:
        """Return a network's name; of one not held its number."""
        if (held := self.policies.get(number)) is not None:
            return held.compiled.network
        table = self.networks.get(number)
        return table.name if table else str(number)

    def rule_name(self, network: int, number: int) -> str:
        """Return a rule's name, empty for the default; of a rule that is gone its number."""
        if number == DEFAULT_RULE:
            return ""
        held = self.policies.get(network)
        return (held.compiled.rules if held else {}).get(number, f"rule {number}")

    def apply(self, delta: Delta) -> None:
        """Take a delta that plan_delta made from this very state."""
        for name in delta.removed_hosts:
            del self.hosts[name]
        self.hosts.update(delta.hosts)
        if delta.hosts or delta.removed_hosts:
            self._host_ids = {host.stable_id: host for host in self.hosts.values()}
        for number in delta.dropped_networks:
            del self.networks[number]
        for number, name in delta.networks.items():
            self.networks.setdefault(number, NetworkTable(name)).name = name
        for stable_id, removed in delta.removed_locations.items():
            if table := self.networks.get(network_of(stable_id)):
                del table.locations[stable_id]
                if table.ids.get(removed.name) == stable_id:
                    del table.ids[removed.name]
            self._holders.pop(stable_id, None)
        for stable_id in delta.removed_transitions:
            if table := self.networks.get(network_of(stable_id)):
                del table.transitions[stable_id]
        for stable_id, row in delta.locations.items():
            table = self.networks[network_of(stable_id)]
            table.locations[stable_id] = row
            if row.holder is None:
                table.ids[row.name] = stable_id
                self._holders.pop(stable_id, None)
            else:
                self._holders[stable_id] = row.holder
            self.tombstones.pop(stable_id, None)
        for stable_id, transition in delta.transitions.items():
            self.networks[network_of(stable_id)].transitions[stable_id] = transition
        for stable_id, epoch in delta.remembered.items():
            self.tombstones[stable_id] = max(epoch, self.tombstones.get(stable_id, 0))
            self.tombstones.move_to_end(stable_id)
        while len(self.tombstones) > TOMBSTONES_MAX:
            self.tombstones.popitem(last=False)
        for number in delta.dropped_policies:
            del self.policies[number]
        self.policies.update(delta.policies)
        self.revision = delta.revision
