"""The kernels that guests boot: Debian's packages, without the modules that no guest has a use for.

A kernel is taken out of its package without being installed: no boot loader, no initramfs of the
distribution. The initrd is the lab's own, with busybox and what the root file system needs.
"""

from __future__ import annotations

import lzma
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

GUEST = Path(__file__).parent / "guest"
BUSYBOX = Path("/bin/busybox")

PACKAGES = {
    "6.1": r"^linux-image-6\.1\.0-[0-9]+-amd64$",
    "6.12": r"^linux-image-6\.12\.[0-9]+.deb12-amd64$",
}
"""By the name under which a kernel is asked for: its package, as apt-cache search takes it.

6.1 is that of Debian 12, 6.12 that of its backports.
"""

DEFAULT = "6.1"


def check_kernels(names: Iterable[str]) -> None:
    """Raise ValueError for a kernel that the image does not have."""
    for name in names:
        if name not in PACKAGES:
            raise ValueError(f"there is no kernel {name!r}; there are {', '.join(PACKAGES)}")


KEPT = (
    *("arch", "crypto", "lib", "net", "drivers/block/virtio_blk.ko", "drivers/char/hw_random"),
    *("drivers/net/virtio_net.ko", "drivers/net/veth.ko", "drivers/net/tun.ko"),
    *("drivers/net/wireguard", "drivers/net/dummy.ko", "drivers/net/ifb.ko"),
    *(
        "drivers/net/net_failover.ko",
        "drivers/virtio",
        "drivers/net/vxlan",
        "drivers/crypto/virtio",
    ),
    *("fs/ext4", "fs/jbd2", "fs/mbcache.ko", "fs/9p", "fs/netfs", "fs/fuse", "fs/overlayfs"),
    *("fs/autofs", "fs/efivarfs", "fs/configfs", "fs/fscache"),
)
"""Modules, relative to `kernel/`: what a guest has."""

DROPPED = ("net/bluetooth", "net/mac80211", "net/wireless", "net/nfc", "net/can", "net/sunrpc")

ROOT_NEEDS = ("virtio_pci", "virtio_blk", "virtio_net", "virtio_rng", "ext4", "crc32c_generic")
"""Modules that the initrd loads, and with them those that they depend on."""


def unpack_kernel(package: Path, root: Path, out: Path, name: str) -> str:
    """Put a kernel's modules into a root file system, kernel and initrd beside.

    Makes out/vmlinuz-NAME and out/initrd-NAME; returns the kernel's release.
    """
    unpacked = out / f"unpacked-{name}"
    unpacked.mkdir()
    subprocess.run(["dpkg-deb", "--extract", str(package), str(unpacked)], check=True)
    (modules,) = (unpacked / "lib/modules").iterdir()
    release = modules.name
    _prune(modules / "kernel")
    shutil.copy(unpacked / f"boot/vmlinuz-{release}", out / f"vmlinuz-{name}")
    target = root / "usr/lib/modules" / release
    shutil.copytree(modules, target, symlinks=True)
    subprocess.run(["chroot", str(root), "depmod", release], check=True)
    _make_initrd(target, out / f"initrd-{name}", out / f"initrd-root-{name}")
    shutil.rmtree(unpacked)
    return release


def _prune(kernel: Path) -> None:
    kept = [kernel / each for each in KEPT]
    dropped = [kernel / each for each in DROPPED]
    for module in kernel.rglob("*.ko*"):
        plain = module.with_name(module.name.removesuffix(".xz"))
        is_kept = any(each == plain or each in plain.parents for each in kept)
        if not is_kept or any(each in plain.parents for each in dropped):
            module.unlink()


def _make_initrd(modules: Path, initrd: Path, staging: Path) -> None:
    (staging / "bin").mkdir(parents=True)
    (staging / "modules").mkdir()
    shutil.copy(BUSYBOX, staging / "bin/busybox")
    shutil.copy(GUEST / "init", staging / "init")
    (staging / "init").chmod(0o755)
    order = []
    for module in _in_order(modules):
        name = module.name.removesuffix(".xz")
        raw = module.read_bytes()
        (staging / "modules" / name).write_bytes(
            lzma.decompress(raw) if name != module.name else raw
        )
        order.append(name)
    (staging / "modules/order").write_text("\n".join(order) + "\n")
    names = "\n".join(str(p.relative_to(staging)) for p in sorted(staging.rglob("*")))
    with initrd.open("wb") as output:
        subprocess.run(
            ["cpio", "--quiet", "-o", "-H", "newc", "-R", "0:0"],
            input=names.encode(),
            cwd=staging,
            stdout=output,
            check=True,
        )
    shutil.rmtree(staging)


def _in_order(modules: Path) -> list[Path]:
    """Return what ROOT_NEEDS is made of, each module after those that it depends on."""
    depends: dict[str, list[str]] = {}
    for line in (modules / "modules.dep").read_text().splitlines():
        path, _, rest = line.partition(":")
        depends[path] = rest.split()
    by_name = {Path(path).name.partition(".")[0].replace("-", "_"): path for path in depends}
    order: list[str] = []

    def add(path: str) -> None:
        for needed in depends[path]:
            add(needed)
        if path not in order:
            order.append(path)

    for name in ROOT_NEEDS:
        if name in by_name:  # or it is built into this kernel
            add(by_name[name])
    return [modules / path for path in order]
