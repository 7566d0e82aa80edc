"""What one agent has yet to be told: keys, never values.

So the memory of a slow agent is bounded by the keys that it needs, and it always gets the newest
state of each. One batch is out at a time; what changes meanwhile collects for the next.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from netagent.control.policy_tables import PolicyTables
from netagent.control.published import Published
from netagent.control.view import View
from netagent.model.addresses import StableId
from netagent.model.fleet import Identity
from netagent.policy.fleet import IdentityRecord

ROWS_OWED_MAX = 65_536
"""Most rows that are owed one by one; machines that come and go would add up without end."""


@dataclass(slots=True)
class Owed:
    """Keys of hosts, of networks' rows, of networks as a whole, and of networks to drop.

    since: up to this revision the agent has been told; rows go out only if they are newer.
    policies, dropped_policies: numbers of networks.
    """

    since: int
    hosts: set[str] = field(default_factory=set)
    rows: dict[int, set[StableId]] = field(default_factory=dict)
    whole: set[int] = field(default_factory=set)
    dropped: set[int] = field(default_factory=set)
    policies: set[int] = field(default_factory=set)
    dropped_policies: set[int] = field(default_factory=set)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is owed."""
        return not (
            self.hosts
            or self.rows
            or self.whole
            or self.dropped
            or self.policies
            or self.dropped_policies
        )

    def add_row(self, network: int, stable_id: StableId) -> None:
        """Owe a row, unless its network goes as a whole or not at all."""
        if network in self.whole or network in self.dropped:
            return
        ids = self.rows.setdefault(network, set())
        ids.add(stable_id)
        if len(ids) > ROWS_OWED_MAX:
            self.add_whole(network)

    def add_whole(self, network: int) -> None:
        """Owe a network as a whole."""
        self.dropped.discard(network)
        self.rows.pop(network, None)
        self.whole.add(network)

    def add_drop(self, network: int) -> None:
        """Owe that a network is needed no longer."""
        self.whole.discard(network)
        self.rows.pop(network, None)
        self.dropped.add(network)

    def add_policy(self, network: int) -> None:
        """Owe a network's policy."""
        self.dropped_policies.discard(network)
        self.policies.add(network)

    def add_policy_drop(self, network: int) -> None:
        """Owe that a network's policy is needed no longer."""
        self.policies.discard(network)
        self.dropped_policies.add(network)


@dataclass(frozen=True, slots=True)
class Bundle:
    """A batch: what is owed, the revision that it brings, and the policies that it sets.

    policies: by network, what the agent holds (None: nothing of use) and what it is to hold. They
    are fixed here, so that what the agent holds once it has confirmed is known exactly.
    identities: of the networks whose rows are owed, those that the policies know.
    """

    owed: Owed
    revision: int
    policies: Mapping[int, tuple[Published | None, Published]] = field(default_factory=dict)
    identities: Mapping[int, Mapping[Identity, IdentityRecord]] = field(default_factory=dict)

    def knows(self, network: int, identity: Identity) -> bool:
        """Whether the policies know an identity of a network."""
        return identity in self.identities.get(network, ())


