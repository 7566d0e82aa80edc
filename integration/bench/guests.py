"""Machines inside guests of the VM lab: on netagent's mesh, and on plain kernel WireGuard.

Both pairs are namespaces of the same two hosts, so that their packets meet the same kernel, the
same processor and the same underlay, and no cable of the lab's.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from integration.bench.alternatives import SCRIPT_ROUTED_HOST, SCRIPT_ROUTED_MACHINE
from integration.bench.throughput import Way
from integration.lab.vm.host import GuestHost
from integration.lab.vm.lab import RPC_TIMEOUT_S, VmLab
from integration.lab.vm.shell import COMMAND_S, GuestShell
from integration.lab.wait import wait_until
from netagent.api.control.v1 import machine_service_pb2 as machine_pb
from netagent.api.control.v1.machine_service_pb2_grpc import MachineServiceStub

NETWORK = "bench"
NETAGENT, PLAIN = "netagent", "plain WireGuard"
DEVICES = {NETAGENT: "netagent0", PLAIN: "plain0"}
"""By way: the WireGuard interface of its hosts."""

PLAIN_PORT = 51821
"""netagent has its usual one on the same hosts."""

SCRIPT_DEVICE = """
sysctl -qw net.ipv6.conf.all.forwarding=1
ip link add plain0 type wireguard
(umask 077; wg genkey >/run/plain.key)
wg set plain0 private-key /run/plain.key listen-port {port}
ip link set plain0 mtu {mtu} up
wg pubkey </run/plain.key
"""

SCRIPT_MACHINE = """
ip netns add plain
ip link add routed type veth peer name eth0 netns plain
"""

SCRIPT_PEER = """
wg set plain0 peer {key} endpoint {endpoint} allowed-ips fd0b::{other}/128
ip -6 route add fd0b::{other}/128 dev plain0
"""


@dataclass(frozen=True, slots=True)
class GuestPlace:
    """A network namespace of a guest. device: the WireGuard interface of its host."""

    host: GuestHost
    name: str
    device: str

    @property
    def shell(self) -> GuestShell:
        """The guest."""
        return self.host.namespace

    def run(
        self, *arguments: str, check: bool = True, timeout_s: float = COMMAND_S
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end; CommandError when it fails and `check` is set."""
        return self.shell.run(*self._inside(arguments), check=check, timeout_s=timeout_s)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a command that goes on."""
        return self.shell.start(*self._inside(arguments))

    def _inside(self, arguments: Sequence[str]) -> tuple[str, ...]:
        return ("nsenter", f"--net=/run/netns/{self.name}", "--", *arguments)


def make_ways(lab: VmLab) -> list[Way]:
    """Make a pair of machines of each kind on the lab's first two hosts, and join them."""
    hosts = list(lab.hosts.values())[:2]
    ways = [join_mesh(lab, hosts), _join_plain(hosts)]
    for way in ways:
        wait_connected(way)
    return ways


def wait_connected(way: Way) -> None:
    """Wait until the server answers the client."""
    ping = ("ping", "-6", "-n", "-q", "-c", "1", "-W", "1", way.server_address)
    wait_until(
        f"{way.name} connects",
        lambda: way.client.run(*ping, check=False, timeout_s=COMMAND_S).returncode == 0,
    )


def join_mesh(lab: VmLab, hosts: Sequence[GuestHost]) -> Way:
    """Make a machine inside each of two hosts, and attach it there; the first is the client."""
    lab.network(NETWORK)
    stub = MachineServiceStub(lab.channel)
    places = []
    for host in hosts:
        name = f"on-{host.name}"
        request = machine_pb.CreateMachineRequest(network=NETWORK, name=name, host=host.name)
        address = stub.CreateMachine(request, timeout=RPC_TIMEOUT_S).machine.address
        host.run("ip", "netns", "add", name)
        host.run("netagent", "attach", f"{NETWORK}/{name}", "--netns", f"/run/netns/{name}")
        places.append(GuestPlace(host, name, DEVICES[NETAGENT]))
    return Way(NETAGENT, *places, address)


def _join_plain(hosts: Sequence[GuestHost]) -> Way:
    mtu = hosts[0].status().mtu_bytes
    device = SCRIPT_DEVICE.format(port=PLAIN_PORT, mtu=mtu)
    keys = [host.namespace.script(device).strip() for host in hosts]
    places = []
    for number, host in enumerate(hosts, 1):
        other = 3 - number
        place = GuestPlace(host, "plain", DEVICES[PLAIN])
        host.namespace.script(SCRIPT_MACHINE)
        place.run("sh", "-ec", SCRIPT_ROUTED_MACHINE.format(number=number, mtu=mtu))
        host.namespace.script(SCRIPT_ROUTED_HOST.format(number=number))
        endpoint = f"{hosts[other - 1].address}:{PLAIN_PORT}"
        peer = SCRIPT_PEER.format(key=keys[other - 1], endpoint=endpoint, other=other)
        host.namespace.script(peer)
        places.append(place)
    return Way(PLAIN, *places, "fd0b::2")
