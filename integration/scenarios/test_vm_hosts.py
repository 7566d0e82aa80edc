"""Hosts with kernels of their own, under systemd: they crash, hang, boot anew and are upgraded."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from integration.lab.probe import probing
from integration.lab.stream import streaming
from integration.lab.vm.daemon import GuestDaemon
from integration.lab.vm.host import GuestHost
from integration.lab.vm.lab import VmLab
from integration.lab.vm.wheel import build_wheel, install_wheel, rename_wheel
from integration.lab.wait import wait_until
from integration.scenarios.traffic import pings, place_of
from netagent.api.agent.v1 import agent_service_pb2 as agent_pb

SHORT_WATCHDOG = """
mkdir -p /run/systemd/system/netagent-agent.service.d
printf '[Service]\\nWatchdogSec=6\\n' >/run/systemd/system/netagent-agent.service.d/lab.conf
systemctl daemon-reload
systemctl restart netagent-agent.service
"""
USUAL_WATCHDOG = """
rm -rf /run/systemd/system/netagent-agent.service.d
systemctl daemon-reload
systemctl restart netagent-agent.service
"""


def test_hosts_use_the_wireguard_of_their_kernel(vm_lab: VmLab) -> None:
    for host in vm_lab.hosts.values():
        assert host.status().wireguard == "kernel"
        assert host.run("uname", "-r").startswith(f"{host.vm.shape.kernel}.")
        in_threads = host.run("cat", "/sys/class/net/netagent0/threaded").strip()
        assert in_threads == ("1" if host.vm.shape.kernel == "6.12" else "0")


@pytest.mark.parametrize("hard", [False, True], ids=["shut-down", "reset-button"])
def test_a_host_that_boots_anew_has_its_machines(vm_lab: VmLab, hard: bool) -> None:
    web, db = vm_lab.machine("shop/web", "host-a"), vm_lab.machine("shop/db", "host-b")
    web.wait_reaches(db)
    host = vm_lab.hosts["host-a"]
    locator = host.status().locator

    host.reboot(hard=hard)
    host.wait_in_step()

    web.wait_reaches(db, timeout_s=60)
    db.wait_reaches(web)
    assert host.status().locator == locator
    assert [each.machine for each in host.status().endpoints] == ["shop/web"]
    wait_until("no condition is left", lambda: not host.status().conditions, timeout_s=60)


def test_systemd_starts_an_agent_that_was_killed_and_no_packet_is_lost(vm_lab: VmLab) -> None:
    web, db = vm_lab.machine("shop/web", "host-a"), vm_lab.machine("shop/db", "host-b")
    web.wait_reaches(db)
    host = vm_lab.hosts["host-a"]
    before = host.agent.pid

    with probing(place_of(web), place_of(db), vm_lab.directory) as probe:
        host.agent.crash()
        wait_until("another runs", lambda: host.agent.pid not in (0, before), timeout_s=60)
        host.wait_in_step()
        record = probe.stop()

    assert record.whole().lost == 0
    assert (host.status().kernel_writes, host.status().drift_mended) == (0, 0)


def test_a_machine_that_left_while_its_agent_was_dead_is_fenced_and_said(vm_lab: VmLab) -> None:
    """Whoever handed the interface over may still run the machine: it is theirs to end."""
    web, db = vm_lab.machine("shop/web", "host-a"), vm_lab.machine("shop/db", "host-b")
    web.wait_reaches(db)
    host = vm_lab.hosts["host-a"]

    host.kill_agent()
    vm_lab.move(web, "host-c")
    host.start_agent()

    wait_until("host-a says so", lambda: "machine_taken" in _codes(host))
    assert [each.state for each in host.status().endpoints] == [agent_pb.ENDPOINT_STATE_FENCED]
    db.wait_reaches(web)
    host.detach(web.path)
    wait_until("nothing is left to say", lambda: not _codes(host))
    web.wait_reaches(db)


def _codes(host: GuestHost) -> set[str]:
    return {condition.code for condition in host.status().conditions}


def test_systemd_replaces_an_agent_that_hangs(vm_lab: VmLab) -> None:
    host = vm_lab.hosts["host-a"]
    try:
        host.namespace.script(SHORT_WATCHDOG, timeout_s=120)
        host.wait_in_step()
        before = host.agent.pid

        host.agent.pause()

        wait_until("another runs", lambda: host.agent.pid not in (0, before), timeout_s=120)
        host.wait_in_step()
        assert "Watchdog timeout" in host.agent.log.read_text()
    finally:
        host.namespace.script(USUAL_WATCHDOG, timeout_s=120)
    host.wait_in_step()


def test_a_release_is_rolled_out_host_by_host_under_traffic(vm_lab: VmLab, tmp_path: Path) -> None:
    web, db = vm_lab.machine("shop/web", "host-a"), vm_lab.machine("shop/db", "host-b")
    web.wait_reaches(db)
    release = rename_wheel(build_wheel(), "99.1", tmp_path)

    with (
        _with_this_release_afterwards(vm_lab, ("host-a", "host-b")) as names,
        probing(place_of(web), place_of(db), vm_lab.directory) as probe,
        streaming(web.namespace, db.namespace, db.address) as stream,
    ):
        connection = stream.connection()
        for name in names:
            _upgrade(vm_lab.hosts[name], release)
            assert vm_lab.hosts[name].status().version == "99.1"
            assert stream.is_alive_after(connection), f"the connection broke with {name}"
        record = probe.stop()

    assert vm_lab.hosts["host-c"].status().version != "99.1"
    assert pings(place_of(web), db.address)
    assert record.whole().lost == 0


@contextmanager
def _with_this_release_afterwards(lab: VmLab, names: Sequence[str]) -> Iterator[Sequence[str]]:
    """Leave the hosts as other tests expect them, whatever becomes of the block."""
    try:
        yield names
    finally:
        for name in names:
            _upgrade(lab.hosts[name], build_wheel())


def _upgrade(host: GuestHost, wheel: tuple[str, bytes]) -> None:
    install_wheel(host.namespace, wheel)
    host.run("systemctl", "restart", host.agent.unit)
    host.wait_in_step()


@contextmanager
def _with_control_installed(host: GuestHost) -> Iterator[GuestDaemon]:
    """Install the unit of control beside an agent: the lab's own control has no systemd."""
    control = GuestDaemon(host.namespace, "control")
    host.run("netagent", "systemd", "install", "control")
    try:
        yield control
    finally:
        control.end()
        host.run("netagent", "systemd", "remove", "control")
        host.run("rm", "-rf", "/var/lib/netagent/control")


