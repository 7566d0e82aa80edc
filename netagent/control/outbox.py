"""What one agent has yet to be told: keys, never values.

So the memory of a slow agent is bounded by the keys that it needs, and it always gets the newest
state of each. One batch is out at a time; what changes meanwhile collects for the next.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from netagent.control.view import View
from netagent.model.addresses import StableId

ROWS_OWED_MAX = 65_536
"""Most rows that are owed one by one; machines that come and go would add up without end."""


@dataclass(slots=True)
class Owed:
    """Keys of hosts, of networks' rows, of networks as a whole, and of networks to drop.

    since: up to this revision the agent has been told; rows go out only if they are newer.
    """

    since: int
    hosts: set[str] = field(default_factory=set)
    rows: dict[int, set[StableId]] = field(default_factory=dict)
    whole: set[int] = field(default_factory=set)
    dropped: set[int] = field(default_factory=set)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is owed."""
        return not (self.hosts or self.rows or self.whole or self.dropped)

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


class Outbox:
    """One agent's debts. It begins with a first batch, which makes its view whole."""

    def __init__(self, host: str) -> None:
        self.host = host
        self.applied_revision = 0
        self.is_first_due = True
        self._owed = Owed(0)
        self._out: tuple[Owed, int] | None = None
        self._is_held_back = False

    @property
    def is_due(self) -> bool:
        """Whether a batch can and should go out now."""
        has_news = not self._owed.is_empty and not self._is_held_back
        return self._out is None and (self.is_first_due or has_news)

    def begin(self, view: View, revision: int, networks: Iterable[int]) -> bool:
        """Owe what the agent lacks; returns whether that is a snapshot.

        revision: what it holds (0: nothing). networks: those it holds whole at that revision.
        """
        needed = set(view.interest.get(self.host, ()))
        is_snapshot = not view.hosts_floor <= revision <= view.revision
        self.applied_revision = 0 if is_snapshot else revision
        self._owed = Owed(self.applied_revision)
        if is_snapshot:
            self._owed.hosts.update(name for name, _ in view.hosts.items())
            self._owed.whole.update(needed)
            return True
        self._owed.hosts.update(n for n, host in view.hosts.items() if host.revision > revision)
        self._owed.hosts.update(n for removed, n in view.removed_hosts if removed > revision)
        held = set(networks)
        self._owed.dropped.update(held - needed)
        for network in needed:
            changed = view.table(network).changed_since(revision) if network in held else None
            if changed is None:
                self._owed.whole.add(network)
            elif changed:
                self._owed.rows[network] = changed
        return False

    def add_host(self, name: str) -> None:
        """Owe a host."""
        self._owed.hosts.add(name)
        self._is_held_back = False

    def add_row(self, network: int, stable_id: StableId) -> None:
        """Owe a row of a network that the agent needs."""
        self._owed.add_row(network, stable_id)
        self._is_held_back = False

    def add_interest(self, network: int, *, is_needed: bool) -> None:
        """Owe a network as a whole, or that it is needed no longer."""
        (self._owed.add_whole if is_needed else self._owed.add_drop)(network)
        self._is_held_back = False

    def take(self, view: View) -> tuple[Owed, int]:
        """Begin a batch: return what goes into it, and the revision that it brings."""
        owed = self._owed
        for network in [network for network in owed.rows if view.table(network).floor > owed.since]:
            # The agent was slower than the memory of removals.
            owed.add_whole(network)
        self._out = owed, view.revision
        self._owed = Owed(view.revision)
        self.is_first_due = False
        return self._out

    def confirm(self, revision: int) -> bool:
        """End the batch that is out; returns False when it is not of that revision."""
        if self._out is None or self._out[1] != revision:
            return False
        self._out = None
        self.applied_revision = revision
        return True

    def reject(self, revision: int) -> bool:
        """Owe the batch that is out again, once anything changes; False as in confirm."""
        if self._out is None or self._out[1] != revision:
            return False
        was_quiet = self._owed.is_empty
        again, self._out = self._out[0], None
        newer, self._owed = self._owed, again
        again.hosts |= newer.hosts
        for network in newer.dropped:
            again.add_drop(network)
        for network in newer.whole:
            again.add_whole(network)
        for network, ids in newer.rows.items():
            for stable_id in ids:
                again.add_row(network, stable_id)
        self._is_held_back = was_quiet
        return True

    def in_step_with(self, view: View) -> int:
        """Return the newest revision of which the agent holds everything that it needs."""
        is_quiet = self._owed.is_empty and self._out is None and not self.is_first_due
        return view.revision if is_quiet else self.applied_revision
