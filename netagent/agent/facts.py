"""What the engine tells about itself, as plain values."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime

from netagent.agent.attached import AttachedMachine, EndpointState
from netagent.agent.config import MTU_MIN_BYTES
from netagent.dataplane.abi import Counter, Misdirected, Verdict
from netagent.model.addresses import Fleet, Locator
from netagent.model.errors import ConfigError
from netagent.model.fleet import Host
from netagent.reconcile.moving import Taking

WIREGUARD_OVERHEAD_BYTES = 80
"""On an IPv6 underlay, the larger of the two."""


@dataclass(frozen=True, slots=True)
class OwnHost:
    """Who this host is in the fleet."""

    fleet: Fleet
    host: Host


@dataclass(frozen=True, slots=True)
class Reconciled:
    """What one comparison did.

    writes: to the kernel. missing: attached machines without interface -> why.
    """

    writes: int
    missing: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EndpointStatus:
    """One attached machine now. ifindex: 0 while the interface is missing."""

    attached: AttachedMachine
    ifindex: int
    state: EndpointState


@dataclass(frozen=True, slots=True)
class TakenMachine:
    """A machine that is attached here and was taken to another host while this one was away."""

    attached: AttachedMachine
    taking: Taking


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """What the engine knows of itself.

    misdirected: by the host that sent it. maps: name -> (entries, capacity).
    """

    own: OwnHost | None
    wireguard: str
    mtu_bytes: int
    endpoints: tuple[EndpointStatus, ...]
    counters: dict[Verdict, Counter]
    misdirected: dict[Locator, Misdirected]
    maps: dict[str, tuple[int, int]]
    kernel_writes: int


def inner_mtu(underlay_mtu_bytes: int) -> int:
    """Return the MTU of mesh and machines on an underlay: the greatest multiple of 16 that fits.

    WireGuard pads to 16 bytes and may exceed the underlay's MTU with anything else. Raises
    ConfigError below 1280.
    """
    inner = (underlay_mtu_bytes - WIREGUARD_OVERHEAD_BYTES) // 16 * 16
    if inner < MTU_MIN_BYTES:
        raise ConfigError(
            f"endpoint: the underlay's MTU of {underlay_mtu_bytes} leaves {inner} bytes for"
            f" machines; IPv6 needs {MTU_MIN_BYTES}"
        )
    return inner


def describe_taken(taken: TakenMachine) -> str:
    """Return a sentence on a machine that was taken away."""
    host, epoch = taken.taking.host, taken.taking.epoch
    fate = f"was moved to host {host}" if host else "was moved to another host, or deleted,"
    return (
        f"machine {taken.attached.machine} {fate} while this host was away (epoch {epoch}): end"
        " what still runs of it here, then `netagent detach` it"
    )


def describe_silence(host: Host, last_handshake_s: int) -> str:
    """Return a sentence on a host that WireGuard cannot reach; last_handshake_s: Unix, 0 never."""
    if not last_handshake_s:
        return f"host {host.name} at {host.endpoint} has never answered"
    last = datetime.fromtimestamp(last_handshake_s, UTC)
    return f"host {host.name} at {host.endpoint} has not answered since {last:%Y-%m-%dT%H:%M:%SZ}"
