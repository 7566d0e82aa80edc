"""Labs that outlive the command that made them: what is written down, and how they end.

Each holder is recorded as soon as it runs, with the start time that tells it from a later process
of the same number, so that `down` finds all of them after any crash and nothing else.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from integration.lab.namespace import RECORD, Namespace, is_process
from integration.lab.wait import wait_until

PREFIX = "netagent-lab-"
REMAINS_S = 3600.0


@dataclass(frozen=True, slots=True)
class KeptLab:
    """A lab as found on this machine."""

    name: str
    directory: Path

    @property
    def control_socket(self) -> Path:
        """Control's unix socket."""
        return self.directory / "control.sock"

    def agent_socket(self, host: str) -> Path:
        """Return the socket of a host's agent."""
        return self.directory / host / "run" / "agent.sock"

    def is_host(self, name: str) -> bool:
        """Whether a host of the lab has that name."""
        return (self.directory / name / "state").is_dir()

    def namespaces(self) -> dict[str, Namespace]:
        """Return the namespaces that live, by name, in the order of their making."""
        record = self.directory / RECORD
        lines = record.read_text().splitlines() if record.exists() else []
        found = (line.split() for line in lines)
        return {
            name: Namespace(name, int(pid), started, self.directory)
            for name, pid, started in found
            if is_process(int(pid), started)
        }

    def environment(self, namespace: str) -> dict[str, str]:
        """Return what makes netagent's commands mean this lab, and this host of it."""
        variables = {"NETAGENT_CONTROL": f"unix://{self.control_socket}"}
        if self.is_host(namespace):
            variables["NETAGENT_AGENT_SOCKET"] = str(self.agent_socket(namespace))
            variables["NETAGENT_AGENT_STATE_DIR"] = str(self.directory / namespace / "state")
        return variables

    def end(self) -> int:
        """End everything and remove the directory; return how many namespaces still lived."""
        namespaces = list(self.namespaces().values())
        for namespace in reversed(namespaces):
            with contextlib.suppress(ProcessLookupError):
                os.kill(namespace.pid, signal.SIGKILL)
        wait_until("all namespaces have ended", lambda: not self.namespaces())
        shutil.rmtree(self.directory)
        return len(namespaces)


def directory_of(name: str) -> Path:
    """Return where the lab of a name keeps logs, sockets and state."""
    return Path(tempfile.gettempdir()) / f"{PREFIX}{name}"


def find_labs() -> list[KeptLab]:
    """Return the labs of this machine, by name; those of running tests are among them."""
    directories = sorted(directory_of("").parent.glob(f"{PREFIX}*"))
    return [KeptLab(each.name.removeprefix(PREFIX), each) for each in directories]


def remove_remains() -> None:
    """Remove what killed processes left of their labs: logs, an hour old and nobody's any more."""
    for lab in find_labs():
        with contextlib.suppress(FileNotFoundError):
            age_s = time.time() - lab.directory.stat().st_mtime
            if age_s > REMAINS_S and not lab.namespaces():
                shutil.rmtree(lab.directory)
