"""A host of the lab that is a virtual machine: its agent is a unit, its reboot is one."""

from __future__ import annotations

import signal
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any

import grpc

from integration.lab.backend import CannotDo
from integration.lab.fabric import UNDERLAY
from integration.lab.namespace import Namespace
from integration.lab.vm.daemon import AGENT_SOCKET, GuestDaemon
from integration.lab.vm.image import VENV
from integration.lab.vm.kernels import GUEST
from integration.lab.vm.qemu import VirtualMachine
from integration.lab.vm.shell import GuestShell
from integration.lab.vm.tables import GuestTable
from integration.lab.wait import wait_until
from netagent.api.agent.v1 import agent_service_pb2 as agent_pb
from netagent.api.agent.v1.agent_service_pb2_grpc import AgentServiceStub
from netagent.dataplane.abi import pin_directory
from netagent.dataplane.tables import Layout

WIREGUARD_PORT = 51820
RPC_TIMEOUT_S = 120.0
BOOT_TIMEOUT_S = 600.0
STEP_TIMEOUT_S = 300.0
BPFFS = Path("/sys/fs/bpf")

UNPLUG = """
for path in /sys/class/net/[mvb][0-9]*; do
  [ -e "$path" ] && ip link del "${path##*/}" 2>/dev/null || true
done
rm -f /var/lib/lab-cables
"""

PRUNE = f"""
systemctl stop netagent-agent.service
netagent agent cleanup >/dev/null
{UNPLUG}
rm -rf /var/lib/netagent/agent/*
systemctl reset-failed
"""


