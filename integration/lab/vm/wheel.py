"""netagent's own wheel, built once a process, as a release would be."""

from __future__ import annotations

import functools
import subprocess
import sys
import tempfile
import zipfile
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


def rename_wheel(wheel: tuple[str, bytes], version: str, directory: Path) -> tuple[str, bytes]:
    """Return the same wheel as another version, with programs of another digest.

    directory: an empty one to work in.
    """
    name, content = wheel
    (directory / name).write_bytes(content)
    wheel_tool = (sys.executable, "-m", "zipfile", "-e", str(directory / name))
    unpacked = directory / "unpacked"
    subprocess.run([*wheel_tool, str(unpacked)], check=True)
    (info,) = unpacked.glob("*.dist-info")
    old = info.name.removesuffix(".dist-info").partition("-")[2]
    metadata = info / "METADATA"
    metadata.write_text(
        metadata.read_text().replace(f"\nVersion: {old}\n", f"\nVersion: {version}\n")
    )
    for program in unpacked.glob("netagent/dataplane/objects/*.bpf.o"):
        # Past the end of what the ELF header describes: loads alike, and has another digest.
        program.write_bytes(program.read_bytes() + b"another release")
    # pip takes the list of files without digests as well.
    record = (info / "RECORD").read_text().replace(f"-{old}.", f"-{version}.").splitlines()
    renamed = info.with_name(info.name.replace(old, version))
    info.rename(renamed)
    (renamed / "RECORD").write_text("".join(f"{line.partition(',')[0]},,\n" for line in record))
    target = directory / name.replace(old, version)
    with zipfile.ZipFile(target, "w") as archive:
        for path in sorted(unpacked.rglob("*")):
            if path.is_file():
                archive.write(path, path.relative_to(unpacked))
    return target.name, target.read_bytes()
