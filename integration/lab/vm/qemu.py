"""One virtual machine: a QEMU process inside the fabric's namespace.

It boots a kernel directly, with the image's root file system under an overlay of its own. Whether
KVM works is tried once, with a boot that ends in the initrd: /dev/kvm alone proves nothing.
"""

from __future__ import annotations

import functools
import hashlib
import json
import shutil
import socket
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from integration.lab.namespace import Namespace
from integration.lab.vm.image import Image
from integration.lab.vm.kernels import DEFAULT
from integration.lab.wait import wait_until

MEMORY_MIB = 512
MONITOR_S = 240
SNAPSHOT = "kept"
SNAPSHOTS_MAX = 24
"""About 150 MB each; a lab of three hosts has two of four machines."""

TRIAL_S = 20
TRIAL_SAYS = "lab: this accelerator works"
# qemu64 lacks the wide registers whose emulation makes WireGuard three times as slow.
EMULATED = ("-accel", "tcg,thread=multi,tb-size=128", "-cpu", "qemu64")
ACCELERATED = ("-accel", "kvm", "-cpu", "host")
BASIC = ("-machine", "pc", "-smp", "1", "-nodefaults", "-no-user-config", "-display", "none")
KERNEL_OPTIONS = (
    *("root=/dev/vda", "rw", "console=ttyS0", "net.ifnames=0", "panic=-1", "mitigations=off"),
    *("random.trust_cpu=on", "loglevel=4", "systemd.show_status=true", "audit=0", "nokaslr"),
)


@dataclass(frozen=True, slots=True)
class Shape:
    """What a machine is like. underlay, management: addresses, the first with its length."""

    name: str
    number: int
    underlay: str
    management: str
    mtu_bytes: int
    kernel: str = DEFAULT


