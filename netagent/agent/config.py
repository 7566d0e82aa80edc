"""What an agent is told at its start."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv6Address
from pathlib import Path

from netagent.dataplane.abi import pin_directory
from netagent.model.addresses import REGION_MAX
from netagent.model.errors import ConfigError, InvalidError
from netagent.model.fleet import Endpoint, check_name

INTERFACE_NAME_MAX = 15
MTU_MIN_BYTES = 1280
"""IPv6 does not work below (RFC 8200, section 5)."""


@dataclass(frozen=True, slots=True)
class AgentConfig:
    """Configuration of one agent; checked when it is made (ConfigError names the key).

    name: this host's name in the fleet.
    control: gRPC target, as unix:///run/netagent/control.sock or 10.0.0.1:7400.
    endpoint: where this host's WireGuard listens on the underlay.
    region: 0 to 4095; part of the host's number for life.
    state_dir: key and replica. run_dir: the local API's socket. bpffs: a mounted BPF file system.
    mtu_bytes: of machines and mesh; None: what the underlay allows.
    audit_interval_s: greatest time between two comparisons of the kernel with intent.
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

    def __post_init__(self) -> None:
        try:
            check_name("name", self.name)
        except InvalidError as error:
            raise ConfigError(str(error)) from error
        if not self.control:
            raise ConfigError(
                "control: name control's address, as unix:///run/netagent/control.sock"
            )
        address = self.endpoint.address
        if address.is_unspecified or address.is_multicast:
            raise ConfigError(f"endpoint: {address} is not an address that other hosts can send to")
        if isinstance(address, IPv6Address) and address.is_link_local:
            raise ConfigError(
                f"endpoint: {address} is link-local; other hosts need a routed address"
            )
        if not 0 <= self.region <= REGION_MAX:
            raise ConfigError(f"region: {self.region} is not within 0 to {REGION_MAX}")
        for key in ("mesh_interface", "host_interface"):
            name: str = getattr(self, key)
            if not 0 < len(name) <= INTERFACE_NAME_MAX or "/" in name or name != name.strip():
                raise ConfigError(
                    f"{key}: {name!r} is not an interface name of 1 to {INTERFACE_NAME_MAX} letters"
                )
        if self.mesh_interface == self.host_interface:
            raise ConfigError("host_interface: is the same as mesh_interface")
        if self.mtu_bytes is not None and not MTU_MIN_BYTES <= self.mtu_bytes <= 65_535:
            raise ConfigError(f"mtu_bytes: {self.mtu_bytes} is not within {MTU_MIN_BYTES} to 65535")
        if self.audit_interval_s <= 0:
            raise ConfigError(f"audit_interval_s: {self.audit_interval_s} is not greater than 0")

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
