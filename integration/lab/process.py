"""One of netagent's daemons inside a namespace."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from integration.lab.namespace import Namespace, child_of, is_process, start_time

NETAGENT = str(Path(sys.executable).parent / "netagent")


class Daemon:
    """A daemon that can be killed and started again. pid: of the process itself, from outside."""

    def __init__(self, namespace: Namespace, name: str, arguments: list[str]) -> None:
        self._namespace = namespace
        self._name = name
        self._arguments = arguments
        self._wrapper: subprocess.Popen[str] | None = None
        self.pid = 0
        self.started = ""

    @property
    def log(self) -> Path:
        """What the daemon has said so far."""
        return self._namespace.log_dir / f"{self._name}.log"

    @property
    def environment(self) -> dict[str, str]:
        """Its settings as variables: with them, the bare command by hand starts the same daemon."""
        kind, _, *words = self._arguments
        variables: dict[str, str] = {}
        key = ""
        for word in words:
            if word.startswith("--"):
                key = f"NETAGENT_{kind}_{word[2:].replace('-', '_')}".upper()
                variables[key] = "true"
            else:
                variables[key] = word
        return variables

    @property
    def is_running(self) -> bool:
        """Whether the process lives."""
        return bool(self.pid) and is_process(self.pid, self.started)

    def start(self, release: Path | None = None) -> None:
        """Start it; returns when the process is there, not when it is ready.

        release: directory that holds another netagent package than the one under test.
        """
        environment = {"PYTHONPATH": str(release)} if release is not None else None
        self._wrapper = self._namespace.start(
            NETAGENT, *self._arguments, log=self.log.name, environment=environment
        )
        while True:  # nsenter forks right after it has entered the namespaces
            try:
                self.pid = child_of(self._wrapper.pid)
                self.started = start_time(self.pid)
                return
            except (ValueError, OSError):
                if self._wrapper.poll() is not None:
                    raise AssertionError(
                        f"{self._name} ended at once:\n{self.log.read_text()}"
                    ) from None

    def adopt(self, pid: int, started: str) -> None:
        """Take over a daemon that another process has started."""
        self.pid, self.started = pid, started

    def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Send a signal to the process and wait until it is gone."""
        if self.is_running:
            os.kill(self.pid, number)
        if self._wrapper is not None:
            self._wrapper.wait(timeout=30)

    def pause(self) -> None:
        """Make the process answer nobody, until `resume`."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let the process go on, and with it nsenter, which stops when its child does."""
        os.kill(self.pid, signal.SIGCONT)
        if self._wrapper is not None:
            self._wrapper.send_signal(signal.SIGCONT)
