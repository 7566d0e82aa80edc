"""A virtual machine as a place where commands run: by ssh, from inside the fabric.

Has of `Namespace` what a host needs: `run`, `start`, `command`. One connection is kept and shared
by all commands; unix sockets of the guest are reached through it.
"""

from __future__ import annotations

import contextlib
import shlex
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from integration.lab.backend import CannotDo
from integration.lab.namespace import CommandError, Namespace
from integration.lab.wait import wait_until

CONNECT_S = 10
COMMAND_S = 240.0
"""Of a command that takes two seconds on an idle machine; emulation has what others leave."""

SSH_CONFIG = """\
Host *
  User root
  IdentityFile {key}
  IdentitiesOnly yes
  StrictHostKeyChecking no
  UserKnownHostsFile /dev/null
  GlobalKnownHostsFile /dev/null
  LogLevel ERROR
  ConnectTimeout {connect_s}
  ServerAliveInterval 10
  ServerAliveCountMax 12
  ControlMaster auto
  ControlPath {directory}/%h.ssh
  ControlPersist yes
  StreamLocalBindUnlink yes
  Ciphers aes128-ctr
  Compression no
"""


def write_ssh_config(directory: Path, key: Path) -> Path:
    """Write how the lab's guests are reached; return the file."""
    path = directory / "ssh_config"
    text = SSH_CONFIG.format(key=key, directory=directory, connect_s=CONNECT_S)
    path.write_text(text)
    return path


class GuestShell:
    """A guest. address: of its management interface."""

    def __init__(self, fabric: Namespace, name: str, address: str) -> None:
        self.name = name
        self.log_dir = fabric.log_dir
        self._fabric = fabric
        self.address = address
        self._sockets: dict[Path, str] = {}

    @property
    def netns(self) -> Path:
        """A guest has its namespaces in another kernel."""
        raise CannotDo("sockets of the test itself inside a host: it has another kernel")

    @property
    def pid(self) -> int:
        """A guest's processes are in another kernel."""
        raise CannotDo("processes of a host as this machine sees them: it has another kernel")

    def command(self, arguments: Sequence[str]) -> list[str]:
        """Return the command line that runs `arguments` inside."""
        return self._fabric.command([*self._ssh(), "--", shlex.join(arguments)])

    def interactive(self, words: Sequence[str]) -> list[str]:
        """Return the command line of a shell with a terminal, or of one command."""
        remote = [shlex.join(words)] if words else []
        return self._fabric.command([*self._ssh(), *([] if words else ["-t"]), "--", *remote])

    def run(
        self,
        *arguments: str,
        check: bool = True,
        timeout_s: float = COMMAND_S,
        stdin: str | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end; CommandError when it fails and `check` is set."""
        return self._fabric.run_outside(self.command(arguments), check, timeout_s, stdin)

    def script(self, text: str, *, check: bool = True, timeout_s: float = COMMAND_S) -> str:
        """Run a shell script that stops at the first failure; return its output."""
        return self.run("sh", "-ec", text, check=check, timeout_s=timeout_s).stdout

    def start(
        self,
        *arguments: str,
        log: str | None = None,
        stdout: int | IO[Any] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> subprocess.Popen[str]:
        """Start a command that goes on; it ends with the lab."""
        if environment:
            raise CannotDo("variables for a command of a host: it is started by ssh")
        return self._fabric.start(
            *[*self._ssh(), "--", shlex.join(arguments)], log=log, stdout=stdout
        )

    def write(self, path: str, content: bytes) -> None:
        """Write a file."""
        command = self._fabric.command([*self._ssh(), "--", f"cat >{shlex.quote(path)}"])
        done = subprocess.run(
            command, input=content, capture_output=True, timeout=COMMAND_S, check=False
        )
        if done.returncode != 0:
            raise CommandError(f"{self.name}: {path}: {done.stderr.decode(errors='replace')}")

    def wait_up(self, timeout_s: float) -> None:
        """Wait until the guest takes commands, and connect to its sockets again."""

        def answers() -> bool:
            done = self.run("true", check=False, timeout_s=4 * CONNECT_S)
            assert done.returncode == 0, done.stderr
            return True

        wait_until(f"{self.name} takes commands", answers, timeout_s)
        for local, remote in self._sockets.items():
            self._forward(local, remote)

    def set_clock(self) -> None:
        """Set the guest's clock to ours: one that was restored believes in its own time."""
        self.run("date", "--set", f"@{time.time():.3f}")

    def disconnect(self) -> None:
        """Forget the connection, whose other end is about to go."""
        self._fabric.run(*self._ssh(), "-O", "exit", check=False)

    def forward(self, local: Path, remote: str) -> None:
        """Have a unix socket here that leads to one of the guest's, whichever boot it is in."""
        self._sockets[local] = remote
        self._forward(local, remote)

    def _forward(self, local: Path, remote: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            local.unlink()
        self._fabric.run(*self._ssh(), "-O", "forward", "-L", f"{local}:{remote}")

    def _ssh(self) -> list[str]:
        return ["ssh", "-F", str(self.log_dir / "ssh_config"), self.address]
