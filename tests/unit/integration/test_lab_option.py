"""`pytest --lab`: what a backend cannot run says why, and a run of nothing is no success."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(
    ("backend", "scenarios", "reason"),
    [
        ("vm", "test_lab.py", "is about namespaces of this machine"),
        ("netns", "test_vm_hosts.py", "needs hosts with kernels of their own: --lab vm"),
    ],
)
def test_a_run_in_which_everything_was_skipped_fails(
    backend: str, scenarios: str, reason: str
) -> None:
    path = f"integration/scenarios/{scenarios}"
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--lab", backend, path]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 1, done.stdout
    assert " passed" not in done.stdout
    # Without root or the tools, that is the reason.
    assert reason in done.stdout or "needs " in done.stdout
