"""The real agent on the real kernel, in namespaces of its own: killed, restarted, cleaned up.

Each test runs a program of its own under `unshare`, so that nothing can be left behind.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("namespaced_scenarios.py")

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(
        not (shutil.which("wg") and shutil.which("wireguard-go")), reason="needs WireGuard"
    ),
]


@pytest.mark.parametrize(
    "scenario",
    [
        "restart_adopts_everything_and_writes_nothing",
        "killed_wireguard_comes_back",
        "removed_interface_is_made_again",
        "machine_whose_namespace_is_gone_does_not_stop_the_rest",
        "drift_is_found_and_counted",
        "policies_are_enforced_told_counted_mended_and_adopted",
        "stopping_leaves_the_data_path",
        "cleanup_leaves_nothing_of_ours_and_all_of_others",
    ],
)
def test_on_the_kernel(scenario: str) -> None:
    done = subprocess.run(
        [
            *("unshare", "--net", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child"),
            *(sys.executable, str(PROGRAM), scenario),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
