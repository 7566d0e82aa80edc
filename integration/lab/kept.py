"""Labs that outlive the command that made them: what is written down, and how they end.

Each holder writes itself down as soon as it runs, with the start time that tells it from a later
process of the same number, so that `down` finds all of them after any crash and nothing else.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from integration.lab.namespace import RECORD, Namespace, is_process
from integration.lab.wait import wait_until

PREFIX = "netagent-lab-"
DESCRIPTION = "lab.json"
NAMES = "hosts"
REMAINS_S = 3600.0
BEGIN_S = 5.0
"""Within which a new lab has its first namespace."""


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

    @property
    def is_kept(self) -> bool:
        """Whether it is there for people; else it belongs to a running test, and ends with it."""
        return bool(self._describe().get("is_kept"))

    def hosts(self) -> list[str]:
        """Return the names of the hosts in the order of their making."""
        return [name for name in self._describe().get("environments", ()) if self.is_host(name)]

    def environment(self, namespace: str) -> dict[str, str]:
        """Return what makes netagent's commands mean this lab, and this host of it.

        Also `netagent agent run` and `netagent control run`, by hand after a kill.
        """
        variables = {"NETAGENT_CONTROL": f"unix://{self.control_socket}"}
        if self.is_host(namespace):
            variables["NETAGENT_AGENT_SOCKET"] = str(self.agent_socket(namespace))
        settings: dict[str, str] = self._describe().get("environments", {}).get(namespace, {})
        return variables | settings

    def _describe(self) -> dict[str, Any]:
        try:
            described: dict[str, Any] = json.loads((self.directory / DESCRIPTION).read_text())
        except (OSError, ValueError):
            return {}
        return described

    def is_remains(self, older_than_s: float = BEGIN_S) -> bool:
        """Whether nothing of it lives any more; a lab that is being made is none."""
        try:
            age_s = time.time() - self.directory.stat().st_mtime
        except FileNotFoundError:
            return False
        return age_s > older_than_s and not self.namespaces()

    def end(self) -> int:
        """End everything and remove the directory; return how many namespaces still lived.

        AssertionError names the namespaces that do not end.
        """
        namespaces = list(self.namespaces().values())
        parents = [pid for namespace in namespaces for pid in namespace.parents()]
        for pid in [*(namespace.pid for namespace in reversed(namespaces)), *parents]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        wait_until("all namespaces have ended", self._has_ended)
        with contextlib.suppress(FileNotFoundError):  # its maker may be ending it too
            shutil.rmtree(self.directory)
        return len(namespaces)

    def _has_ended(self) -> bool:
        living = [f"{each.name} (process {each.pid})" for each in self.namespaces().values()]
        assert not living, ", ".join(living)
        return True


def directory_of(name: str) -> Path:
    """Return where the lab of a name keeps logs, sockets and state."""
    return Path(tempfile.gettempdir()) / f"{PREFIX}{name}"


def write_description(
    directory: Path, is_kept: bool, environments: Mapping[str, Mapping[str, str]]
) -> None:
    """Write what a later command needs to know of a lab; environments: by namespace."""
    described = {"is_kept": is_kept, "environments": environments}
    partial = directory / f"{DESCRIPTION}.partial"
    partial.write_text(json.dumps(described, indent=2))
    partial.replace(directory / DESCRIPTION)


def name_machine(directory: Path, machine: str, address: str) -> None:
    """Let all machines of the lab find NETWORK/NAME as NAME.NETWORK. Idempotent."""
    network, _, name = machine.partition("/")
    line = f"{address} {name}.{network}\n"
    path = directory / NAMES
    if not path.exists():
        path.write_text("127.0.0.1 localhost\n::1 localhost\n")
    if line not in path.read_text().splitlines(keepends=True):
        with path.open("a") as names:
            names.write(line)


def machine_mounts(directory: Path) -> str:
    """Return the shell command that gives a machine the lab's names as its /etc/hosts."""
    return f"mount --bind '{directory / NAMES}' /etc/hosts"


def find_labs() -> list[KeptLab]:
    """Return the labs of this machine, by name; those of running tests are among them."""
    directories = sorted(directory_of("").parent.glob(f"{PREFIX}*"))
    return [KeptLab(each.name.removeprefix(PREFIX), each) for each in directories]


def remove_remains() -> None:
    """Remove what killed processes left of their labs: logs, an hour old and nobody's any more."""
    for lab in find_labs():
        if lab.is_remains(older_than_s=REMAINS_S):
            with contextlib.suppress(FileNotFoundError):
                shutil.rmtree(lab.directory)
