"""The data path in memory behaves as the kernel's, as far as the agent relies on it."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from dataplane_contract import check_all
from simulated_dataplane import (
    SimulatedDatapath,
    SimulatedDataplane,
    SimulatedLinks,
    SimulatedMesh,
)

from netagent.dataplane.link import Link

PROGRAM = Path(__file__).with_name("dataplane_contract.py")


def test_in_memory() -> None:
    state = SimulatedDataplane()
    state.links["tap0"] = Link("tap0", 2, b"\x02\0\0\0\0\x05", 1500, is_up=False)

    check_all(SimulatedDatapath(state), SimulatedLinks(state), SimulatedMesh(state))


@pytest.mark.root
@pytest.mark.skipif(not shutil.which("wg"), reason="needs WireGuard")
def test_on_the_kernel() -> None:
    unshare = ("unshare", "--net", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child")
    done = subprocess.run(
        [*unshare, sys.executable, str(PROGRAM)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
