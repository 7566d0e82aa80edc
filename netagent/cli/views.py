"""API messages as the documents that `--output json` prints; field names are in docs/cli.md."""

from __future__ import annotations

import base64
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from netagent.api.agent.v1 import agent_service_pb2 as agent_pb
from netagent.api.control.v1 import policy_service_pb2 as policy_pb
from netagent.api.types.v1 import types_pb2
from netagent.policy.traffic import ICMP6, format_point

Document = dict[str, Any]


def endpoint_text(endpoint: types_pb2.Endpoint) -> str:
    """Return ADDRESS:PORT, IPv6 in brackets; empty when unset."""
    if not endpoint.address:
        return ""
    is_v6 = ":" in endpoint.address
    return f"{f'[{endpoint.address}]' if is_v6 else endpoint.address}:{endpoint.port}"


def enum_word(name: str, prefix: str) -> str:
    """Return an enum value's name as people read it: `MOVE_PHASE_SETTLED` is `settled`."""
    return name.removeprefix(prefix).lower()


def host_view(host: types_pb2.Host) -> Document:
    """Return a host's document."""
    return {
        "name": host.name,
        "region": host.region,
        "number": host.number,
        "public_key": base64.b64encode(host.public_key).decode(),
        "endpoint": endpoint_text(host.endpoint),
        "address": host.address,
        "locator": host.locator,
        "connected": host.connected,
        "applied_revision": host.applied_revision,
        "etag": host.etag,
    }


def network_view(network: types_pb2.Network) -> Document:
    """Return a network's document."""
    return {
        "name": network.name,
        "number": network.number,
        "machine_count": network.machine_count,
        "etag": network.etag,
    }


def machine_view(machine: types_pb2.Machine) -> Document:
    """Return a machine's document."""
    return {
        "machine": f"{machine.network}/{machine.name}",
        "network": machine.network,
        "name": machine.name,
        "address": machine.address,
        "labels": dict(sorted(machine.labels.items())),
        "host": machine.host or None,
        "epoch": machine.epoch,
        "identity": machine.identity,
        "mac": machine.mac,
        "floating_addresses": list(machine.floating_addresses),
        "etag": machine.etag,
    }


def address_view(address: types_pb2.FloatingAddress) -> Document:
    """Return a floating address's document."""
    return {
        "name": f"{address.network}/{address.name}",
        "network": address.network,
        "address": address.address,
        "holder": address.holder or None,
        "host": address.host or None,
        "epoch": address.epoch,
        "etag": address.etag,
    }


def move_view(move: types_pb2.Move) -> Document:
    """Return a move's document."""
    return {
        "move_id": move.move_id,
        "machine": move.machine,
        "source": move.source or None,
        "destination": move.destination,
        "epoch": move.epoch,
        "phase": enum_word(types_pb2.MovePhase.Name(move.phase), "MOVE_PHASE_"),
        "trigger": trigger_word(move.trigger),
        "forced": move.forced,
        "called": move.called,
        "carried_connections": move.carried_connections
        if move.HasField("carried_connections")
        else None,
        "warnings": list(move.warnings),
        "abort_reason": move.abort_reason or None,
    }


def trigger_word(trigger: types_pb2.MoveTrigger) -> str:
    """Return a trigger as the option `--on` has it: `at-once`, `call`, `life`."""
    return enum_word(types_pb2.MoveTrigger.Name(trigger), "MOVE_TRIGGER_").replace("_", "-")


def policy_view(policy: policy_pb.Policy) -> Document:
    """Return the document of one version of a policy, without its text."""
    return {
        "network": policy.network,
        "version": policy.version,
        "applied_at": _time_text(policy.applied_at),
        "rolled_back_to": policy.rolled_back_to if policy.HasField("rolled_back_to") else None,
    }


def attached_view(endpoint: agent_pb.AttachedEndpoint) -> Document:
    """Return an attached machine's document."""
    return {
        "machine": endpoint.machine,
        "address": endpoint.address,
        "interface": endpoint.interface,
        "ifindex": endpoint.ifindex,
        "mac": endpoint.mac,
        "netns": endpoint.netns or None,
        "state": enum_word(agent_pb.EndpointState.Name(endpoint.state), "ENDPOINT_STATE_"),
    }


