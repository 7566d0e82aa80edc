"""Network and mount namespaces of a test's own, entered by the calling thread."""

from __future__ import annotations

import ctypes
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_CLONE_NEWNS = 0x00020000
_CLONE_NEWNET = 0x40000000

_libc = ctypes.CDLL(None, use_errno=True)


@contextmanager
def own_namespaces() -> Iterator[None]:
    """Move this thread into new network and mount namespaces, and back at the end.

    Mounts made inside are seen by nobody else and end, like interfaces, with the namespaces.
    """
    directory = os.getcwd()
    root = os.open("/", os.O_RDONLY | os.O_CLOEXEC)
    kinds = {"net": _CLONE_NEWNET, "mnt": _CLONE_NEWNS}
    before = {
        kind: os.open(f"/proc/thread-self/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC) for kind in kinds
    }
    threads = _threads()
    _check(_libc.unshare(_CLONE_NEWNET | _CLONE_NEWNS))
    try:
        subprocess.run(["mount", "--make-rprivate", "/"], check=True)
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        yield
    finally:
        _wait_gone(threads)
        for kind, fd in before.items():
            _check(_libc.setns(fd, kinds[kind]))
            os.close(fd)
        # Entering a mount namespace leaves a chroot, if that is where we run.
        os.fchdir(root)
        os.chroot(".")
        os.close(root)
        os.chdir(directory)


def _threads() -> set[str]:
    return set(os.listdir("/proc/self/task"))


def _wait_gone(known: set[str], timeout_s: float = 10.0) -> None:
    """Wait until threads that were begun and joined since are gone: they share our mounts."""
    deadline = time.monotonic() + timeout_s
    while _threads() - known and time.monotonic() < deadline:
        os.sched_yield()


def mount_bpffs(path: Path) -> Path:
    """Mount a BPF file system of our own at `path`, made if need be."""
    path.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "bpf", "bpf", str(path)], check=True)
    return path


def mount_tmpfs(path: Path) -> Path:
    """Hide what is at `path` under an empty directory of our own."""
    path.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(path)], check=True)
    return path


@contextmanager
def named_netns(name: str) -> Iterator[Path]:
    """Make a network namespace for a machine; it and its interfaces go at the end."""
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        yield Path("/run/netns") / name
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=True)


def make_interface(name: str, ifindex: int) -> None:
    """Make a veth pair, NAME of that index and NAMEx."""
    pair = ["index", str(ifindex), "type", "veth", "peer", "name", f"{name}x"]
    subprocess.run(["ip", "link", "add", name, *pair], check=True)


def set_up(name: str) -> None:
    """Bring both ends of a pair up."""
    for end in (name, f"{name}x"):
        subprocess.run(["ip", "link", "set", end, "up"], check=True)


def _check(result: int) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
