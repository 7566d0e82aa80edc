"""A compiled policy under the name by which agents say that they hold it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b

from netagent.model.fleet import Identity
from netagent.policy.entries import CompiledPolicy
from netagent.policy.fleet import IdentityRecord

CONTENT_BYTES = 16

COMPILER = 1
"""Raised when the same inputs compile to other entries, so that agents get the new ones."""


@dataclass(frozen=True, slots=True)
class Published:
    """One state of one network's entries. content: a digest of all that they were compiled from."""

    content: bytes
    compiled: CompiledPolicy


def name_content(
    number: int,
    version: int,
    text: str,
    numbers: Mapping[str, int],
    records: Iterable[tuple[str, Mapping[Identity, IdentityRecord]]],
) -> bytes:
    """Return the digest of a compilation's inputs, CONTENT_BYTES long.

    number: the network's. numbers: of rules, by name. records: identities by network's name, of
    each network that the policy names, sorted.
    """
    digest = blake2b(digest_size=CONTENT_BYTES)
    identities = [
        [network, [[i, sorted(one.labels.items()), sorted(one.members)] for i, one in found]]
        for network, held in records
        for found in (sorted(held.items()),)
    ]
    inputs = [COMPILER, number, version, text, sorted(numbers.items()), identities]
    digest.update(json.dumps(inputs, separators=(",", ":")).encode())
    return digest.digest()
