"""What an agent is told at its start."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from ipaddress import IPv6Address
from pathlib import Path
from typing import Any

from netagent.dataplane.abi import pin_directory
from netagent.model.addresses import REGION_MAX
from netagent.model.errors import ConfigError, InvalidError
from netagent.model.fleet import Endpoint, check_name

INTERFACE_NAME_MAX = 15
MTU_MIN_BYTES = 1280
"""IPv6 does not work below (RFC 8200, section 5)."""
MTU_MAX_BYTES = 65_535


@dataclass(frozen=True, slots=True)
class AgentConfig:
    """Configuration of one agent; checked when it is made (ConfigError: a line a problem).

    name: this host's name in the fleet.
    control: gRPC target, as unix:///run/netagent/control.sock or 10.0.0.1:7400.
    endpoint: where this host's WireGuard listens on the underlay.
    region: 0 to 4095; part of the host's number for life.
    state_dir: key and replica. run_dir: the local API's socket. bpffs: a mounted BPF file system.
    mtu_bytes: of machines and mesh; None: what the underlay allows.
    audit_interval_s: greatest time between two comparisons of the kernel with intent.
    hooks_dir: executables that are told what happens to machines here, by name of the event.
    """

    name: str
    control: str
    endpoint: Endpoint
    region: int = 1
    state_dir: Path = Path("/var/lib/netagent/agent")
    run_dir: Path = Path("/run/netagent")
    bpffs: Path = Path("/sys/fs/bpf")
    mesh_interface: str = "netagent0"
    host_interface: str = "na-host"
    mtu_bytes: int | None = None
    audit_interval_s: float = 30.0
    hooks_dir: Path = Path("/etc/netagent/hooks")

    def __post_init__(self) -> None:
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        if problems := self.find_problems(values):
            raise ConfigError("\n".join(problems))

    @staticmethod
    def find_problems(values: Mapping[str, Any]) -> list[str]:
        """Return `KEY: problem` for each value, by key, that breaks a rule; of any of the keys."""
        found = (
            (key, problem)
            for key, check in _CHECKS.items()
            if key in values and (problem := check(values[key]))
        )
        problems = [f"{key}: {problem}" for key, problem in found]
        if "mesh_interface" in values and values["mesh_interface"] == values.get("host_interface"):
            problems.append("host_interface: is the same as mesh_interface")
        return problems

    @property
    def pin_dir(self) -> Path:
        """Where maps and programs are pinned; the number is the version of their layout."""
        return pin_directory(self.bpffs)

    @property
    def private_key(self) -> Path:
        """WireGuard's private key, 0600; never leaves the host."""
        return self.state_dir / "wireguard.key"

    @property
    def replica(self) -> Path:
        """The published SQLite file, see docs/replica.md."""
        return self.state_dir / "replica.db"

    @property
    def lock(self) -> Path:
        """Held (flock) while an agent runs."""
        return self.state_dir / "lock"

    @property
    def socket(self) -> Path:
        """The local API's unix socket."""
        return self.run_dir / "agent.sock"


def _check_name(name: str) -> str:
    try:
        check_name("name", name)
    except InvalidError as error:
        return error.problem
    return ""


def _check_control(control: str) -> str:
    return "" if control else "name control's address, as unix:///run/netagent/control.sock"


def _check_endpoint(endpoint: Endpoint) -> str:
    address = endpoint.address
    if address.is_unspecified or address.is_multicast:
        return f"{address} is not an address that other hosts can send to"
    if isinstance(address, IPv6Address) and address.is_link_local:
        return f"{address} is link-local; other hosts need a routed address"
    return ""


def _check_region(region: int) -> str:
    return "" if 0 <= region <= REGION_MAX else f"{region} is not within 0 to {REGION_MAX}"


def _check_interface(name: str) -> str:
    if 0 < len(name) <= INTERFACE_NAME_MAX and "/" not in name and name == name.strip():
        return ""
    return f"{name!r} is not an interface name of 1 to {INTERFACE_NAME_MAX} letters"


def _check_mtu(mtu_bytes: int | None) -> str:
    if mtu_bytes is None or MTU_MIN_BYTES <= mtu_bytes <= MTU_MAX_BYTES:
        return ""
    return f"{mtu_bytes} is not within {MTU_MIN_BYTES} to {MTU_MAX_BYTES}"


def _check_audit_interval(audit_interval_s: float) -> str:
    return "" if audit_interval_s > 0 else f"{audit_interval_s} is not greater than 0"


_CHECKS: dict[str, Callable[[Any], str]] = {
    "name": _check_name,
    "control": _check_control,
    "endpoint": _check_endpoint,
    "region": _check_region,
    "mesh_interface": _check_interface,
    "host_interface": _check_interface,
    "mtu_bytes": _check_mtu,
    "audit_interval_s": _check_audit_interval,
}
"""What is wrong with the value of a key, or nothing."""