class Outbox:
    """One agent's debts. It begins with a first batch, which makes its view whole."""

    def __init__(self, host: str, policies: PolicyTables) -> None:
        self.host = host
        self._policies = policies
        self._networks: set[int] = set()
        self._own_networks: set[int] = set()
        self._held: dict[int, Published] = {}
        self.applied_revision = 0
        self.is_first_due = True
        self._owed = Owed(0)
        self._out: Bundle | None = None
        self._is_held_back = False

    @property
    def is_due(self) -> bool:
        """Whether a batch can and should go out now."""
        has_news = not self._owed.is_empty and not self._is_held_back
        return self._out is None and (self.is_first_due or has_news)

    def begin(
        self, view: View, revision: int, networks: Iterable[int], policies: Mapping[int, bytes]
    ) -> bool:
        """Owe what the agent lacks; returns whether that is a snapshot.

        revision: what it holds (0: nothing). networks: those it holds whole at that revision.
        policies: content of those that it holds, by network.
        """
        self._networks = view.interest.needed(self.host)
        self._own_networks = set(view.interest.own(self.host))
        is_snapshot = not view.hosts_floor <= revision <= view.revision
        self.applied_revision = 0 if is_snapshot else revision
        self._owed = Owed(self.applied_revision)
        self._begin_policies(policies, is_snapshot=is_snapshot)
        if is_snapshot:
            self._owed.hosts.update(name for name, _ in view.hosts.items())
            self._owed.whole.update(self._networks)
            return True
        self._owed.hosts.update(n for n, host in view.hosts.items() if host.revision > revision)
        self._owed.hosts.update(n for removed, n in view.removed_hosts if removed > revision)
        held = set(networks)
        self._owed.dropped.update(held - self._networks)
        for network in self._networks:
            changed = view.table(network).changed_since(revision) if network in held else None
            if changed is None:
                self._owed.whole.add(network)
            elif changed:
                self._owed.rows[network] = changed
        return False

    def _begin_policies(self, held: Mapping[int, bytes], *, is_snapshot: bool) -> None:
        found = {n: self._policies.find(n, content) for n, content in held.items()}
        self._held = {n: one for n, one in found.items() if one is not None}
        for network in self._own_networks:
            newest = self._policies.newest(network)
            # A snapshot names everything that is to stay.
            if is_snapshot or newest is None or self._held.get(network) is not newest:
                self._owed.add_policy(network)
        for network in held.keys() - self._own_networks:
            self._owed.add_policy_drop(network)

    def add_host(self, name: str) -> None:
        """Owe a host."""
        self._owed.hosts.add(name)
        self._is_held_back = False

    def add_row(self, network: int, stable_id: StableId) -> None:
        """Owe a row of a network that the agent needs."""
        self._owed.add_row(network, stable_id)
        self._is_held_back = False

    def add_interest(self, view: View, network: int) -> None:
        """Owe what follows from whether the agent needs a network, and its policy, now."""
        is_needed = view.interest.is_needed(self.host, network)
        if is_needed != (network in self._networks):
            (self._networks.add if is_needed else self._networks.discard)(network)
            (self._owed.add_whole if is_needed else self._owed.add_drop)(network)
            self._is_held_back = False
        is_own = network in view.interest.own(self.host)
        if is_own != (network in self._own_networks):
            (self._own_networks.add if is_own else self._own_networks.discard)(network)
            (self._owed.add_policy if is_own else self._owed.add_policy_drop)(network)
            self._is_held_back = False

    def add_policy(self, network: int) -> None:
        """Owe a policy that has changed, if the agent needs it."""
        if network in self._own_networks:
            self._owed.add_policy(network)
            self._is_held_back = False

    def take(self, view: View) -> Bundle:
        """Begin a batch: return what goes into it, and the revision that it brings."""
        owed = self._owed
        for network in [network for network in owed.rows if view.table(network).floor > owed.since]:
            # The agent was slower than the memory of removals.
            owed.add_whole(network)
        policies = {
            network: (self._held.get(network), newest)
            for network in sorted(owed.policies)
            if (newest := self._policies.newest(network)) is not None
        }
        identities = {
            network: view.identities.records(view.network_names.get(network, ""))
            for network in (*owed.rows, *owed.whole)
        }
        self._out = Bundle(owed, view.revision, policies, identities)
        self._owed = Owed(view.revision)
        self.is_first_due = False
        return self._out

    def confirm(self, revision: int) -> bool:
        """End the batch that is out; returns False when it is not of that revision."""
        if self._out is None or self._out.revision != revision:
            return False
        for network in self._out.owed.dropped_policies:
            self._held.pop(network, None)
        self._held |= {network: after for network, (_, after) in self._out.policies.items()}
        self._out = None
        self.applied_revision = revision
        return True

    def reject(self, revision: int) -> bool:
        """Owe the batch that is out again, once anything changes; False as in confirm."""
        if self._out is None or self._out.revision != revision:
            return False
        was_quiet = self._owed.is_empty
        again, self._out = self._out.owed, None
        newer, self._owed = self._owed, again
        again.hosts |= newer.hosts
        for network in newer.dropped:
            again.add_drop(network)
        for network in newer.whole:
            again.add_whole(network)
        for network, ids in newer.rows.items():
            for stable_id in ids:
                again.add_row(network, stable_id)
        for network in newer.dropped_policies:
            again.add_policy_drop(network)
        for network in newer.policies:
            again.add_policy(network)
        self._is_held_back = was_quiet
        return True

    def in_step_with(self, view: View) -> int:
        """Return the newest revision of which the agent holds everything that it needs."""
        is_quiet = self._owed.is_empty and self._out is None and not self.is_first_due
        return view.revision if is_quiet else self.applied_revision
