"""Policies in the kernel: brought in force by one write each, adopted, asked and counted.

What is held is remembered, so that a revision costs what differs from the one that its slot held
last; after a failure it is read from the kernel again. One thread writes; `observe`, `ask` and
`rule_counters` only read the kernel, from any thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from ipaddress import IPv6Address, IPv6Network
from pathlib import Path

from netagent.dataplane import abi_policy
from netagent.dataplane.abi import Counter
from netagent.dataplane.abi_policy import (
    INTERVAL,
    PAIR,
    PREFIX,
    PREFIX_FIXED_BITS,
    IntervalRange,
    PolicyClassRow,
    PolicyNetworkRow,
    RuleCounter,
    RuleRow,
)
from netagent.dataplane.policy_lookup import PolicyAnswer, ask_policy
from netagent.dataplane.policy_reading import read_policies
from netagent.dataplane.policy_tables import PolicyTables
from netagent.model.fleet import Identity
from netagent.policy.delta import Pair
from netagent.policy.entries import CompiledPolicy, Direction, Interval
from netagent.policy.language import Verdict
from netagent.reconcile.held_policies import (
    ActivePolicy,
    EndPolicy,
    HeldPolicies,
    PolicyOperation,
    PolicyPlan,
    RemoveClasses,
    RemovePairs,
    RemovePrefixes,
    RemoveRules,
    ResetCounters,
    Room,
    SetClasses,
    SetIntervals,
    SetPairs,
    SetPrefixes,
    SetRules,
    TurnTo,
)
from netagent.reconcile.policy_plan import plan_drop, plan_policy

_GENERATIONS = 1 << 32


class PolicyMaps:
    """The maps of policies of one host, pinned at a directory."""

    def __init__(self, pin_dir: Path) -> None:
        """Adopt the maps pinned at `pin_dir`; AbiMismatchError when one has another layout."""
        self._tables = PolicyTables(pin_dir)
        self._held: HeldPolicies | None = None

    @property
    def room(self) -> Room:
        """How many entries the maps take, both slots together."""
        return self._tables.room

    @property
    def map_ids(self) -> list[int]:
        """What the kernel calls these maps."""
        return self._tables.map_ids

    def observe(self) -> HeldPolicies:
        """Read everything from the kernel. What is written meanwhile is seen in part."""
        return read_policies(self._tables)

    def held(self) -> HeldPolicies:
        """Return what the kernel holds, read from it only if that is not known already."""
        if self._held is None:
            self._held = self.observe()
        return self._held

    def forget(self) -> None:
        """Doubt what is held: the next call reads it from the kernel, and so mends damage."""
        self._held = None

    def apply(self, compiled: CompiledPolicy) -> int:
        """Bring a network's policy in force; return how many rows were written, 0 when it was.

        Until the very last step the revision before is in force, whole. After a write, the caller
        raises the generation once all that belongs together is written.
        Raises ExhaustedError, with nothing written, when it does not fit; DataplaneError when the
        kernel refuses: then nothing of it is in force, and a later call goes on from what is there.
        """
        return self._carry_out(plan_policy(self.held(), compiled, self.room))

    def drop(self, network: int) -> int:
        """Take away a network's policy, then all that it had; return how many rows were written."""
        return self._carry_out(plan_drop(self.held(), network))

    def generation(self) -> int:
        """Return the generation of all policies together."""
        return abi_policy.unpack_state(self._tables.state.read(0, 1))

    def raise_generation(self) -> int:
        """Have every flow asked again on its next packet; return the new generation."""
        generation = (self.generation() + 1) % _GENERATIONS
        self._tables.state.write(0, abi_policy.pack_state(generation))
        if self._held is not None:
            self._held = replace(self._held, retired=frozenset())
        return generation

    def ask(
        self,
        network: int,
        direction: Direction,
        source: Identity | IPv6Address,
        destination: Identity | IPv6Address,
        protocol: int,
        port: int,
    ) -> PolicyAnswer | None:
        """Return what the kernel's entries say to a flow's first packet, found as programs do.

        source, destination: an outside peer by its address. port: ICMPv6: `type << 8 | code`.
        None when the host does not have that network's policy. DataplaneError when entries refer to
        what is not there.
        """
        return ask_policy(self._tables, network, direction, source, destination, protocol, port)

    def rule_counters(self) -> dict[tuple[RuleRow, bool], RuleCounter]:
        """Return counters by rule, and by whether the receiver's policy was asked; sorted."""
        found = {}
        indices = sorted(self._tables.rule_index.items().items(), key=_by_rule)
        for rule, index in indices:
            if not 1 <= index <= self.room.rules:
                continue
            for is_receiver in (False, True):
                words = self._tables.rule_counters.sum(2 * index + is_receiver)
                counters = [Counter(*words[at : at + 2]) for at in range(0, 6, 2)]
                found[rule, is_receiver] = RuleCounter(*counters)
        return found

    def close(self) -> None:
        """Close all descriptors; everything stays pinned."""
        self._tables.close()

    def _carry_out(self, plan: PolicyPlan) -> int:
        self._held = None
        writes = sum(self._write(operation) for operation in plan.operations)
        self._held = plan.after
        return writes

    def _write(self, operation: PolicyOperation) -> int:
        """Write one operation; return its rows."""
        tables = self._tables
        match operation:
            case RemoveClasses(rows=rows):
                tables.policy_class.delete(PolicyClassRow(*row) for row in rows)
                return len(rows)
            case SetIntervals(tables=placed):
                return self._write_intervals(placed)
            case SetClasses(rows=ranges):
                tables.policy_class.update(
                    {PolicyClassRow(*row): range_ for row, range_ in ranges.items()}
                )
                return len(ranges)
            case RemovePairs(network=network, slot=slot, pairs=gone_pairs):
                tables.pair.remove(_pair_keys(network, slot, gone_pairs), len(gone_pairs))
                return len(gone_pairs)
            case SetPairs(network=network, slot=slot, pairs=pairs):
                values = b"".join(map(abi_policy.pack_class_id, pairs.values()))
                tables.pair.put(_pair_keys(network, slot, tuple(pairs)), values, len(pairs))
                return len(pairs)
            case RemovePrefixes(network=network, slot=slot, prefixes=gone_prefixes):
                keys = _prefix_keys(network, slot, gone_prefixes)
                tables.prefix.remove(keys, len(gone_prefixes))
                return len(gone_prefixes)
            case SetPrefixes(network=network, slot=slot, prefixes=prefixes):
                values = b"".join(map(abi_policy.pack_number, prefixes.values()))
                keys = _prefix_keys(network, slot, tuple(prefixes))
                tables.prefix.put(keys, values, len(prefixes))
                return len(prefixes)
            case ResetCounters(indices=indices):
                for index in indices:
                    tables.rule_counters.reset(2 * index)
                    tables.rule_counters.reset(2 * index + 1)
                return 0
            case SetRules(network=network, indices=by_number):
                tables.rule_index.update(
                    {RuleRow(network, number): index for number, index in by_number.items()}
                )
                return len(by_number)
            case RemoveRules(network=network, numbers=numbers):
                tables.rule_index.delete(RuleRow(network, number) for number in numbers)
                return len(numbers)
            case TurnTo(network=network, active=active):
                tables.network.update({network: _network_row(active)})
                return 1
            case EndPolicy(network=network):
                tables.network.delete([network])
                return 1

    def _write_intervals(self, placed: Sequence[tuple[IntervalRange, tuple[Interval, ...]]]) -> int:
        """Write what adjoins at once. placed: ascending."""
        parts: list[bytes] = []
        start = end = placed[0][0].first
        for range_, intervals in placed:
            if range_.first != end:
                self._tables.interval.write(start, b"".join(parts))
                parts, start = [], range_.first
            parts += [_interval(one) for one in intervals]
            end = range_.first + range_.count
        self._tables.interval.write(start, b"".join(parts))
        return sum(range_.count for range_, _ in placed)


def _by_rule(item: tuple[RuleRow, int]) -> tuple[int, int]:
    return item[0].network, item[0].number


def _network_row(active: ActivePolicy) -> PolicyNetworkRow:
    inside, egress, ingress = (active.defaults[one] for one in Direction)
    return PolicyNetworkRow(active.slot, active.version, (inside, egress, ingress))


def _pair_keys(network: int, slot: int, pairs: Sequence[Pair]) -> bytes:
    pack = PAIR.pack
    return b"".join(
        [
            pack(network, source, destination, direction.value, slot)
            for direction, source, destination in pairs
        ]
    )


def _prefix_keys(network: int, slot: int, prefixes: Sequence[IPv6Network]) -> bytes:
    return b"".join(
        PREFIX.pack(PREFIX_FIXED_BITS + one.prefixlen, network, slot, one.network_address.packed)
        for one in prefixes
    )


def _interval(one: Interval) -> bytes:
    is_audited = one.audit_rule is not None
    is_allowed = one.verdict is Verdict.ALLOW
    return INTERVAL.pack(one.first, is_allowed, is_audited, one.rule, one.audit_rule or 0)
