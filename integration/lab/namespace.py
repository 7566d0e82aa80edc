"""One host, machine or fabric of a lab: a process that holds its own namespaces.

Everything that runs inside is in the holder's process namespace, so it ends with the holder, and
with the last process the kernel removes interfaces, mounts and pinned BPF objects. /proc stays
the outer one: paths such as /proc/PID/ns/net mean the same inside and outside.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

HOST_MOUNTS = """
mount -t tmpfs tmpfs /run
mkdir -p /run/wireguard /run/netagent /run/lock
mount -t sysfs sysfs /sys 2>/dev/null || true
mount -t bpf bpf /sys/fs/bpf
"""
"""A host's own /run and BPF file system; /sys is mounted anew so that it shows its interfaces."""


RECORD = "holders"
"""File of a lab that names its holders: name, process, start time; a line each."""


WRITE_DOWN = """
name=$1 record=$2
read -r line </proc/self/stat
set -- $line
shift 21
echo "$name ${line%% *} $1" >>"$record"
"""
"""Name, number and start time (field 22) of the holder. Fails when the lab has gone meanwhile."""


class CommandError(AssertionError):
    """A command in a namespace failed; the text has its output."""


@dataclass(slots=True)
class Namespace:
    """A running holder. pid: of the first process inside, as seen from outside."""

    name: str
    pid: int
    started: str
    log_dir: Path
    holder: subprocess.Popen[bytes] | None = None
    children: list[subprocess.Popen[Any]] = field(default_factory=list)

    @property
    def netns(self) -> Path:
        """The network namespace, for `attach --netns`."""
        return Path(f"/proc/{self.pid}/ns/net")

    def command(self, arguments: Sequence[str]) -> list[str]:
        """Return the command line that runs `arguments` inside.

        With the holder's root (-r): a mount namespace's own is another where we run in a chroot.
        """
        return ["nsenter", "-t", str(self.pid), "-n", "-m", "-p", "-r", "--", *arguments]

    def run(
        self, *arguments: str, check: bool = True, timeout_s: float = 30, stdin: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end; CommandError when it fails and `check` is set."""
        return self.run_outside(self.command(arguments), check, timeout_s, stdin)

    def run_outside(
        self,
        command: Sequence[str],
        check: bool = True,
        timeout_s: float = 30,
        stdin: str | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command line as it is, with the same errors as `run`."""
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                timeout=timeout_s,
                input=stdin,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise CommandError(
                f"{self.name}: {' '.join(command)}: not done after {timeout_s:g} s"
            ) from error
        if check and done.returncode != 0:
            raise CommandError(
                f"{self.name}: {' '.join(command)}: exit {done.returncode}\n"
                f"{done.stdout}{done.stderr}"
            )
        return done

    def start(
        self,
        *arguments: str,
        log: str | None = None,
        stdout: int | IO[Any] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> subprocess.Popen[str]:
        """Start a command that goes on; its output goes to `log` in the lab's directory."""
        with contextlib.ExitStack() as files:
            out: Any = subprocess.DEVNULL
            if log is not None:
                out = files.enter_context((self.log_dir / log).open("a"))
            child = subprocess.Popen(
                self.command(arguments),
                stdin=subprocess.DEVNULL,
                stdout=stdout if stdout is not None else out,
                stderr=out,
                text=True,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
            )
        self.children.append(child)
        return child

    def processes(self) -> list[tuple[int, str]]:
        """Return what runs inside besides the holder: (process, command line), by number."""
        own = os.readlink(f"/proc/{self.pid}/ns/pid")
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                command = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
                if command and os.readlink(path / "ns/pid") == own and int(path.name) != self.pid:
                    found.append((int(path.name), command))
        return sorted(found)

    def parents(self) -> list[int]:
        """Return the processes outside whose children are inside: each nsenter, and unshare.

        Who stops a process inside stops its nsenter too, which then never reaps it, so that the
        namespace cannot end before that nsenter does.
        """
        own = _process_namespace(self.pid, "pid")
        if own is None:
            return []
        pids = [int(path.name) for path in Path("/proc").glob("[0-9]*")]
        return [
            pid
            for pid in pids
            if _process_namespace(pid, "pid_for_children") == own
            and _process_namespace(pid, "pid") != own
        ]

    def begin_kill(self) -> None:
        """Have everything inside ended, and do not wait for it."""
        if is_process(self.pid, self.started):
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def kill(self) -> None:
        """End everything inside, at once."""
        self.begin_kill()
        for child in self.children:
            child.kill()  # nsenter stops when its child does, and would not hear of its end
            child.wait()
        if self.holder is not None:
            self.holder.wait()


def start_namespace(name: str, log_dir: Path, *, mounts: str = "", is_bound: bool) -> Namespace:
    """Start a holder. It writes itself down before it is ready, whatever becomes of us.

    mounts: shell commands run first, in the new mount namespace.
    is_bound: whether it ends when the process that started it does (kill -9 included).
    """
    log = (log_dir / "namespaces.log").open("a")
    script = f"{WRITE_DOWN}\n{mounts}\nip link set lo up\necho ready\nexec sleep infinity"
    holder = subprocess.Popen(
        [
            *(("setpriv", "--pdeathsig", "KILL") if is_bound else ()),
            *("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child=KILL"),
            *("sh", "-ec", script, "sh", name, str(log_dir / RECORD)),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=log,
        start_new_session=True,
    )
    log.close()
    assert holder.stdout is not None
    with holder.stdout:
        is_ready = holder.stdout.readline() == b"ready\n"
    if not is_ready:
        raise CommandError(f"{name}: the namespace did not come up: exit {holder.wait()}")
    pid = child_of(holder.pid)
    return Namespace(name, pid, start_time(pid), log_dir, holder)


def _process_namespace(pid: int, kind: str) -> str | None:
    """Return which namespace a process is in; None when it is gone. kind: as in /proc/PID/ns."""
    try:
        return os.readlink(f"/proc/{pid}/ns/{kind}")
    except OSError:
        return None


def child_of(pid: int) -> int:
    """Return the only child of a process."""
    (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(child)


def descendants(pid: int) -> Iterator[int]:
    """Yield the processes below one, parents first."""
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        yield int(child)
        with contextlib.suppress(OSError):
            yield from descendants(int(child))


def start_time(pid: int) -> str:
    """Return what tells a process from a later one with the same number."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]


def is_process(pid: int, started: str) -> bool:
    """Whether this very process lives."""
    try:
        return start_time(pid) == started
    except OSError:
        return False
