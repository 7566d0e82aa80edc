"""A compiled policy under the name by which agents say that they hold it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b

from netagent.policy.entries import CompiledPolicy

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
    identities: Iterable[tuple[str, bytes]],
) -> bytes:
    """Return the digest of a compilation's inputs, CONTENT_BYTES long.

    number: the network's. numbers: of rules, by name. identities: by network's name the digest of
    its identities, of each network that the policy names, sorted.
    """
    digest = blake2b(digest_size=CONTENT_BYTES)
    of_networks = [[network, held.hex()] for network, held in identities]
    inputs = [COMPILER, number, version, text, sorted(numbers.items()), of_networks]
    digest.update(json.dumps(inputs, separators=(",", ":")).encode())
    return digest.digest()
