"""Which identities are in use, by network: what policies are compiled over.

An identity is there while a machine has it, and a while longer: the entries of one that a machine
gives up for another must not go before its location has changed. Compilers need its labels and,
of a machine that policies name, the name; so a further machine with known labels changes nothing.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from hashlib import blake2b

from netagent.model.fleet import Identity, Machine
from netagent.policy.fleet import IdentityRecord

DIGEST_BYTES = 16

Left = tuple[str, Identity]
"""A network, and an identity that no machine of it has any more."""


class Identities:
    """Counts machines by identity.

    is_own: tells whether a machine's identity is its alone, since policies name it.
    changed: networks whose records are others since it was cleared. left: who left since it was
    cleared; they stay until `forget`. Both are for the reader to clear.
    """

    def __init__(self, is_own: Callable[[Machine], bool]) -> None:
        self.changed: set[str] = set()
        self.left: set[Left] = set()
        self._is_own = is_own
        self._counts: Counter[Left] = Counter()
        self._records: dict[str, dict[Identity, IdentityRecord]] = {}
        self._digests: dict[str, dict[Identity, bytes]] = {}
        self._frozen: dict[str, tuple[Mapping[Identity, IdentityRecord], bytes]] = {}

    def records(self, network: str) -> Mapping[Identity, IdentityRecord]:
        """Return a network's identities, ascending; the mapping never changes.

        members: the one machine whose identity it is; nobody where several might have it.
        """
        return self._freeze(network)[0]

    def digest(self, network: str) -> bytes:
        """Return DIGEST_BYTES that stand for a network's records."""
        return self._freeze(network)[1]

    def owners(self) -> list[str]:
        """Return the paths of machines that have an identity of their own, sorted."""
        return sorted(
            f"{network}/{name}"
            for network, records in self._records.items()
            for record in records.values()
            for name in record.members
        )

    def replace(self, old: Machine | None, new: Machine | None) -> None:
        """Hear that a machine came, changed or (new is None) went."""
        if old is not None and new is not None and old.identity == new.identity:
            return
        if new is not None:
            self._counts[new.network, new.identity] += 1
            if new.identity not in self._records.get(new.network, ()):
                self._add(new)
        if old is not None:
            self._counts[old.network, old.identity] -= 1
            if not self._counts[old.network, old.identity]:
                del self._counts[old.network, old.identity]
                self.left.add((old.network, old.identity))

    def forget(self, left: Iterable[Left]) -> None:
        """Let go of identities that have left, unless somebody has them again."""
        for network, identity in left:
            if (network, identity) in self._counts:
                continue
            if self._records.get(network, {}).pop(identity, None) is not None:
                del self._digests[network][identity]
                self._renew(network)

    def _add(self, machine: Machine) -> None:
        # A rule that names a machine must never reach others, so those who may share an identity
        # cannot be found by name.
        members = frozenset((machine.name,)) if self._is_own(machine) else frozenset[str]()
        record = IdentityRecord(machine.network, machine.labels, members)
        self._records.setdefault(machine.network, {})[machine.identity] = record
        row = [machine.identity, sorted(machine.labels.items()), sorted(members)]
        text = json.dumps(row, separators=(",", ":")).encode()
        digest = blake2b(text, digest_size=DIGEST_BYTES).digest()
        self._digests.setdefault(machine.network, {})[machine.identity] = digest
        self._renew(machine.network)

    def _renew(self, network: str) -> None:
        self._frozen.pop(network, None)
        self.changed.add(network)

    def _freeze(self, network: str) -> tuple[Mapping[Identity, IdentityRecord], bytes]:
        frozen = self._frozen.get(network)
        if frozen is None:
            records = dict(sorted(self._records.get(network, {}).items()))
            digests = self._digests.get(network, {})
            joined = blake2b(digest_size=DIGEST_BYTES)
            joined.update(b"".join(map(digests.__getitem__, records)))
            frozen = self._frozen[network] = records, joined.digest()
        return frozen
