"""A customer's machine whose hosts are virtual: a namespace here, with cables into them.

Each machine has a hub of its own in the fabric. On one side is its only interface, on the other a
VLAN of the trunk of each host it was attached to, which that host's agent is handed as it would
be a hypervisor's tap. Every host hears what the machine sends; only the one it is located on may
answer to it. So a move takes no cable out, and what a move loses is the network's share alone.
"""

from __future__ import annotations

from integration.lab.machine import Machine
from integration.lab.namespace import Namespace
from integration.lab.vm.host import GuestHost
from netagent.api.agent.v1 import agent_service_pb2 as agent_pb


class CabledMachine(Machine):
    """A machine. number: its VLAN, 2 to 4094, unique in the lab."""

    def __init__(
        self, namespace: Namespace, path: str, address: str, fabric: Namespace, number: int
    ) -> None:
        super().__init__(namespace, path, address)
        self._fabric = fabric
        self._number = number
        self._hub = f"m{number}"
        _make_hub(fabric, self._hub, namespace.pid)
        # An address of this form and no other: the agent expects the machine's own (Machine.mac).
        self.run("ip", "link", "set", "eth0", "up")
        self.run("ip", "-6", "addr", "add", f"{address}/128", "dev", "eth0", "nodad")
        self.run("ip", "-6", "route", "add", "default", "via", "fe80::1", "dev", "eth0")

    def attach(self, host: GuestHost) -> agent_pb.AttachedEndpoint:  # type: ignore[override]
        """Give the machine a cable to a host, and have its agent take it."""
        trunk, port = host.vm.trunk_port, f"{host.vm.trunk_port}.{self._number}"
        vlan = ("type", "vlan", "id", str(self._number))
        if self._fabric.run("ip", "link", "show", port, check=False).returncode != 0:
            self._fabric.run("ip", "link", "add", "link", trunk, "name", port, *vlan)
            self._fabric.run("ip", "link", "set", port, "master", self._hub, "up")
            options = ("learning", "off", "isolated", "on", "flood", "on")
            self._fabric.run("ip", "link", "set", port, "type", "bridge_slave", *options)
        device = self._hub
        host.namespace.script(
            f"[ -e /sys/class/net/{device} ] ||"
            f" ip link add link trunk0 name {device} type vlan id {self._number};"
            f" ip link set {device} up"
        )
        request = agent_pb.AttachRequest(machine=self.path, interface=device)
        endpoint = host.attach(request)
        mtu_bytes = str(host.status().mtu_bytes)
        self.run("ip", "link", "set", "eth0", "address", endpoint.mac, "mtu", mtu_bytes)
        return endpoint

    def unplug(self) -> None:
        """Take the hub and its cables away."""
        listed = self._fabric.run("ip", "-o", "link", "show", "master", self._hub).stdout
        for line in listed.splitlines():
            self._fabric.run("ip", "link", "del", line.split(": ")[1].partition("@")[0])
        self._fabric.run("ip", "link", "del", self._hub)


def _make_hub(fabric: Namespace, hub: str, machine_pid: int) -> None:
    """Make a hub with a cable to a machine, whose end there is `eth0`."""
    script = f"""
ip link add {hub} mtu 9000 type bridge forward_delay 0 mcast_snooping 0
ip link set {hub} up
ip link add c{hub} mtu 9000 type veth peer name eth0 mtu 9000 netns $1
ip link set c{hub} master {hub} up"""
    # Without the process namespace: `netns PID` is read with the numbers of outside.
    command = ["nsenter", "-t", str(fabric.pid), "-n", "--"]
    fabric.run_outside([*command, "sh", "-ec", script, "sh", str(machine_pid)])
