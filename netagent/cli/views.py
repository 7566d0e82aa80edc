"""API messages as the documents that `--output json` prints; field names are in docs/cli.md."""

from __future__ import annotations

import base64
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from netagent.api.agent.v1 import agent_service_pb2 as agent_pb
from netagent.api.types.v1 import types_pb2

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
        "etag": machine.etag,
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
            }
            for peer in status.peers
        ],
        "endpoints": [attached_view(endpoint) for endpoint in status.endpoints],
        "counters": [
            {"verdict": each.verdict, "packets": each.packets, "bytes": each.bytes}
            for each in status.counters
        ],
        "maps": [
            {"name": each.name, "entries": each.entries, "capacity": each.capacity}
            for each in status.maps
        ],
    }


def _time_text(time: Timestamp) -> str:
    return time.ToJsonString()
