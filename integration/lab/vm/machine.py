"""A customer's machine whose hosts are virtual: a namespace here, with a cable into each of them.

Its only interface, `eth0`, is the near end of a VXLAN of its own; the far ends are interfaces of
the hosts it was attached to, which their agents are handed as they would be hypervisors' taps.
It works as a hub does: all these hosts hear what the machine sends, and only the one it is located
on may carry it on, or answer. So a move takes no cable out, and what it loses is netagent's share.
"""

from __future__ import annotations

from integration.lab.machine import Machine
from integration.lab.namespace import Namespace
from integration.lab.vm.host import GuestHost
from integration.lab.vm.shell import GuestShell
from netagent.api.agent.v1 import agent_service_pb2 as agent_pb

FABRIC_END = "169.254.77.1"
VXLAN_PORT = "4789"


class CabledMachine(Machine):
    """A machine. number: of its VXLAN, unique in the lab."""

    def __init__(
        self, namespace: Namespace, path: str, address: str, fabric: Namespace, number: int
    ) -> None:
        super().__init__(namespace, path, address)
        self._number = number
        self._device = f"m{number}"
        make_interface(fabric, namespace, number, address)

    def attach(self, host: GuestHost) -> agent_pb.AttachedEndpoint:  # type: ignore[override]
        """Give the machine a cable to a host, and have its agent take it."""
        plug_in(self.namespace, host.namespace, self._number)
        request = agent_pb.AttachRequest(machine=self.path, interface=self._device)
        endpoint = host.attach(request)
        mtu_bytes = str(host.status().mtu_bytes)
        self.run("ip", "link", "set", "eth0", "address", endpoint.mac, "mtu", mtu_bytes)
        return endpoint


def plug_in(machine: Namespace, host: GuestShell, number: int) -> None:
    """Make the host's end of a machine's cable, `mNUMBER`; it is made again whenever it boots."""
    if host.address not in machine.run("bridge", "fdb", "show", "dev", "eth0").stdout:
        every = ("00:00:00:00:00:00", "dev", "eth0")
        machine.run("bridge", "fdb", "append", *every, "dst", host.address)
    host.run("lab-cable", str(number))


def make_interface(fabric: Namespace, machine: Namespace, number: int, address: str) -> None:
    """Make a machine's interface; its packets enter the fabric, whose sockets carry them on."""
    script = f"""
ip link add m{number} mtu 8950 type vxlan id {number} dstport {VXLAN_PORT} \
  local {FABRIC_END} nolearning
ip link set m{number} netns $1 name eth0"""
    # Without the process namespace: `netns PID` is read with the numbers of outside.
    command = ["nsenter", "-t", str(fabric.pid), "-n", "--"]
    fabric.run_outside([*command, "sh", "-ec", script, "sh", str(machine.pid)])
    machine.run("ip", "link", "set", "eth0", "up")
    machine.run("ip", "-6", "addr", "add", f"{address}/128", "dev", "eth0", "nodad")
    machine.run("ip", "-6", "route", "add", "default", "via", "fe80::1", "dev", "eth0")
