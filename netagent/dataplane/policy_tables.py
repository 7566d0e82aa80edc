"""The pinned maps of policies: how each is packed, and the handles of all of them."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from netagent.dataplane import abi_policy
from netagent.dataplane.abi_policy import (
    CLASS,
    INTERVAL,
    PAIR,
    PREFIX,
    IntervalRange,
    PolicyClassRow,
    PolicyNetworkRow,
    RuleRow,
)
from netagent.dataplane.pinned import PinnedArray, PinnedMap, PinnedProcessorArray
from netagent.dataplane.tables import Layout, Table
from netagent.reconcile.held_policies import Room

STATE_BYTES = 8
CLASS_ID_BYTES = 8
IDENTITY_BYTES = 4
RULE_COUNTER_BYTES = 48

POLICY_NETWORK: Layout[int, PolicyNetworkRow] = Layout(
    "policy_network",
    4,
    72,
    abi_policy.pack_number,
    abi_policy.unpack_number,
    abi_policy.pack_policy_network,
    abi_policy.unpack_policy_network,
)
POLICY_CLASS: Layout[PolicyClassRow, IntervalRange] = Layout(
    "policy_class",
    CLASS.size,
    8,
    abi_policy.pack_policy_class,
    abi_policy.unpack_policy_class,
    abi_policy.pack_interval_range,
    abi_policy.unpack_interval_range,
)
RULE_INDEX: Layout[RuleRow, int] = Layout(
    "rule_index",
    8,
    4,
    abi_policy.pack_rule,
    abi_policy.unpack_rule,
    abi_policy.pack_number,
    abi_policy.unpack_number,
)


class PolicyTables:
    """Handles of every map of policies.

    Pairs, prefixes and intervals come by the hundred thousand, so they are handled as bytes.
    """

    def __init__(self, pin_dir: Path) -> None:
        """Open what is pinned at `pin_dir`; AbiMismatchError when a layout is another."""
        with ExitStack() as opened:
            self.state = PinnedArray(pin_dir / "policy_state", STATE_BYTES)
            opened.callback(self.state.close)
            self.network = Table(POLICY_NETWORK, pin_dir / "policy_network")
            opened.callback(self.network.close)
            self.pair = PinnedMap(pin_dir / "policy_pair", PAIR.size, CLASS_ID_BYTES)
            opened.callback(self.pair.close)
            self.prefix = PinnedMap(pin_dir / "policy_prefix", PREFIX.size, IDENTITY_BYTES)
            opened.callback(self.prefix.close)
            self.policy_class = Table(POLICY_CLASS, pin_dir / "policy_class")
            opened.callback(self.policy_class.close)
            self.interval = PinnedArray(pin_dir / "policy_interval", INTERVAL.size)
            opened.callback(self.interval.close)
            self.rule_index = Table(RULE_INDEX, pin_dir / "rule_index")
            opened.callback(self.rule_index.close)
            self.rule_counters = PinnedProcessorArray(pin_dir / "rule_counters", RULE_COUNTER_BYTES)
            opened.callback(self.rule_counters.close)
            self._opened = opened.pop_all()
        self.room = Room(
            networks=self.network.capacity,
            pairs=self.pair.capacity,
            prefixes=self.prefix.capacity,
            class_protocols=self.policy_class.capacity,
            intervals=self.interval.capacity,
            rules=self.rule_counters.capacity // 2 - 1,
        )

    @property
    def map_ids(self) -> list[int]:
        """What the kernel calls these maps."""
        handles = (
            self.state,
            self.network,
            self.pair,
            self.prefix,
            self.policy_class,
            self.interval,
            self.rule_index,
            self.rule_counters,
        )
        return [handle.map_id for handle in handles]

    def close(self) -> None:
        """Close all descriptors; the maps stay pinned."""
        self._opened.close()
