"""`netagent status`: what this host's agent does and sees."""

from __future__ import annotations

import time

import click

from netagent.api.agent.v1 import agent_service_pb2 as pb
from netagent.api.agent.v1.agent_service_pb2_grpc import AgentServiceStub
from netagent.cli.channel import agent_stub, timeout_s
from netagent.cli.endpoint import ENDPOINT_HEADERS, endpoint_row
from netagent.cli.failures import printable
from netagent.cli.options import agent_options, examples, shared
from netagent.cli.output import (
    format_age,
    format_bytes,
    print_fields,
    print_json,
    print_table,
)
from netagent.cli.views import Document, status_view

NOISE = frozenset({"drop_link_local"})
"""Drops of what every guest sends of itself: duplicate address detection, router solicitation."""


@click.command(epilog=examples("netagent status", "netagent status -o json | jq .conditions"))
@agent_options
@click.pass_context
def status(ctx: click.Context) -> None:
    """Show conditions, peers, attached machines, policies, packets by verdict, and map usage.

    This is about the host that you are on. A drop is marked with `!`, or with `noise` where guests
    cause it by themselves; docs/architecture.md says what each verdict means.
    """
    options = shared(ctx)
    with agent_stub(options, AgentServiceStub) as stub:
        found = stub.GetStatus(pb.GetStatusRequest(), timeout=timeout_s(options))
    if options.is_json:
        print_json(status_view(found))
    else:
        print_status(found, now_s=time.time())


def print_status(status: pb.GetStatusResponse, now_s: float) -> None:
    """Print an agent's status for people. now_s: Unix time, for ages."""
    view = status_view(status)
    print_fields(
        {
            "host": f"{status.host} (netagent {status.version})",
            "address": status.address,
            "locator": status.locator,
            "control": "connected" if status.connected else "not connected",
            "revision": str(status.applied_revision or ""),
            "wireguard": status.wireguard,
            "mtu": f"{status.mtu_bytes} bytes" if status.mtu_bytes else "",
            "drift": f"{status.drift_mended} mended since the start",
            "writes": f"{status.kernel_writes} to the kernel since the start",
        }
    )
    _print_conditions(status, now_s)
    _print_section(
        "Peers",
        ("HOST", "ENDPOINT", "HANDSHAKE", "RECEIVED", "SENT", "MISDIRECTED"),
        [_peer_row(peer, now_s) for peer in status.peers],
    )
    endpoints: list[Document] = view["endpoints"]
    _print_section("Endpoints", ENDPOINT_HEADERS, [endpoint_row(each) for each in endpoints])
    _print_section(
        "Policies",
        ("NETWORK", "VERSION", "PAIRS"),
        [
            (each.network, str(each.version) if each.version else "built-in", str(each.pairs))
            for each in status.policies
        ],
    )
    _print_section(
        "Packets",
        ("", "VERDICT", "PACKETS", "BYTES"),
        [
            (
                _mark(each.verdict),
                each.verdict,
                str(each.packets),
                format_bytes(each.bytes),
            )
            for each in status.counters
            if each.packets
        ],
    )
    _print_section(
        "Maps",
        ("MAP", "ENTRIES", "CAPACITY", "USED"),
        [
            (each.name, str(each.entries), str(each.capacity), _format_share(each))
            for each in status.maps
        ],
    )


def _mark(verdict: str) -> str:
    if verdict in NOISE:
        return "noise"
    return "!" if verdict.startswith("drop_") else " "


def _print_conditions(status: pb.GetStatusResponse, now_s: float) -> None:
    click.echo()
    if not status.conditions:
        click.echo("Conditions: none")
        return
    click.echo("Conditions")
    for each, view in zip(status.conditions, status_view(status)["conditions"], strict=True):
        age = format_age(now_s - each.since.ToMilliseconds() / 1000)
        text = f"  {view['severity']}  {each.code}  for {age}  {each.detail}"
        click.echo(printable(text.rstrip()))


def _print_section(title: str, headers: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    click.echo()
    if rows:
        click.echo(title)
        print_table(headers, rows)
    else:
        click.echo(f"{title}: none")


def _peer_row(peer: pb.Peer, now_s: float) -> tuple[str, ...]:
    handshake = "never"
    if peer.HasField("last_handshake"):
        handshake = f"{format_age(now_s - peer.last_handshake.ToSeconds())} ago"
    received, sent = format_bytes(peer.received_bytes), format_bytes(peer.sent_bytes)
    wrong = _misdirected(peer)
    return peer.host, peer.endpoint, handshake, received, sent, wrong


def _misdirected(peer: pb.Peer) -> str:
    """Return what a host sent here for machines that are elsewhere."""
    kinds = {"forwarded": peer.misdirected_forwarded, "dropped": peer.misdirected_dropped}
    return ", ".join(f"{count} {kind}" for kind, count in kinds.items() if count)


def _format_share(usage: pb.MapUsage) -> str:
    return f"{100 * usage.entries / usage.capacity:.1f}%" if usage.capacity else ""