def status_view(status: agent_pb.GetStatusResponse) -> Document:
    """Return the document of an agent's status."""
    return {
        "host": status.host,
        "version": status.version,
        "address": status.address or None,
        "locator": status.locator or None,
        "connected": status.connected,
        "applied_revision": status.applied_revision,
        "wireguard": status.wireguard or None,
        "mtu_bytes": status.mtu_bytes,
        "drift_mended": status.drift_mended,
        "kernel_writes": status.kernel_writes,
        "conditions": [
            {
                "code": condition.code,
                "severity": enum_word(types_pb2.Severity.Name(condition.severity), "SEVERITY_"),
                "since": _time_text(condition.since),
                "detail": condition.detail,
            }
            for condition in status.conditions
        ],
        "peers": [
            {
                "host": peer.host,
                "endpoint": peer.endpoint,
                "last_handshake": _time_text(peer.last_handshake)
                if peer.HasField("last_handshake")
                else None,
                "received_bytes": peer.received_bytes,
                "sent_bytes": peer.sent_bytes,
                "misdirected_forwarded": peer.misdirected_forwarded,
                "misdirected_dropped": peer.misdirected_dropped,
            }
            for peer in status.peers
        ],
        "endpoints": [attached_view(endpoint) for endpoint in status.endpoints],
        "policies": [
            {"network": each.network, "version": each.version, "pairs": each.pairs}
            for each in status.policies
        ],
        "counters": [
            {"verdict": each.verdict, "packets": each.packets, "bytes": each.bytes}
            for each in status.counters
        ],
        "maps": [
            {"name": each.name, "entries": each.entries, "capacity": each.capacity}
            for each in status.maps
        ],
    }


def counter_view(counter: agent_pb.RuleCounter) -> Document:
    """Return the document of what one rule has decided at one side."""
    return {
        "network": counter.network,
        "rule": counter.rule or None,
        "side": "receiver" if counter.at_receiver else "sender",
        "allowed_packets": counter.allowed_packets,
        "allowed_bytes": counter.allowed_bytes,
        "denied_packets": counter.denied_packets,
        "denied_bytes": counter.denied_bytes,
        "audited_packets": counter.audited_packets,
        "audited_bytes": counter.audited_bytes,
    }


def flow_view(flow: agent_pb.Flow) -> Document:
    """Return a flow's document."""
    kind = enum_word(agent_pb.FlowKind.Name(flow.kind), "FLOW_KIND_")
    is_icmp6 = flow.protocol == ICMP6
    return {
        "time": _time_text(flow.time),
        "kind": kind,
        "verdict": flow.verdict,
        "program": flow.program,
        "from": {"name": flow.source.name or None, "address": flow.source.address},
        "to": {"name": flow.destination.name or None, "address": flow.destination.address},
        "traffic": _traffic(flow) or None,
        "protocol": flow.protocol,
        "source_port": flow.source_port,
        "destination_port": flow.destination_port,
        "icmp_type": flow.icmp_type if is_icmp6 else None,
        "icmp_code": flow.icmp_code if is_icmp6 else None,
        "bytes": flow.bytes,
        "network": flow.network or None,
        "version": flow.version if flow.network else None,
        "direction": flow.direction or None,
        "rule": flow.rule or None,
        "audited": kind == "audit" or bool(flow.audit_rule),
        "audit_rule": flow.audit_rule or None,
    }


def _traffic(flow: agent_pb.Flow) -> str:
    """Return what the packet was, as `tcp/443`; empty when it was not read that far."""
    if not flow.protocol:
        return ""
    is_icmp6 = flow.protocol == ICMP6
    return format_point(flow.protocol, flow.icmp_type << 8 if is_icmp6 else flow.destination_port)


def _time_text(time: Timestamp) -> str:
    return time.ToJsonString()
