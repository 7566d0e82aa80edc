"""A host of the lab: its namespaces, its agent, and what that says of itself."""

from __future__ import annotations

import signal
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any

import grpc

from integration.lab.backend import CannotDo
from integration.lab.namespace import Namespace
from integration.lab.process import Daemon
from integration.lab.wait import wait_until
from netagent.api.agent.v1 import agent_service_pb2 as agent_pb
from netagent.api.agent.v1.agent_service_pb2_grpc import AgentServiceStub
from netagent.dataplane.abi import pin_directory
from netagent.dataplane.tables import Layout, Table

WIREGUARD_PORT = 51820
RPC_TIMEOUT_S = 20.0


class Host:
    """A host. fabric, port: where its cable ends."""

    def __init__(
        self,
        namespace: Namespace,
        address: IPv4Address | IPv6Address,
        control_target: str,
        directory: Path,
        fabric: Namespace,
        port: str,
    ) -> None:
        self.name = namespace.name
        self.namespace = namespace
        self.address = address
        self.directory = directory
        self.state_dir = directory / "state"
        self.run_dir = directory / "run"
        self.hooks_dir = directory / "hooks"
        self._fabric = fabric
        self._port = port
        endpoint = f"[{address}]" if address.version == 6 else str(address)
        self.agent = Daemon(
            namespace,
            f"agent-{self.name}",
            [
                *("agent", "run", "--name", self.name, "--control", control_target),
                *("--endpoint", f"{endpoint}:{WIREGUARD_PORT}"),
                *("--state-dir", str(self.state_dir), "--run-dir", str(self.run_dir)),
                *("--audit-interval-s", "2", "--hooks-dir", str(self.hooks_dir)),
            ],
        )

    @property
    def socket(self) -> Path:
        """The agent's local API."""
        return self.run_dir / "agent.sock"

    def start_agent(self) -> None:
        """Start the agent and wait until it has applied what control sends."""
        self.agent.start()
        self.wait_in_step()

    def kill_agent(self) -> None:
        """kill -9."""
        self.agent.end(signal.SIGKILL)

    def wait_in_step(self) -> None:
        """Wait until the agent is connected and has applied a revision."""

        def is_in_step() -> bool:
            if not self.agent.is_running:
                raise RuntimeError(f"the agent of {self.name} ended:\n{self._log_tail()}")
            try:
                status = self.status()
            except grpc.RpcError as error:
                raise AssertionError(f"{self.name}: {error}\n{self._log_tail()}") from error
            return bool(status.connected and status.applied_revision)

        wait_until(f"the agent of {self.name} is in step", is_in_step, timeout_s=30)

    def status(self) -> agent_pb.GetStatusResponse:
        """Return the agent's status."""
        with grpc.insecure_channel(f"unix://{self.socket}") as channel:
            stub = AgentServiceStub(channel)
            return stub.GetStatus(agent_pb.GetStatusRequest(), timeout=RPC_TIMEOUT_S)

    def attach(self, request: agent_pb.AttachRequest) -> agent_pb.AttachedEndpoint:
        """Attach a machine's interface."""
        with grpc.insecure_channel(f"unix://{self.socket}") as channel:
            stub = AgentServiceStub(channel)
            return stub.Attach(request, timeout=RPC_TIMEOUT_S).endpoint

    def detach(self, machine: str) -> None:
        """Detach a machine's interface."""
        with grpc.insecure_channel(f"unix://{self.socket}") as channel:
            request = agent_pb.DetachRequest(machine=machine)
            AgentServiceStub(channel).Detach(request, timeout=RPC_TIMEOUT_S)

    def counters(self) -> dict[str, int]:
        """Return packets by verdict."""
        return {counter.verdict: counter.packets for counter in self.status().counters}

    def open_table(self, layout: Layout[Any, Any]) -> Table[Any, Any]:
        """Open a pinned map, to read or to alter it."""
        bpffs = Path(f"/proc/{self.namespace.pid}/root/sys/fs/bpf")
        return Table(layout, pin_directory(bpffs) / layout.name)

    def reboot(self) -> None:
        """A namespace has no kernel of its own to boot."""
        raise CannotDo("booting a host anew: its kernel is this machine's")

    def partition(self) -> None:
        """Pull the cable."""
        self._fabric.run("ip", "link", "set", self._port, "down")

    def heal(self) -> None:
        """Plug the cable in again."""
        self._fabric.run("ip", "link", "set", self._port, "up")

    def run(self, *arguments: str, check: bool = True) -> str:
        """Run a command on the host and return its output."""
        return self.namespace.run(*arguments, check=check).stdout

    def _log_tail(self) -> str:
        log = self.agent.log
        return "\n".join(log.read_text().splitlines()[-15:]) if log.exists() else ""