def test_units_let_daemons_write_where_they_have_to(vm_lab: VmLab) -> None:
    """wireguard-go, which an agent may have to start, has its socket in a directory of its own."""
    host = vm_lab.hosts["host-b"]
    own = ("nsenter", "-t", str(host.agent.pid), "-m", "--")

    host.run(*own, "touch", "/run/wireguard/there")
    assert "Read-only" in _refused(host, *own, "touch", "/etc/elsewhere")
    assert host.run("ls", "/run/wireguard").split() == ["there"]
    host.run("rm", "/run/wireguard/there")


def _refused(host: GuestHost, *command: str) -> str:
    done = host.namespace.run(*command, check=False)
    assert done.returncode != 0
    return done.stderr


def test_control_runs_as_a_unit_and_systemd_starts_it_again(vm_lab: VmLab) -> None:
    host = vm_lab.hosts["host-b"]
    ask = ("netagent", "network", "list", "--timeout", "60", "--output", "json")

    with _with_control_installed(host) as control:
        control.start()
        made = host.run("netagent", "network", "create", "blue", "--timeout", "60")
        before = control.pid
        control.crash()
        wait_until("another runs", lambda: control.pid not in (0, before), timeout_s=60)
        wait_until("it is ready", lambda: control.state == "active", timeout_s=60)

        assert "blue" in made
        assert "blue" in host.run(*ask)
        assert host.status().connected, "the agent beside it has its own control"
        own = ("nsenter", "-t", str(control.pid), "-m", "--")
        assert "No such file" in _refused(host, *own, "ls", "/var/lib/netagent/agent/wireguard.key")


@pytest.mark.parametrize(("kind", "limit"), [("agent", 6), ("control", 3)])
def test_units_leave_daemons_little_to_do_harm_with(vm_lab: VmLab, kind: str, limit: float) -> None:
    """systemd's own figure: 0 is a cage, 10 is a root shell."""
    host = vm_lab.hosts["host-b"]
    with _with_control_installed(host):
        unit = f"netagent-{kind}.service"
        said = host.run("systemd-analyze", "security", "--no-pager", unit, check=False)

    found = re.search(r"exposure level for \S+: ([0-9.]+)", said)
    assert found is not None, said
    assert float(found[1]) < limit
