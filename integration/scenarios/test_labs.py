"""Labs do not disturb each other, and leave nothing behind, however they end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from integration.lab.lab import Lab
from integration.lab.wait import wait_until

PROJECT = Path(__file__).parents[2]
HOLDER = """
import sys
from integration.lab.lab import Lab
with Lab(hosts=2) as lab:
    lab.network("shop")
    lab.machine("shop/web", "host-a").wait_reaches(lab.machine("shop/db", "host-b"))
    print(lab.name, *(namespace.pid for namespace in lab.namespaces), flush=True)
    sys.stdin.read()
"""


def _processes_of(name: str, namespaces: set[int]) -> set[int]:
    """Return the processes in these network namespaces, or with the lab's name on their line."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            inode = os.stat(process / "ns/net").st_ino
            line = (process / "cmdline").read_bytes()
        except OSError:
            continue
        if inode in namespaces or f"netagent-lab-{name}".encode() in line:
            found.add(int(process.name))
    return found


def test_two_labs_have_the_same_names_and_nothing_in_common() -> None:
    with Lab(hosts=2) as one, Lab(hosts=2) as other:
        for lab in (one, other):
            lab.network("shop")
            web, db = lab.machine("shop/web", "host-a"), lab.machine("shop/db", "host-b")
            web.wait_reaches(db)
        assert not one.machines["shop/web"].reaches(other.machines["shop/db"].address)

        other.stop()

        assert one.machines["shop/web"].reaches(one.machines["shop/db"].address)
        assert one.list_hosts()
        assert not other.directory.exists()


def test_nothing_outlives_a_killed_holder() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER],
        cwd=PROJECT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        name, *pids = holder.stdout.readline().split()
        namespaces = {os.stat(f"/proc/{pid}/ns/net").st_ino for pid in pids}
        assert len(_processes_of(name, namespaces)) > len(pids)

        holder.send_signal(signal.SIGKILL)

        wait_until("no process is left", lambda: not _processes_of(name, namespaces))
