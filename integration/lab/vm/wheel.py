"""netagent's own wheel, built once a process, as a release would be."""

from __future__ import annotations

import functools
import subprocess
import sys
import tempfile
from pathlib import Path

from integration.lab.vm.image import PROJECT, VENV
from integration.lab.vm.shell import GuestShell

INSTALL_TIMEOUT_S = 300


@functools.cache
def build_wheel(project: Path = PROJECT) -> tuple[str, bytes]:
    """Return (file name, content) of the wheel of a source tree."""
    pip = (sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation")
    with tempfile.TemporaryDirectory() as directory:
        subprocess.run([*pip, "-w", directory, str(project)], check=True, timeout=INSTALL_TIMEOUT_S)
        (wheel,) = Path(directory).glob("*.whl")
        return wheel.name, wheel.read_bytes()


def install_wheel(shell: GuestShell, wheel: tuple[str, bytes]) -> None:
    """Install a wheel in a guest, over the one that is there; its dependencies are in the image."""
    name, content = wheel
    shell.write(f"/root/{name}", content)
    options = "--quiet --no-index --no-deps --force-reinstall --disable-pip-version-check"
    shell.script(f"{VENV}/bin/pip install {options} /root/{name}", timeout_s=INSTALL_TIMEOUT_S)
