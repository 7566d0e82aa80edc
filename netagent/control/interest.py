"""Which hosts need which networks: those of their own machines, and those these may talk to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Set

Need = tuple[str, int]
"""A host, and the number of a network."""


class Interest:
    """Own networks are counted by machine; reach joins networks by number, both ways."""

    def __init__(self) -> None:
        self._own: dict[str, Counter[int]] = {}
        self._owners: dict[int, set[str]] = {}
        self._reach: dict[int, frozenset[int]] = {}

    def own(self, host: str) -> Set[int]:
        """Return the networks that have machines on a host, or on the way from or to it."""
        return self._own.get(host, Counter()).keys()

    def owners(self, network: int) -> Set[str]:
        """Return the hosts that have machines of a network."""
        return self._owners.get(network, frozenset())

    def needed(self, host: str) -> set[int]:
        """Return the networks whose locations a host needs."""
        own = self.own(host)
        return set(own).union(*(self._reach.get(network, ()) for network in own))

    def hosts(self, network: int) -> set[str]:
        """Return the hosts that need a network's locations."""
        found = set(self.owners(network))
        return found.union(*(self.owners(other) for other in self._reach.get(network, ())))

    def is_needed(self, host: str, network: int) -> bool:
        """Whether a host needs a network's locations."""
        own = self.own(host)
        return network in own or not own.isdisjoint(self._reach.get(network, ()))

    def add(self, host: str, network: int) -> set[Need]:
        """Count a machine; return what may be needed now, when it is the first of its network."""
        counter = self._own.setdefault(host, Counter())
        counter[network] += 1
        if counter[network] > 1:
            return set()
        self._owners.setdefault(network, set()).add(host)
        return self._around(host, network)

    def remove(self, host: str, network: int) -> set[Need]:
        """Discount a machine; return what may no longer be needed, when it was the last."""
        counter = self._own[host]
        counter[network] -= 1
        if counter[network]:
            return set()
        del counter[network]
        self._owners[network].discard(host)
        return self._around(host, network)

    def set_reach(self, reach: Mapping[int, frozenset[int]]) -> set[Need]:
        """Replace who may talk to whom; return what has come to be needed, or ceased to be."""
        changed = {
            network: self._reach.get(network, frozenset()) ^ reach.get(network, frozenset())
            for network in self._reach.keys() | reach.keys()
        }
        touched = {
            (host, other)
            for network, others in changed.items()
            for host in self.owners(network)
            for other in others
        }
        before = self._held(touched)
        self._reach = dict(reach)
        return before ^ self._held(touched)

    def _around(self, host: str, network: int) -> set[Need]:
        return {(host, network), *((host, other) for other in self._reach.get(network, ()))}

    def _held(self, needs: Iterable[Need]) -> set[Need]:
        return {need for need in needs if self.is_needed(*need)}