class GuestHost:
    """A host. address: on the underlay. control_target: where its agent finds control."""

    def __init__(
        self,
        fabric: Namespace,
        vm: VirtualMachine,
        shell: GuestShell,
        address: IPv4Address | IPv6Address,
        control_target: str,
    ) -> None:
        self.name = vm.shape.name
        self.vm = vm
        self.namespace = shell
        self.address = address
        self.socket = shell.log_dir / self.name / "run" / "agent.sock"
        self.state_dir = Path("/var/lib/netagent/agent")
        self.run_dir = Path("/run/netagent")
        self.agent = GuestDaemon(shell, "agent")
        self._fabric = fabric
        self._control_target = control_target

    def configure(self) -> None:
        """Write the agent's settings and install its unit; starts nothing."""
        endpoint = f"[{self.address}]" if self.address.version == 6 else str(self.address)
        settings = f"""\
name = "{self.name}"
control = "{self._control_target}"
endpoint = "{endpoint}:{WIREGUARD_PORT}"
"""
        self.namespace.write("/usr/local/sbin/lab-cable", (GUEST / "lab-cable").read_bytes())
        self.namespace.script("chmod 755 /usr/local/sbin/lab-cable; mkdir -p /etc/netagent")
        self.namespace.write("/etc/netagent/agent.toml", settings.encode())
        self.namespace.script(
            f"{VENV}/bin/netagent systemd install agent; systemctl -q enable {self.agent.unit}"
        )

    def connect(self) -> None:
        """Reach the agent's local API from here, whether it runs yet or not."""
        for each in ("run", "state"):  # by these, a later command knows a host's directory
            (self.namespace.log_dir / self.name / each).mkdir(parents=True, exist_ok=True)
        self.namespace.forward(self.socket, AGENT_SOCKET)

    def start_agent(self) -> None:
        """Start the agent and wait until it has applied what control sends."""
        self.agent.start()
        self.wait_in_step()

    def kill_agent(self) -> None:
        """kill -9, and no other is started."""
        self.agent.end(signal.SIGKILL)

    def wait_in_step(self) -> None:
        """Wait until the agent is connected and has applied a revision."""

        def is_in_step() -> bool:
            try:
                status = self.status()
            except grpc.RpcError as error:
                raise AssertionError(f"{self.name}: {error.code()}: {error.details()}") from error
            return bool(status.connected and status.applied_revision)

        wait_until(f"the agent of {self.name} is in step", is_in_step, STEP_TIMEOUT_S)

    def status(self) -> agent_pb.GetStatusResponse:
        """Return the agent's status."""
        with self._channel() as channel:
            stub = AgentServiceStub(channel)
            return stub.GetStatus(
                agent_pb.GetStatusRequest(), timeout=RPC_TIMEOUT_S, wait_for_ready=True
            )

    def attach(self, request: agent_pb.AttachRequest) -> agent_pb.AttachedEndpoint:
        """Attach a machine's interface; a namespace of this machine cannot be handed over."""
        if request.netns:
            raise CannotDo("handing a namespace of this machine to a host: it has another kernel")
        with self._channel() as channel:
            stub = AgentServiceStub(channel)
            return stub.Attach(request, timeout=RPC_TIMEOUT_S, wait_for_ready=True).endpoint

    def detach(self, machine: str) -> None:
        """Detach a machine's interface."""
        with self._channel() as channel:
            request = agent_pb.DetachRequest(machine=machine)
            AgentServiceStub(channel).Detach(request, timeout=RPC_TIMEOUT_S, wait_for_ready=True)

    def _channel(self) -> grpc.Channel:
        """A connection by way of ssh, whose other end a busy guest may refuse for a while."""
        options = (
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 1000),
        )
        return grpc.insecure_channel(f"unix://{self.socket}", options=options)

    def counters(self) -> dict[str, int]:
        """Return packets by verdict."""
        return {counter.verdict: counter.packets for counter in self.status().counters}

    def open_table(self, layout: Layout[Any, Any]) -> GuestTable[Any, Any]:
        """Open a pinned map to read it."""
        return GuestTable(self.namespace, layout, str(pin_directory(BPFFS) / layout.name))

    def partition(self) -> None:
        """Pull the cable of the underlay."""
        self._fabric.run("ip", "link", "set", self.vm.underlay_port, "down")

    def heal(self) -> None:
        """Plug the cable in again."""
        self._fabric.run("ip", "link", "set", self.vm.underlay_port, "up")

    def reboot(self, *, hard: bool = False) -> None:
        """Boot anew and wait until commands are taken again. hard: as by the reset button."""
        before = self.boot_id()
        if hard:
            self.vm.reset()
        else:
            self.namespace.run("systemctl", "reboot", "--no-block", check=False)
        wait_until(f"{self.name} goes down", lambda: not self._is_boot(before), BOOT_TIMEOUT_S)
        self.namespace.disconnect()
        self.namespace.wait_up(BOOT_TIMEOUT_S)
        # What looked down may have been too busy to answer.
        assert self.boot_id() != before, f"{self.name} has not booted anew"

    def boot_id(self) -> str:
        """Return what tells one boot from another."""
        return self.namespace.run("cat", "/proc/sys/kernel/random/boot_id").stdout.strip()

    def _is_boot(self, boot: str) -> bool:
        cat = ("cat", "/proc/sys/kernel/random/boot_id")
        return self.namespace.run(*cat, check=False).stdout.strip() == boot

    def run(self, *arguments: str, check: bool = True) -> str:
        """Run a command on the host and return its output."""
        return self.namespace.run(*arguments, check=check).stdout

    def ensure_in_step(self) -> None:
        """Start the agent if it does not run; wait until it has applied what control sends."""
        if not self.agent.is_running:
            self.agent.start()
        self.wait_in_step()

    def detach_all(self) -> None:
        """Take all attachments back, and the cables."""
        for endpoint in self.status().endpoints:
            self.detach(endpoint.machine)
        self.namespace.script(UNPLUG)

    def wait_idle(self) -> None:
        """Wait until the agent is in step with nothing attached and nothing to complain of."""

        def is_idle() -> bool:
            status = self.status()
            return status.connected and not status.endpoints and not status.conditions

        wait_until(f"{self.name} is idle", is_idle, STEP_TIMEOUT_S)

    def prune(self) -> None:
        """Leave of netagent what a host has that was never started."""
        self.heal()
        self.namespace.script(PRUNE)


def address_with_length(address: IPv4Address | IPv6Address) -> str:
    """Return an underlay address as `ip addr add` takes it."""
    return f"{address}/{UNDERLAY[address.version].prefixlen}"
