"""One row of every struct of abi.h, packed by us, and what each of its fields holds.

Every value differs from every other, so that two fields in each other's place are seen.
"""

from __future__ import annotations

from ipaddress import IPv6Network

from netagent.dataplane import abi, abi_flows, abi_policy
from netagent.dataplane.abi import EndpointRow, Misdirected, TransitionRow, Verdict
from netagent.dataplane.abi_flows import (
    EventKind,
    EventRow,
    FlowFlag,
    FlowRow,
    FlowStateRow,
    FragmentRow,
    FragmentStateRow,
    Program,
)
from netagent.dataplane.abi_policy import (
    IntervalRange,
    PolicyClassRow,
    PolicyIntervalRow,
    PolicyNetworkRow,
    PolicyPairRow,
    PolicyPrefixRow,
    PolicyRevision,
    RuleRow,
)
from netagent.model.addresses import Locator, StableId
from netagent.model.fleet import Identity, Location

HERE, THERE = Locator(0xFC1A000100021234), Locator(0xFC1A000100034321)
MACHINE, PEER = StableId(0x0000000A00100007), StableId(0x0000000B00200008)
OUTSIDE = 0x20010DB800000001


def be64(value: int) -> bytes:
    return value.to_bytes(8, "big")


PACKED: list[tuple[str, bytes, dict[str, int | bytes]]] = [
    (
        "location",
        abi.pack_location(Location(HERE, Identity(7), 9)),
        {"locator_be": be64(HERE), "identity": 7, "epoch": 9},
    ),
    (
        "transition",
        abi.pack_transition(TransitionRow(HERE, THERE, 11, 12)),
        {
            "source_be": be64(HERE),
            "destination_be": be64(THERE),
            "deadline_ns": 11,
            "epoch": 12,
        },
    ),
    (
        "endpoint",
        abi.pack_endpoint(EndpointRow(5, b"\2nabcd", True)),
        {"ifindex": 5, "flags": 1, "mac": b"\2nabcd"},
    ),
    (
        "misdirected",
        abi.pack_misdirected(Misdirected(11, 12)),
        {"forwarded": 11, "dropped": 12},
    ),
    (
        "flow",
        abi_flows.pack_flow(FlowRow(MACHINE, PEER, OUTSIDE, 443, 4000, 17, True)),
        {
            "low_be": be64(MACHINE),
            "high_be": be64(PEER),
            "outside_be": be64(OUTSIDE),
            "low_port_be": b"\x01\xbb",
            "high_port_be": b"\x0f\xa0",
            "protocol": 17,
            "is_outside": 1,
        },
    ),
    (
        "flow_state",
        abi_flows.pack_flow_state(
            FlowStateRow(13, 14, FlowFlag.ANSWERED | FlowFlag.RESET, 15, 16, 17, 18)
        ),
        {
            "seen_ns": 13,
            "generation": 14,
            "flags": 66,
            "egress_rule": 15,
            "egress_audit": 16,
            "ingress_rule": 17,
            "ingress_audit": 18,
        },
    ),
    (
        "fragment",
        abi_flows.pack_fragment(FragmentRow(MACHINE, PEER, OUTSIDE, 0x01020304, True)),
        {
            "source_be": be64(MACHINE),
            "destination_be": be64(PEER),
            "outside_be": be64(OUTSIDE),
            "identification_be": b"\1\2\3\4",
            "is_outside": 1,
        },
    ),
    (
        "fragment_state",
        abi_flows.pack_fragment_state(FragmentStateRow(21, 22, 23, 24)),
        {"seen_ns": 21, "generation": 22, "egress_rule": 23, "ingress_rule": 24},
    ),
    ("policy_state", abi_policy.pack_state(31), {"generation": 31}),
    (
        "policy_network",
        abi_policy.pack_policy_network(
            PolicyNetworkRow(
                31, PolicyRevision(0, 30, (27, 28, 29)), PolicyRevision(1, 32, (2**63, 34, 35))
            )
        ),
        {
            "turn": 31,
            "old_slot": 0,
            "old_version": 30,
            "old_defaults": b"".join(n.to_bytes(8, "little") for n in (27, 28, 29)),
            "slot": 1,
            "version": 32,
            "defaults": b"".join(n.to_bytes(8, "little") for n in (2**63, 34, 35)),
        },
    ),
    (
        "policy_pair",
        abi_policy.pack_policy_pair(PolicyPairRow(41, 42, 43, 2, 1)),
        {"network": 41, "source": 42, "destination": 43, "direction": 2, "slot": 1},
    ),
    (
        "policy_prefix",
        abi_policy.pack_policy_prefix(PolicyPrefixRow(51, 1, IPv6Network("2001:db8::/33"))),
        {
            "prefix_bits": 64 + 33,
            "network": 51,
            "slot": 1,
            "address": IPv6Network("2001:db8::/33").network_address.packed,
        },
    ),
    (
        "policy_class",
        abi_policy.pack_policy_class(PolicyClassRow(2**64 - 3, 6)),
        {"class_id": 2**64 - 3, "protocol": 6},
    ),
    (
        "interval_range",
        abi_policy.pack_interval_range(IntervalRange(61, 62)),
        {"first": 61, "count": 62},
    ),
    (
        "policy_interval",
        abi_policy.pack_policy_interval(PolicyIntervalRow(443, True, 71, 72)),
        {"first_port": 443, "is_allowed": 1, "is_audited": 1, "rule": 71, "audit_rule": 72},
    ),
    ("rule", abi_policy.pack_rule(RuleRow(81, 82)), {"network": 81, "number": 82}),
]

READ_ONLY: dict[str, tuple[dict[str, int | bytes], EventRow | None]] = {
    "event": (
        {
            "time_ns": 91,
            "source_upper_be": be64(HERE),
            "source_be": be64(MACHINE),
            "destination_upper_be": be64(THERE),
            "destination_be": be64(PEER),
            "bytes": 92,
            "network": 93,
            "version": 94,
            "rule": 95,
            "audit_rule": 96,
            "source_port_be": b"\x0f\xa0",
            "destination_port_be": b"\x01\xbb",
            "kind": 2,
            "verdict": 37,
            "program": 3,
            "direction": 1,
            "protocol": 17,
            "icmp_type": 128,
            "icmp_code": 4,
            "is_audited": 1,
        },
        EventRow(
            time_ns=91,
            source_upper=HERE,
            source=MACHINE,
            destination_upper=THERE,
            destination=PEER,
            bytes=92,
            network=93,
            version=94,
            rule=95,
            audit_rule=96,
            source_port=4000,
            destination_port=443,
            kind=EventKind.AUDIT,
            verdict=Verdict.DROP_DENIED_INGRESS,
            program=Program.FROM_HOST,
            direction=1,
            protocol=17,
            icmp_type=128,
            icmp_code=4,
            is_audited=True,
        ),
    ),
    "counter": ({}, None),
    "rule_counter": ({}, None),
    "event_bucket": ({}, None),
}
"""Structs that only programs write. Counters are read as words of 64 bits, in order."""
