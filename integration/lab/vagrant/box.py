"""The local box: the guests' image as Vagrant's libvirt provider takes it, and a kernel.

For machines that the public boxes cannot be fetched to, or that have no KVM: it needs no network
and no boot loader, and nothing is installed when it comes up but netagent's wheel.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from integration.lab.vm.image import Image, get_image, locked
from integration.lab.vm.kernels import DEFAULT
from integration.lab.vm.qemu import KERNEL_OPTIONS

NAME = "netagent-local"
"""Of the box, in Vagrant's list of boxes."""

HERE = Path(__file__).parent
STEP_TIMEOUT_S = 600

ACCOUNT = """
useradd --create-home --shell /bin/bash --password '*' vagrant
install -d -m 700 -o vagrant -g vagrant /home/vagrant/.ssh
install -m 600 -o vagrant -g vagrant /tmp/key.pub /home/vagrant/.ssh/authorized_keys
rm /tmp/key.pub
echo 'vagrant ALL=(ALL) NOPASSWD:ALL' >/etc/sudoers.d/vagrant
chmod 440 /etc/sudoers.d/vagrant
echo netagent-box >/etc/hostname
printf '127.0.0.1 localhost\\n::1 localhost\\n' >/etc/hosts
"""

SERVICES = ("systemd-networkd.service", "ssh.service")
NOT_NEEDED = ("systemd-logind.service",)
PATIENT = "systemd.default_timeout_start_sec=900"
"""Four machines that boot at once in emulation, beside other work, take minutes."""

NETWORK = """\
[Match]
Name=eth0

[Network]
DHCP=ipv4

[DHCPv4]
ClientIdentifier=mac
UseHostname=no
"""


def get_box() -> Path:
    """Return the box of the current image, made now if there is none; an image may be made first.

    Raises RuntimeError when a tool is missing or a step fails.
    """
    image = get_image()
    box = image.directory / f"{NAME}-{_digest()}.box"
    with locked(image.directory / "box.lock"):
        if not box.exists():
            _build(image, box)
    return box


def _build(image: Image, box: Path) -> None:
    """Make the box, in place of older ones."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(dir=image.directory) as directory:
        try:
            _make(image, Path(directory))
            _do("tar", "-C", directory, "-cf", f"{box}.partial", *_members(Path(directory)))
        except (subprocess.SubprocessError, OSError) as error:
            said = getattr(error, "stderr", None) or ""
            raise RuntimeError(f"the box could not be made: {error}\n{said}") from error
    for old in image.directory.glob(f"{NAME}-*.box"):
        old.unlink()
    Path(f"{box}.partial").rename(box)
    took_s, size_mb = time.monotonic() - began, box.stat().st_size / 1e6
    print(f"box made in {took_s:.0f} s, {size_mb:.0f} MB", file=sys.stderr)


def _digest() -> str:
    """Return what names the box, besides the image that it is made of."""
    inputs = [Path(__file__).read_bytes(), (HERE / "box.rb").read_bytes()]
    return hashlib.sha256(b"\0".join([*inputs, repr(KERNEL_OPTIONS).encode()])).hexdigest()[:8]


def _members(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def _make(image: Image, directory: Path) -> None:
    """Make what is in the box."""
    _do("ssh-keygen", "-q", "-t", "rsa", "-m", "PEM", "-N", "", "-C", NAME, "-f", directory / "key")
    raw = directory / "root.raw"
    _do("qemu-img", "convert", "-O", "raw", image.disk, raw)
    with _mounted(raw, directory / "root") as root:
        shutil.move(directory / "key.pub", root / "tmp/key.pub")
        _do("chroot", root, "sh", "-ec", ACCOUNT)
        (root / "etc/systemd/network/10-eth0.network").write_text(NETWORK)
        systemctl = ("systemctl", f"--root={root}", "--quiet")
        _do(*systemctl, "disable", "lab-identity.service")
        _do(*systemctl, "mask", *NOT_NEEDED)
        _do(*systemctl, "enable", *SERVICES)
    _do("qemu-img", "convert", "-O", "qcow2", raw, directory / "box.img")
    size_bytes = raw.stat().st_size
    raw.unlink()
    shutil.copy(image.kernel(DEFAULT), directory / "vmlinuz")
    shutil.copy(image.initrd(DEFAULT), directory / "initrd")
    metadata = {"provider": "libvirt", "format": "qcow2", "virtual_size": -(-size_bytes // 2**30)}
    (directory / "metadata.json").write_text(json.dumps(metadata))
    options = " ".join([*KERNEL_OPTIONS, PATIENT])
    vagrantfile = (HERE / "box.rb").read_text().replace("@KERNEL_OPTIONS@", options)
    (directory / "Vagrantfile").write_text(vagrantfile)


@contextlib.contextmanager
def _mounted(raw: Path, place: Path) -> Iterator[Path]:
    place.mkdir()
    _do("mount", "-o", "loop", raw, place)
    try:
        yield place
    finally:
        _do("umount", place)
        place.rmdir()


def _do(*command: str | Path) -> None:
    words = [str(word) for word in command]
    subprocess.run(words, check=True, capture_output=True, text=True, timeout=STEP_TIMEOUT_S)


if __name__ == "__main__":
    try:
        print(get_box())
    except RuntimeError as error:
        sys.exit(f"error: {error}")
