"""A verdict looked up in the kernel's maps, entry by entry, the way the programs do it.

Numbers: "Access" 7 in docs/architecture.md and "Lookup" in docs/policy.md. The programs are one
witness of what the maps say, netagent.policy.lookup is another on the compiled entries; this third
one is what `explain` shows of a running host.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from ipaddress import IPv6Address

from netagent.dataplane import abi_policy
from netagent.dataplane.abi_policy import (
    PREFIX,
    PREFIX_FIXED_BITS,
    IntervalRange,
    PolicyClassRow,
    PolicyIntervalRow,
    PolicyPairRow,
    PolicyRevision,
)
from netagent.dataplane.policy_tables import PolicyTables
from netagent.model.errors import DataplaneError
from netagent.model.fleet import Identity
from netagent.policy.entries import OTHER_PROTOCOLS, STRANGER, Direction
from netagent.policy.language import Verdict

_ADDRESS_BITS = 128


@dataclass(frozen=True, slots=True)
class PolicyAnswer:
    """What the kernel's entries say.

    rule: number of who decided, 0 for the default. audit_rule: who in audit mode would have said
    the opposite, None when nobody. version: of the policy in force.
    source, destination: the identities that were asked about.
    """

    verdict: Verdict
    rule: int
    audit_rule: int | None
    version: int
    source: Identity
    destination: Identity
    class_id: int


def ask_policy(
    tables: PolicyTables,
    network: int,
    direction: Direction,
    source: Identity | IPv6Address,
    destination: Identity | IPv6Address,
    protocol: int,
    port: int,
) -> PolicyAnswer | None:
    """Return the answer of what is in force; None without a policy. Arguments: PolicyMaps.ask."""
    generation = abi_policy.unpack_state(tables.state.read(0, 1))
    row = tables.network.get(network)
    if row is None:
        return None
    policy = row.in_force(generation)
    key = PolicyPairRow(
        network,
        _identity(tables, network, policy.slot, source),
        _identity(tables, network, policy.slot, destination),
        direction.value,
        policy.slot,
    )
    class_id = _find_class(tables, policy, key)
    range_ = _find_range(tables, class_id, protocol)
    found = _find_interval(tables, range_, port)
    return PolicyAnswer(
        Verdict.ALLOW if found.is_allowed else Verdict.DENY,
        found.rule,
        found.audit_rule,
        policy.version,
        Identity(key.source),
        Identity(key.destination),
        class_id,
    )


def _identity(
    tables: PolicyTables, network: int, slot: int, party: Identity | IPv6Address
) -> Identity:
    """Return an outside address's identity by the longest prefix that covers it."""
    if not isinstance(party, IPv6Address):
        return party
    key = PREFIX.pack(PREFIX_FIXED_BITS + _ADDRESS_BITS, network, slot, party.packed)
    raw = tables.prefix.get(key)
    return STRANGER if raw is None else Identity(abi_policy.unpack_number(raw))


def _find_class(tables: PolicyTables, policy: PolicyRevision, key: PolicyPairRow) -> int:
    """Ask for the pair, then beyond the border for the peer as a stranger, then the default."""
    keys = [key]
    if key.direction == Direction.EGRESS.value:
        keys.append(replace(key, destination=STRANGER))
    if key.direction == Direction.INGRESS.value:
        keys.append(replace(key, source=STRANGER))
    for one in keys:
        raw = tables.pair.get(abi_policy.pack_policy_pair(one))
        if raw is not None:
            return abi_policy.unpack_class_id(raw)
    return policy.defaults[key.direction]


def _find_range(tables: PolicyTables, class_id: int, protocol: int) -> IntervalRange:
    for one in (protocol, OTHER_PROTOCOLS):
        found = tables.policy_class.get(PolicyClassRow(class_id, one))
        if found is not None:
            return found
    problem = "an entry refers to it, and it is not there"
    raise DataplaneError("look up", f"class {class_id:016x}", problem)


def _find_interval(tables: PolicyTables, range_: IntervalRange, port: int) -> PolicyIntervalRow:
    """Search for the last interval that begins at or before the port."""
    low, high = range_.first, range_.first + range_.count - 1
    while low < high:
        middle = (low + high + 1) // 2
        if _read_interval(tables, middle).first_port <= port:
            low = middle
        else:
            high = middle - 1
    return _read_interval(tables, low)


def _read_interval(tables: PolicyTables, index: int) -> PolicyIntervalRow:
    return abi_policy.unpack_policy_interval(tables.interval.read(index, 1))
