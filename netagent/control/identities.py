"""Which identities are in use, by network: what policies are compiled over.

An identity is there while a machine has it. Policies need its labels and, where one machine alone
has it, that machine's name; so a further machine with known labels changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from netagent.model.fleet import Identity, Machine
from netagent.policy.fleet import IdentityRecord


@dataclass(slots=True)
class _Use:
    labels: Mapping[str, str]
    names: set[str] = field(default_factory=set)


class Identities:
    """Counts machines by identity. changed: networks whose records are others since it was cleared.

    changed is for the reader to clear.
    """

    def __init__(self) -> None:
        self._uses: dict[str, dict[Identity, _Use]] = {}
        self._records: dict[str, dict[Identity, IdentityRecord]] = {}
        self.changed: set[str] = set()

    def records(self, network: str) -> Mapping[Identity, IdentityRecord]:
        """Return a network's identities; members only where there is one. Not to be kept."""
        return self._records.get(network, {})

    def replace(self, old: Machine | None, new: Machine | None) -> None:
        """Hear that a machine came, changed or (new is None) went."""
        if old is not None and new is not None and old.identity == new.identity:
            return
        if old is not None:
            uses = self._uses[old.network]
            use = uses[old.identity]
            use.names.discard(old.name)
            if not use.names:
                del uses[old.identity]
            self._renew(old.network, old.identity)
        if new is not None:
            uses = self._uses.setdefault(new.network, {})
            use = uses.setdefault(new.identity, _Use(new.labels))
            use.names.add(new.name)
            self._renew(new.network, new.identity)

    def _renew(self, network: str, identity: Identity) -> None:
        use = self._uses[network].get(identity)
        # Copied when it changes: compilations keep what they were given.
        records = self._records.get(network, {})
        if use is None:
            record = None
        else:
            members = frozenset(use.names) if len(use.names) == 1 else frozenset[str]()
            record = IdentityRecord(network, use.labels, members)
        if records.get(identity) == record:
            return
        records = dict(records)
        if record is None:
            del records[identity]
        else:
            records[identity] = record
        self._records[network] = records
        self.changed.add(network)
