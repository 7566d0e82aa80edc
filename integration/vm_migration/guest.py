"""A QEMU guest for labs: a Debian kernel, and an initramfs of busybox that this module builds.

The guest answers pings, echoes on TCP port 7 and swallows what comes on port 9.
"""

from __future__ import annotations

import gzip
import shutil
import socket
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from integration.lab.namespace import Namespace
from integration.lab.stream import end
from integration.lab.wait import wait_until

ECHO_PORT, SINK_PORT = 7, 9
TAP = "vm0"
MEMORY = "131080k"
"""Not a multiple of 256 KiB: for such, QEMU before 9.0 forgets writes of an emulated processor to
memory that it has copied already, and the guest dies of it soon after a migration under load."""

CACHE = Path("/var/cache/netagent-vm-migration")
KERNEL_PACKAGE = "linux-image-cloud-amd64"
MODULES = (
    "drivers/virtio/virtio_ring.ko",
    "drivers/virtio/virtio.ko",
    "drivers/virtio/virtio_pci_legacy_dev.ko",
    "drivers/virtio/virtio_pci_modern_dev.ko",
    "drivers/virtio/virtio_pci.ko",
    "net/core/failover.ko",
    "drivers/net/net_failover.ko",
    "drivers/net/virtio_net.ko",
)
"""In the order in which they are loaded."""

APPLETS = ("sh", "mount", "insmod", "ip", "nc", "cat", "sleep", "echo", "sed")

INIT = """#!/bin/sh
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
for module in {modules}; do insmod /$module; done
address=$(sed 's/.*guest_address=\\([^ ]*\\).*/\\1/' /proc/cmdline)
ip link set lo up
echo 0 >/proc/sys/net/ipv6/conf/eth0/accept_dad
ip link set eth0 mtu 1408 up
ip -6 addr add $address/128 dev eth0
ip -6 route add default via fe80::1 dev eth0
nc -ll -p {echo} -e cat &
nc -ll -p {sink} -e /sink &
echo guest is up
while true; do sleep 1000; done
"""


@dataclass(frozen=True, slots=True)
class Image:
    """What a guest boots."""

    kernel: Path
    initramfs: Path


def build_image() -> Image:
    """Return a kernel and an initramfs, fetched and built when they are not there yet."""
    image = Image(CACHE / "vmlinuz", CACHE / "initramfs.gz")
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as name:
        work = Path(name)
        modules = CACHE / "modules"
        if not image.kernel.exists():
            _fetch_kernel(work, image.kernel, modules)
        image.initramfs.write_bytes(gzip.compress(_make_initramfs(work / "root", modules), 1))
    return image


def _fetch_kernel(work: Path, kernel: Path, modules: Path) -> None:
    depends = _output("apt-cache", "depends", "--important", KERNEL_PACKAGE)
    package = next(word for word in depends.split() if word.startswith("linux-image-6"))
    subprocess.run(["apt-get", "download", "-q", package], cwd=work, check=True)
    (archive,) = work.glob("*.deb")
    subprocess.run(["dpkg-deb", "-x", archive, work / "package"], check=True)
    modules.mkdir(exist_ok=True)
    (tree,) = (work / "package/lib/modules").glob("*")
    for module in MODULES:
        shutil.copy(tree / "kernel" / module, modules)
    (found,) = (work / "package/boot").glob("vmlinuz-*")
    shutil.move(found, kernel)


def _make_initramfs(root: Path, modules: Path) -> bytes:
    for directory in ("bin", "proc", "sys", "dev"):
        (root / directory).mkdir(parents=True)
    shutil.copy(shutil.which("busybox") or "/bin/busybox", root / "bin/busybox")
    for applet in APPLETS:
        (root / "bin" / applet).symlink_to("busybox")
    names = [Path(module).name for module in MODULES]
    for module in names:
        shutil.copy(modules / module, root)
    init = INIT.format(modules=" ".join(names), echo=ECHO_PORT, sink=SINK_PORT)
    for path, text in (("init", init), ("sink", "#!/bin/sh\nexec cat >/dev/null\n")):
        (root / path).write_text(text)
        (root / path).chmod(0o755)
    names_in = "\n".join(str(path.relative_to(root)) for path in sorted(root.rglob("*")))
    packed = subprocess.run(
        ["cpio", "-o", "-H", "newc", "--quiet"],
        cwd=root,
        input=names_in.encode(),
        stdout=subprocess.PIPE,
        check=True,
    )
    return packed.stdout


def _output(*command: str) -> str:
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


class Guest:
    """A guest and the QEMUs that run it, one on each host that it is on or moves to.

    directory: for sockets and logs; the same path on every host.
    """

    def __init__(self, image: Image, name: str, address: str, mac: str, directory: Path) -> None:
        self._image = image
        self._name = name
        self._address = address
        self._mac = mac
        self.directory = directory
        self._running: dict[str, object] = {}

    def qmp(self, place: str) -> Path:
        """Return the QMP socket of the QEMU at a place."""
        return self.directory / f"{self._name}-{place}.qmp"

    @property
    def log(self) -> Path:
        """What the guest writes on its console."""
        return self.directory / f"{self._name}.console"

    def start(self, place: str, namespace: Namespace, *, is_awaited: bool) -> None:
        """Start a QEMU on a tap that is there. is_awaited: one that the guest will migrate to."""
        socket_path = self.qmp(place)
        socket_path.unlink(missing_ok=True)
        process = namespace.start(
            "qemu-system-x86_64",
            *("-nodefaults", "-no-user-config", "-machine", "pc", "-display", "none"),
            *("-accel", "tcg,thread=single,tb-size=64", "-cpu", "qemu64", "-m", MEMORY),
            *("-kernel", str(self._image.kernel), "-initrd", str(self._image.initramfs)),
            *("-append", f"console=ttyS0 quiet panic=1 guest_address={self._address}"),
            *("-netdev", f"tap,id=card,ifname={TAP},script=no,downscript=no"),
            *("-device", f"virtio-net-pci,netdev=card,mac={self._mac},romfile="),
            *("-chardev", f"file,id=console,path={self.log},append=on"),
            *("-serial", "chardev:console"),
            *("-qmp", f"unix:{socket_path},server=on,wait=off"),
            *(("-incoming", "defer") if is_awaited else ()),
            log=f"qemu-{place}.log",
        )
        self._running[place] = process
        wait_until(f"QEMU at {place} listens", lambda: _listens(socket_path), timeout_s=30)
        if not is_awaited:
            wait_until("the guest is up", self._is_up, timeout_s=120)

    def stop(self, place: str, namespace: Namespace) -> None:
        """End the QEMU at a place and take its tap away."""
        process = self._running.pop(place)
        end(process)  # type: ignore[arg-type]
        namespace.run("ip", "link", "del", TAP, check=False)

    def _is_up(self) -> bool:
        return self.log.exists() and "guest is up" in self.log.read_text(errors="replace")


def _listens(path: Path) -> bool:
    """Whether somebody accepts connections there: a socket is in its place before."""
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


def missing_tools() -> list[str]:
    """Return what this machine lacks for guests."""
    tools = ("qemu-system-x86_64", "busybox", "cpio", "dpkg-deb", "apt-get")
    return [tool for tool in tools if shutil.which(tool) is None]


def environment(directory: Path, name: str, control: Path) -> dict[str, str]:
    """Return what the shipped hook needs to know of guests here."""
    return {
        "NETAGENT_CONTROL": f"unix://{control}",
        "NETAGENT_QMP": f"{directory}/{name}-{{host}}.qmp",
        "NETAGENT_MIGRATION_URI": f"unix:{directory}/{name}.migration",
    }
