"""The lab itself: several at once, and nothing left of any, however it ends."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from integration.lab.kept import KeptLab, directory_of
from integration.lab.lab import Lab
from integration.lab.namespace import is_process, start_namespace
from integration.lab.wait import wait_until

pytestmark = pytest.mark.namespaces_only("is about namespaces of this machine")

ROOT = Path(__file__).resolve().parents[2]

HOLD_A_LAB = """
import signal, sys
from integration.lab.lab import Lab
with Lab(sys.argv[1], hosts=1) as lab:
    lab.network("shop")
    lab.machine("shop/web", "host-a")
    print("ready", flush=True)
    signal.pause()
"""


@pytest.fixture
def name() -> Iterator[str]:
    """A lab's name; whatever the test leaves of the lab goes."""
    made = f"test-{secrets.token_hex(4)}"
    yield made
    if directory_of(made).exists():
        KeptLab(made, directory_of(made)).end()


def own_interfaces() -> str:
    return subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True).stdout


def processes_of(name: str) -> list[str]:
    """Return the command lines of processes that have to do with a lab of that name."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(directory_of(name)) in line and path.parent.name != str(os.getpid()):
            found.append(line)
    return found


def test_several_labs_do_not_see_each_other() -> None:
    before = own_interfaces()
    with Lab(hosts=1) as one, Lab(hosts=1) as other:
        for lab in (one, other):
            lab.network("shop")
            lab.machine("shop/web", "host-a")
            lab.machine("shop/db", "host-a")
        for lab in (one, other):
            lab.machines["shop/web"].wait_reaches(lab.machines["shop/db"])
        alien = other.machines["shop/db"].address
        assert not one.machines["shop/web"].reaches(alien)
        assert [host.name for host in one.list_hosts()] == ["host-a"]
        assert own_interfaces() == before


def test_an_ended_lab_leaves_nothing() -> None:
    before = own_interfaces()
    with Lab(hosts=2) as lab:
        lab.network("shop")
        lab.machine("shop/web", "host-a")
        holders = [(each.pid, each.started) for each in lab.namespaces]

    assert not any(is_process(pid, started) for pid, started in holders)
    assert not lab.directory.exists()
    assert processes_of(lab.name) == []
    assert own_interfaces() == before


def test_a_lab_ends_with_the_process_that_made_it_even_when_that_is_killed(name: str) -> None:
    maker = subprocess.Popen(
        [sys.executable, "-c", HOLD_A_LAB, name],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    with maker:
        assert maker.stdout is not None
        assert maker.stdout.readline() == "ready\n"
        assert len(KeptLab(name, directory_of(name)).namespaces()) == 4
        assert processes_of(name)

        maker.send_signal(signal.SIGKILL)

        wait_until("every process is gone", lambda: not processes_of(name))
        wait_until(
            "every namespace is gone",
            lambda: not KeptLab(name, directory_of(name)).namespaces(),
        )


def lab_command(
    *words: str, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "integration.lab", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, **(environment or {})},
    )


def test_people_bring_a_lab_up_use_it_and_take_it_down(name: str) -> None:
    named = ("--name", name)
    assert lab_command("up", "--hosts", "2", *named).returncode == 0
    assert lab_command("machine", "shop/web", "--host", "host-a", *named).returncode == 0
    assert lab_command("machine", "shop/db", "--host", "host-b", *named).returncode == 0
    moved = lab_command("move", "shop/web", "--to", "host-b", *named)
    assert "move it here: netagent move shop/web --to host-b" in moved.stderr
    assert "shop/web has moved to host-b" in moved.stdout + moved.stderr

    shown = lab_command("status", *named).stdout
    assert "host-b" in shown
    assert "shop/web" in shown
    address = next(line.split()[1] for line in shown.splitlines() if line.startswith("shop/db"))
    ping = ("ping", "-c", "1", "-W", "2", address)
    assert lab_command("shell", "shop/web", *named, "--", *ping).returncode == 0
    status = lab_command("shell", "host-b", *named, "--", "netagent", "status", "-o", "json")
    assert '"state": "live"' in status.stdout

    control = KeptLab(name, directory_of(name)).namespaces()["control"]
    for pid, _ in control.processes():
        os.kill(pid, signal.SIGKILL)
    without = lab_command("status", *named)
    assert without.returncode == 3
    assert without.stderr.count("cannot reach control") == 1
    assert "shop/web live" in without.stdout

    wrong = lab_command("shell", "host-x", *named)
    assert wrong.returncode == 1
    assert "host-a, host-b, shop/web, shop/db" in wrong.stderr

    assert lab_command("down", *named).returncode == 0
    assert not directory_of(name).exists()
    assert processes_of(name) == []
    again = lab_command("down", *named)
    assert again.returncode == 1
    assert f"no lab {name}" in again.stderr


@pytest.mark.parametrize("wrong", ["a b", "A", "../x", "-a"])
def test_a_lab_has_a_name_like_all_else(wrong: str) -> None:
    done = lab_command("up", f"--name={wrong}")

    assert done.returncode == 1
    assert done.stderr.startswith(f"error: --name: {wrong!r} is not a name")
    assert not directory_of(wrong).exists()


def test_a_lab_with_a_stopped_process_inside_can_be_ended(name: str) -> None:
    directory_of(name).mkdir()
    fabric = start_namespace("fabric", directory_of(name), is_bound=False)
    inside = fabric.start("sleep", "600")
    (sleeping,) = wait_until("it runs", fabric.processes)
    os.kill(sleeping[0], signal.SIGSTOP)
    wait_until("nsenter has stopped too", lambda: "T" in state_of(inside.pid))

    done = lab_command("down", "--name", name)

    assert done.stdout == f"lab {name}: ended, with 1 namespaces\n"
    assert (done.returncode, done.stderr) == (0, "")
    assert inside.wait(timeout=10) == -signal.SIGKILL
    fabric.kill()


def test_remains_go_with_all_and_a_lab_that_begins_does_not(tmp_path: Path) -> None:
    old, new = tmp_path / "netagent-lab-old", tmp_path / "netagent-lab-new"
    old.mkdir()
    new.mkdir()
    os.utime(old, (0, 0))

    done = lab_command("down", "--all", environment={"TMPDIR": str(tmp_path)})

    assert done.stdout == "lab old: nothing of it lived; its remains removed\n"
    assert (old.exists(), new.exists()) == (False, True)


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
