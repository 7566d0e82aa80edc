"""The disk that brings BCC to a guest: Debian's package, and the headers of the guests' kernels.

It is big, and one scenario needs it: so it is no part of the image but a root file system of its
own, plugged into running guests, in which the observer runs. It is kept beside the image whose
kernels it is for.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from integration.lab.vm.image import BUILD_TIMEOUT_S, SUITE, Image, find_mirrors, locked

PACKAGES = ("python3-bpfcc",)
UNUSED = ("usr/share/doc", "usr/share/man", "usr/share/locale", "var/lib/apt", "var/cache/apt")
DISK_BYTES = 1200 << 20


def get_disk(image: Image) -> Path:
    """Return the disk for an image's kernels, made now if there is none.

    Raises RuntimeError when a step fails; the log is observer.log beside it.
    """
    releases = _releases(image)
    inputs = repr((PACKAGES, UNUSED, DISK_BYTES, SUITE, sorted(releases)))
    digest = hashlib.sha256(inputs.encode()).hexdigest()[:16]
    disk = image.directory / f"observer-{digest}.qcow2"
    with locked(image.directory / "observer.lock"):
        if not disk.exists():
            print(f"building the observer's disk {disk}, once", file=sys.stderr, flush=True)
            _build(disk, releases)
    return disk


def _releases(image: Image) -> list[str]:
    kernels = image.describe()["kernels"]
    assert isinstance(kernels, dict)
    return [str(release) for release in kernels.values()]


def _build(disk: Path, releases: Sequence[str]) -> None:
    staging = disk.with_suffix(".partial")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir()
    log = disk.parent / "observer.log"
    try:
        with log.open("w") as out:
            _bootstrap(staging, releases, out.fileno())
            _make_disk(staging, disk, out.fileno())
    except (subprocess.SubprocessError, OSError) as error:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
        raise RuntimeError(f"the observer's disk could not be built: {error}\n{tail}") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _bootstrap(staging: Path, releases: Sequence[str], log: int) -> None:
    """Make the root file system. Headers are unpacked only: installed they want a compiler."""
    headers = " ".join(
        f"linux-headers-{release} {_common_headers(release)}" for release in releases
    )
    script = "set -e; mkdir /tmp/debs; cd /tmp/debs; "
    script += f"apt-get download {headers}; "
    script += "for deb in *.deb; do dpkg-deb --fsys-tarfile $deb | "
    script += "tar -x --keep-directory-symlink -C /; done; "  # /lib stays one
    script += f"cd /; rm -r /tmp/debs; rm -rf {' '.join(UNUSED)}"
    (staging / "headers").write_text(script)
    mirror, security = find_mirrors()
    _do(
        log,
        *("mmdebstrap", "--variant=minbase", "--mode=root", "--quiet"),
        *("--aptopt=APT::Install-Recommends false", "--aptopt=Acquire::Languages none"),
        f"--include={','.join(PACKAGES)}",
        f'--customize-hook=chroot "$1" sh -c "$(cat {staging}/headers)"',
        *(SUITE, str(staging / "root")),
        *(f"deb {mirror} {suite} main" for suite in (SUITE, f"{SUITE}-updates")),
        *(f"deb {mirror} {SUITE}-backports main", f"deb {security} {SUITE}-security main"),
    )


def _common_headers(release: str) -> str:
    """Return the package that those of one processor family rest on."""
    return f"linux-headers-{release.removesuffix('-amd64')}-common"


def _make_disk(staging: Path, disk: Path, log: int) -> None:
    raw = staging / "root.raw"
    with raw.open("wb") as file:
        file.truncate(DISK_BYTES)
    mke2fs = ("mke2fs", "-q", "-t", "ext4", "-O", "^has_journal,^metadata_csum")
    _do(log, *mke2fs, "-d", str(staging / "root"), str(raw))
    made = staging / "root.qcow2"
    _do(log, "qemu-img", "convert", "-O", "qcow2", str(raw), str(made))
    made.rename(disk)


def _do(log: int, *command: str) -> None:
    subprocess.run(command, stdout=log, stderr=log, check=True, timeout=BUILD_TIMEOUT_S)
