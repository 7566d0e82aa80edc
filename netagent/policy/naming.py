"""Words for sets of machines and for changed traffic: short when there are many."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from netagent.model.fleet import Identity
from netagent.policy.fleet import FleetSnapshot
from netagent.policy.language import Traffic
from netagent.policy.traffic import format_traffic

NAMED_MOST = 4


@dataclass(frozen=True, slots=True, order=True)
class Subject:
    """Somebody with one identity before and one after: machines, hosts, or outside addresses.

    network: empty for what is not a machine. names: of the machines, or of the prefix.
    """

    network: str
    before: Identity
    after: Identity
    names: tuple[str, ...] = field(default=("host",))

    def identity(self, is_after: bool) -> Identity:
        """Return the identity on one side of the comparison."""
        return self.after if is_after else self.before

    def __len__(self) -> int:
        return len(self.names)


def name_subjects(subjects: Sequence[Subject], fleet: FleetSnapshot) -> str:
    """Return who they are: whole networks by name, a few machines one by one, many by number."""
    parts = []
    for network in sorted({one.network for one in subjects}):
        group = [one for one in subjects if one.network == network]
        if network and len({one.after for one in group}) == len(fleet.identities_of(network)):
            count = sum(map(len, group))
            parts.append(f"every machine of {network} ({count})" if count > 1 else _list(group))
        else:
            parts.append(_list(group))
    return ", ".join(parts)


def _list(group: Iterable[Subject]) -> str:
    names = sorted(
        f"{one.network}/{name}" if one.network else name for one in group for name in one.names
    )
    if len(names) <= NAMED_MOST + 1:
        return ", ".join(names)
    return f"{', '.join(names[:NAMED_MOST])} and {len(names) - NAMED_MOST} more"


def format_changed(traffic: tuple[Traffic, ...]) -> str:
    """Return changed traffic; protocol None is every protocol that is not named beside it."""
    named = [one for one in traffic if one.protocol is not None]
    if len(named) == len(traffic):
        return format_traffic(named)
    if all((one.first, one.last) == (0, 0xFFFF) for one in named):
        return "any" if not named else f"any ({format_traffic(named)} among them)"
    return f"{format_traffic(named)}, every other protocol"
