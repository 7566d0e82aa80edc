"""`netagent host drain` of a host with running machines, one of which is being probed."""

from __future__ import annotations

import os
import subprocess

import pytest

from integration.lab.lab import Lab
from integration.lab.probe import probing
from integration.lab.process import NETAGENT
from integration.lab.wait import wait_until
from integration.scenarios.traffic import place_of

pytestmark = pytest.mark.namespaces_only("is about control and the command alone")

MACHINES = 6


def _drain(lab: Lab, *options: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "NETAGENT_CONTROL": f"unix://{lab.control_socket}"}
    return subprocess.run(
        [NETAGENT, "host", "drain", "host-a", *options],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_drained_host_has_no_machines_and_nobody_noticed(lab: Lab) -> None:
    peer = lab.machine("shop/peer", "host-c")
    machines = [lab.machine(f"shop/m{number}", "host-a") for number in range(MACHINES)]
    for machine in machines:
        for host in ("host-b", "host-c"):
            machine.attach(lab.hosts[host])
        machine.wait_reaches(peer)

    with probing(place_of(peer), place_of(machines[0]), lab.directory) as probe:
        done = _drain(lab, "--parallel", "3")
        record = probe.stop()

    assert done.returncode == 0, done.stderr
    assert (
        done.stdout.splitlines()[-1] == f"{MACHINES} of {MACHINES} machines have moved from host-a"
    )
    places = [lab.locate(machine) for machine in machines]
    assert (places.count("host-b"), places.count("host-c")) == (4, 2), "host-c had one already"
    print(record.whole())
    assert record.whole().lost <= 10
    for machine in machines:
        peer.wait_reaches(machine)
    wait_until("host-a let go of them", lambda: not lab.hosts["host-a"].status().endpoints)
