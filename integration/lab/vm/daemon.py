"""One of netagent's daemons in a guest: a unit of systemd."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from pathlib import Path

from integration.lab.backend import CannotDo
from integration.lab.vm.shell import GuestShell

AGENT_SOCKET = "/run/netagent/agent.sock"
CONTROL_SOCKET = "/run/netagent/control.sock"


class GuestDaemon:
    """A daemon that can be killed and started again. kind: `agent` or `control`."""

    def __init__(self, shell: GuestShell, kind: str) -> None:
        self._shell = shell
        self._kind = kind
        self.unit = f"netagent-{kind}.service"

    @property
    def log(self) -> Path:
        """What the daemon has said so far, over all boots; fetched when asked for."""
        path = self._shell.log_dir / f"{self._kind}-{self._shell.name}.log"
        done = self._shell.run("journalctl", "-q", "-o", "cat", "-u", self.unit, check=False)
        path.write_text(done.stdout)
        return path

    @property
    def environment(self) -> Mapping[str, str]:
        """Settings are in /etc/netagent; systemctl is how people start it."""
        return {}

    @property
    def is_running(self) -> bool:
        """Whether systemd has it running, or starting."""
        return self.state in ("active", "activating", "reloading")

    @property
    def state(self) -> str:
        """What systemd calls the unit's state: `active` once it is ready."""
        return self._show("ActiveState")

    @property
    def pid(self) -> int:
        """The process, as the guest numbers it; 0 when there is none."""
        return int(self._show("MainPID"))

    def start(self, release: Path | None = None) -> None:
        """Start it; returns when it is ready."""
        if release is not None:
            raise CannotDo("a release from a directory: a guest installs wheels")
        self._shell.run("systemctl", "start", self.unit)

    def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Send a signal to the process, and have systemd start no other."""
        name = number.name.removeprefix("SIG")
        if number is signal.SIGKILL:
            # Stopping what is about to be started again cancels that.
            kill = f"systemctl kill --kill-whom=main --signal={name} {self.unit} || true;"
            self._shell.script(f"{kill} systemctl stop {self.unit}")
        else:
            self._shell.run("systemctl", "stop", self.unit)

    def crash(self) -> None:
        """kill -9, and leave what comes next to systemd."""
        self._shell.run("systemctl", "kill", "--kill-whom=main", "--signal=KILL", self.unit)

    def pause(self) -> None:
        """Make the process answer nobody, until `resume`."""
        self._shell.run("systemctl", "kill", "--kill-whom=main", "--signal=STOP", self.unit)

    def resume(self) -> None:
        """Let the process go on."""
        self._shell.run("systemctl", "kill", "--kill-whom=main", "--signal=CONT", self.unit)

    def _show(self, name: str) -> str:
        done = self._shell.run("systemctl", "show", "--value", f"--property={name}", self.unit)
        return done.stdout.strip()
