"""Outside addresses to identities: one for each set of CIDR selectors that match alike.

The prefixes of all selectors, exceptions included, form a tree. Which selectors match an address
depends on its longest prefix in that tree alone: those with a prefix on the way down and no
exception.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from ipaddress import IPv6Address, IPv6Network

from netagent.model.fleet import Identity
from netagent.policy.entries import OUTSIDE_BIT, STRANGER
from netagent.policy.language import CidrSelector


@dataclass(frozen=True, slots=True)
class Outside:
    """prefixes: for a longest-prefix lookup. matched: what each selector matches."""

    prefixes: Mapping[IPv6Network, Identity]
    matched: Mapping[CidrSelector, frozenset[Identity]]


def divide_outside(selectors: Iterable[CidrSelector]) -> Outside:
    """Return the identities of outside addresses; the order of selectors does not matter."""
    ordered = sorted(set(selectors), key=_name_of)
    includes: dict[IPv6Network, int] = {}
    excludes: dict[IPv6Network, int] = {}
    for bit, selector in enumerate(ordered):
        for prefix in selector.prefixes:
            includes[prefix] = includes.get(prefix, 0) | 1 << bit
        for prefix in selector.exceptions:
            excludes[prefix] = excludes.get(prefix, 0) | 1 << bit
    sets: dict[IPv6Network, int] = {}
    above: list[tuple[IPv6Network, int, int]] = []
    # An address sorts before its longer prefixes, so every ancestor is met before.
    for prefix in sorted(includes.keys() | excludes.keys()):
        while above and not prefix.subnet_of(above[-1][0]):
            above.pop()
        _, included, excluded = above[-1] if above else (prefix, 0, 0)
        parent = included & ~excluded
        included |= includes.get(prefix, 0)
        excluded |= excludes.get(prefix, 0)
        above.append((prefix, included, excluded))
        if included & ~excluded != parent:
            sets[prefix] = included & ~excluded
    identities = _number(set(sets.values()), [_name_of(selector) for selector in ordered])
    return Outside(
        {prefix: identities[members] for prefix, members in sets.items()},
        {
            selector: frozenset(
                identity for members, identity in identities.items() if members >> bit & 1
            )
            for bit, selector in enumerate(ordered)
        },
    )


def outside_identity(prefixes: Mapping[IPv6Network, Identity], address: IPv6Address) -> Identity:
    """Return the identity of an outside address: that of its longest prefix, or a stranger's."""
    within = [prefix for prefix in prefixes if address in prefix]
    if not within:
        return STRANGER
    return prefixes[max(within, key=lambda prefix: prefix.prefixlen)]


def _name_of(selector: CidrSelector) -> str:
    return f"{','.join(map(str, selector.prefixes))}!{','.join(map(str, selector.exceptions))}"


def _number(sets: set[int], names: list[str]) -> dict[int, Identity]:
    """Return numbers by content, so that an unrelated rule does not renumber what others match."""
    texts = {
        "|".join(name for bit, name in enumerate(names) if members >> bit & 1): members
        for members in sets
    }
    identities = {0: STRANGER}
    taken: set[int] = set()
    for text, members in sorted(texts.items()):
        if members == 0:
            continue
        number = int.from_bytes(blake2b(text.encode(), digest_size=4).digest(), "big")
        while number & (OUTSIDE_BIT - 1) | OUTSIDE_BIT in taken:
            number += 1
        number = number & (OUTSIDE_BIT - 1) | OUTSIDE_BIT
        taken.add(number)
        identities[members] = Identity(number)
    return identities
