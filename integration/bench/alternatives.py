"""What users have without netagent: plain routed WireGuard, and VXLAN over that same WireGuard.

Two hosts on an underlay of their own, with the same WireGuard implementation, MTU and machines in
namespaces as the lab has.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from tempfile import mkdtemp
from types import TracebackType

from integration.lab.fabric import FIRST_HOST_NUMBER, make_bridge, plug_in, underlay_address
from integration.lab.namespace import HOST_MOUNTS, Namespace, start_namespace

MTU_BYTES = 1408
VXLAN_OVERHEAD_BYTES = 70
PORT = 51820

SCRIPT_HOST = """
sysctl -qw net.ipv6.conf.all.forwarding=1
wireguard-go wg0 2>/dev/null || ip link add wg0 type wireguard
wg show wg0 >/dev/null
wg genkey >/run/key
wg set wg0 private-key /run/key listen-port {port}
ip link set wg0 mtu {mtu} up
ip addr add fd0c::{number}/128 dev wg0 nodad
ip link add br0 type bridge
ip link set br0 up
"""

SCRIPT_PEER = """
wg set wg0 peer {key} endpoint {endpoint} allowed-ips {allowed}
ip -6 route add fd0b::{other}/128 dev wg0
ip -6 route add fd0c::{other}/128 dev wg0
ip link add vx0 mtu {vxlan_mtu} type vxlan id 7 local fd0c::{number} remote fd0c::{other} \
  dstport 4789 dev wg0
ip link set vx0 master br0 up
"""

SCRIPT_ROUTED_HOST = """
ip addr add fe80::1/64 dev routed nodad
ip link set routed up
ip -6 route add fd0b::{number}/128 dev routed
"""

SCRIPT_ROUTED_MACHINE = """
ip link set eth0 mtu {mtu} up
ip addr add fd0b::{number}/128 dev eth0 nodad
ip -6 route add default via fe80::1 dev eth0
"""

SCRIPT_BRIDGED_MACHINE = """
ip link set eth0 mtu {vxlan_mtu} up
ip addr add fd0d::{number}/64 dev eth0 nodad
"""


class Alternatives:
    """Two hosts; on each one machine that is routed and one that is bridged into the VXLAN."""

    def __init__(self) -> None:
        self.directory = Path(mkdtemp(prefix="netagent-bench-"))
        self.hosts: list[Namespace] = []
        self.routed: list[Namespace] = []
        self.bridged: list[Namespace] = []
        self._fabric: Namespace | None = None
        self.keys: list[str] = []

    def routed_address(self, index: int) -> str:
        """Return the address of a routed machine."""
        return f"fd0b::{index + 1}"

    def bridged_address(self, index: int) -> str:
        """Return the address of a bridged machine."""
        return f"fd0d::{index + 1}"

    def start(self) -> None:
        """Bring everything up."""
        self._fabric = self._namespace("fabric")
        make_bridge(self._fabric, 1500)
        for index in range(2):
            host = self._namespace(f"host-{index}", HOST_MOUNTS)
            self.hosts.append(host)
            address = underlay_address(4, FIRST_HOST_NUMBER + index)
            plug_in(self._fabric, f"port-{index}", host, address, 1500)
            self._shell(host, SCRIPT_HOST, index)
            self.keys.append(host.run("sh", "-c", "wg pubkey </run/key").stdout.strip())
            self._add_machine(index, "routed", self.routed, SCRIPT_ROUTED_MACHINE)
            self._add_machine(index, "bridged", self.bridged, SCRIPT_BRIDGED_MACHINE)
            self._shell(host, SCRIPT_ROUTED_HOST, index)
            host.run("ip", "link", "set", "bridged", "master", "br0", "up")
        for index, host in enumerate(self.hosts):
            self._shell(host, SCRIPT_PEER, index)

    def stop(self) -> None:
        """End everything."""
        for namespace in [*self.routed, *self.bridged, *self.hosts, self._fabric]:
            if namespace is not None:
                namespace.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _add_machine(self, index: int, kind: str, into: list[Namespace], script: str) -> None:
        machine = self._namespace(f"{kind}-{index}")
        into.append(machine)
        host = self.hosts[index]
        cable = ["ip", "link", "add", kind, "type", "veth", "peer", "name", "eth0"]
        host.run_outside(
            ["nsenter", "-t", str(host.pid), "-n", "--", *cable, "netns", str(machine.pid)]
        )
        self._shell(machine, script, index)

    def _shell(self, namespace: Namespace, script: str, index: int) -> None:
        other = 1 - index
        text = script.format(
            number=index + 1,
            other=other + 1,
            port=PORT,
            mtu=MTU_BYTES,
            vxlan_mtu=MTU_BYTES - VXLAN_OVERHEAD_BYTES,
            key=self.keys[other] if len(self.keys) == 2 else "",
            endpoint=f"{underlay_address(4, FIRST_HOST_NUMBER + other)}:{PORT}",
            allowed=f"fd0b::{other + 1}/128,fd0c::{other + 1}/128",
        )
        namespace.run("sh", "-ec", text)

    def _namespace(self, name: str, mounts: str = "") -> Namespace:
        return start_namespace(name, self.directory, mounts=mounts, is_bound=True)

    def __enter__(self) -> Alternatives:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