class VirtualMachine:
    """A machine. It ends with the fabric at the latest. stage: what it was restored from."""

    def __init__(self, fabric: Namespace, image: Image, shape: Shape) -> None:
        self.shape = shape
        self._fabric = fabric
        self._image = image
        self._process: subprocess.Popen[str] | None = None
        self._monitor = fabric.log_dir / f"{shape.name}.qmp"
        self.stage = ""
        self._overlay = fabric.log_dir / f"{shape.name}.qcow2"
        self._plugged: set[str] = set()

    @property
    def console(self) -> Path:
        """All that kernel and systemd have written to the console."""
        return self._fabric.log_dir / f"console-{self.shape.name}.log"

    @property
    def underlay_port(self) -> str:
        """The fabric's end of the cable to the other hosts."""
        return port_names(self.shape.name)[0]

    @property
    def trunk_port(self) -> str:
        """The fabric's end of the cable to machines and management."""
        return port_names(self.shape.name)[1]

    @property
    def pid(self) -> int:
        """The process, as seen from outside."""
        assert self._process is not None
        return self._process.pid

    def _snapshot(self, stage: str) -> Path:
        """Where disk and memory of a machine of this shape are kept, once it has come so far."""
        options = (*BASIC, *accelerator(self._image), *KERNEL_OPTIONS, str(MEMORY_MIB))
        digest = hashlib.sha256(repr((self.shape, options, stage)).encode()).hexdigest()[:16]
        return self._image.directory / "snapshots" / f"{digest}.qcow2"

    def start(self, stages: Sequence[str] = ()) -> None:
        """Switch it on, from the first of these stages that was kept; returns at once."""
        self.stage = next((stage for stage in stages if self._restore(stage)), "")
        if not self.stage:
            create = ("qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2")
            subprocess.run([*create, "-b", self._image.disk, self._overlay], check=True)
        shape = self.shape
        identity = (
            *(f"lab.name={shape.name}", f"lab.underlay={shape.underlay}"),
            *(f"lab.management={shape.management}", f"lab.mtu={shape.mtu_bytes}"),
        )
        self._process = self._fabric.start(
            *("qemu-system-x86_64", "-name", shape.name, *BASIC, *accelerator(self._image)),
            *("-m", str(MEMORY_MIB), "-device", "virtio-rng-pci"),
            *("-kernel", str(self._image.kernel(shape.kernel))),
            *("-initrd", str(self._image.initrd(shape.kernel))),
            *("-append", " ".join((*KERNEL_OPTIONS, *identity))),
            *("-chardev", f"file,id=console,path={self.console},append=on"),
            *("-serial", "chardev:console"),
            *("-qmp", f"unix:{self._monitor},server=on,wait=off"),
            *("-drive", f"file={self._overlay},if=none,id=root,cache=unsafe,discard=unmap"),
            *("-device", "virtio-blk-pci,drive=root"),
            *_card("underlay", self.underlay_port, f"02:4c:00:00:00:{shape.number:02x}"),
            *_card("trunk", self.trunk_port, f"02:4c:00:00:01:{shape.number:02x}"),
            *(("-loadvm", SNAPSHOT) if self.stage else ()),
            log=f"qemu-{shape.name}.log",
        )

    def _restore(self, stage: str) -> bool:
        """Begin with what was kept at a stage; False when there is nothing."""
        snapshot = self._snapshot(stage)
        try:
            shutil.copy(snapshot, self._overlay)
            snapshot.touch()
        except FileNotFoundError:  # never kept, or another lab has just made room
            return False
        return True

    def reset(self) -> None:
        """Press the reset button: it boots anew, without shutting down."""
        self._tell({"execute": "system_reset"})

    def plug_in(self, name: str, disk: Path) -> None:
        """Plug a disk into the running machine, which can only read it; it stays there."""
        if name in self._plugged:
            return
        file = {"driver": "file", "filename": str(disk)}
        node = {"driver": "qcow2", "node-name": name, "read-only": True, "file": file}
        device = {"driver": "virtio-blk-pci", "drive": name, "id": name, "serial": name}
        self._tell({"execute": "blockdev-add", "arguments": node})
        self._tell({"execute": "device_add", "arguments": device})
        self._plugged.add(name)

    def keep(self, stage: str) -> None:
        """Keep it as it is now, for machines of the same shape to start from; it goes on."""
        snapshot = self._snapshot(stage)
        snapshot.parent.mkdir(exist_ok=True)
        _make_room(snapshot.parent)
        partial = snapshot.with_suffix(f".{self._fabric.pid}")
        save = {"command-line": f"savevm {SNAPSHOT}"}
        self._tell({"execute": "stop"})
        try:
            self._tell({"execute": "human-monitor-command", "arguments": save})
            shutil.copy(self._overlay, partial)
            partial.rename(snapshot)
        finally:
            partial.unlink(missing_ok=True)
            self._tell({"execute": "cont"})
        self.stage = stage

    def _tell(self, command: dict[str, Any]) -> None:
        """Give the monitor a command and wait until it is done."""
        with socket.socket(socket.AF_UNIX) as monitor:
            monitor.settimeout(MONITOR_S)
            wait_until("the monitor is there", self._monitor.exists)
            monitor.connect(str(self._monitor))
            with monitor.makefile("rw") as lines:
                for each in ({"execute": "qmp_capabilities"}, command):
                    lines.write(json.dumps(each) + "\n")
                    lines.flush()
                    answer: dict[str, Any] = {}
                    while not answer.keys() & {"return", "error"}:
                        answer = json.loads(lines.readline())
                    # What the human's monitor refuses, it returns as text.
                    if answer.get("return", "error"):
                        raise AssertionError(f"{self.shape.name}: {each}: {answer}")


def _make_room(directory: Path) -> None:
    """Leave the snapshots that were used last."""
    oldest_first = sorted(directory.glob("*.qcow2"), key=lambda path: path.stat().st_mtime)
    for snapshot in oldest_first[: -SNAPSHOTS_MAX + 1]:
        snapshot.unlink(missing_ok=True)


def port_names(name: str) -> tuple[str, str]:
    """Return the names of a guest's two ports in the fabric: to the underlay, and its trunk."""
    letters = name.removeprefix("host-")
    return (f"port-{letters}", f"trunk-{letters}") if letters != "control" else ("control", "trunk")


def _card(network: str, port: str, mac: str) -> Sequence[str]:
    return (
        *("-netdev", f"tap,id={network},ifname={port},script=no,downscript=no"),
        *("-device", f"virtio-net-pci,netdev={network},mac={mac},romfile="),
    )


@functools.cache
def is_accelerated(image: Image) -> bool:
    """Whether KVM runs our kernel on this machine: tried, with a time limit."""
    if not Path("/dev/kvm").exists():
        return False
    command = [
        *(
            "qemu-system-x86_64",
            *BASIC,
            *ACCELERATED,
            "-m",
            "256",
            "-serial",
            "stdio",
            "-no-reboot",
        ),
        *("-kernel", str(image.kernel(DEFAULT)), "-initrd", str(image.initrd(DEFAULT))),
        *("-append", "console=ttyS0 panic=-1 lab.trial"),
    ]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TRIAL_S,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return TRIAL_SAYS in done.stdout


def accelerator(image: Image) -> tuple[str, ...]:
    """Return QEMU's options for the fastest way to run that works here."""
    return ACCELERATED if is_accelerated(image) else EMULATED
