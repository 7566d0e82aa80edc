"""A customer's machine: a namespace with nothing but what an agent puts into it."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from integration.lab.host import Host
from integration.lab.namespace import Namespace
from integration.lab.pace import PACE
from integration.lab.wait import wait_until
from netagent.api.agent.v1 import agent_service_pb2 as agent_pb


class Machine:
    """A machine. address: its stable address. attached: hosts it has an interface on."""

    def __init__(self, namespace: Namespace, path: str, address: str) -> None:
        self.namespace = namespace
        self.path = path
        self.name = path.partition("/")[2]
        self.address = address

    @property
    def netns(self) -> Path:
        """The machine's network namespace."""
        return self.namespace.netns

    def attach(self, host: Host) -> agent_pb.AttachedEndpoint:
        """Give the machine an interface on a host."""
        request = agent_pb.AttachRequest(machine=self.path, netns=str(self.namespace.netns))
        return host.attach(request)

    def run(self, *arguments: str, check: bool = True, timeout_s: float = 30) -> str:
        """Run a command in the machine and return its output."""
        return self.namespace.run(*arguments, check=check, timeout_s=timeout_s).stdout

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        """Start a command in the machine."""
        return self.namespace.start(*arguments, **options)

    def reaches(self, address: str, *, size_bytes: int = 56, wait_s: float | None = None) -> bool:
        """Whether an address answers one ping; wait_s: a silence of this lab unless given."""
        ping = ["ping", "-6", "-n", "-q", "-c", "1", "-W", str(wait_s or PACE.silence_s)]
        ping += ["-s", str(size_bytes)]
        return self.namespace.run(*ping, address, check=False).returncode == 0

    def wait_reaches(self, other: Machine, timeout_s: float = 20.0) -> None:
        """Wait until another machine answers."""
        what = f"{self.path} reaches {other.path}"
        wait_until(what, lambda: self.reaches(other.address), timeout_s)
