"""Where Vagrant and libvirt run without the machine's own: a namespace that has all of them.

libvirtd, dnsmasq, QEMU and their bridges are in the network, mount and process namespaces of one
holder, with settings, pools and boxes below one directory. No libvirt of this machine is touched,
nothing of it is needed (no systemd, no cgroups), and all ends with the holder.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from integration.lab.namespace import Namespace
from integration.lab.vagrant.box import NAME, get_box
from integration.lab.vm.image import PROJECT, get_image
from integration.lab.vm.qemu import is_accelerated
from integration.lab.wait import wait_until

TOOLS = ("vagrant", "libvirtd", "virsh", "dnsmasq")
REAPER = Path(__file__).parent / "reaper.py"
CONNECT_TIMEOUT_S = 60
BOX_TIMEOUT_S = 600

MOUNTED = {
    "etc": "/etc/libvirt",
    "lib": "/var/lib/libvirt",
    "cache": "/var/cache/libvirt",
    "log": "/var/log/libvirt",
}
"""Directories of libvirt's own, below the place's, and what they stand for inside."""

QEMU_SETTINGS = """\
user = "root"
group = "root"
security_driver = "none"
stdio_handler = "file"
cgroup_controllers = []
namespaces = []
dynamic_ownership = 0
remember_owner = 0
"""

DAEMON_SETTINGS = """\
auth_unix_rw = "none"
"""


class Place:
    """A holder in which Vagrant works. fabric: it, made with `mounts_of` its directory."""

    def __init__(self, fabric: Namespace) -> None:
        self.fabric = fabric
        self.directory = fabric.log_dir

    def start(self) -> None:
        """Start libvirtd and make the local box known to Vagrant.

        Raises RuntimeError when the box cannot be made, CommandError when a command fails.
        """
        self.fabric.start(sys.executable, str(REAPER), "libvirtd", log="libvirtd.log")
        # Its log says what is wrong; asking is all that tells when it is ready.
        wait_until("libvirtd answers", self._answers, CONNECT_TIMEOUT_S)
        box = ("box", "add", "--force", "--name", NAME, "--provider", "libvirt", str(get_box()))
        self.vagrant(*box, timeout_s=BOX_TIMEOUT_S)

    def _answers(self) -> bool:
        return self.fabric.run("virsh", "-c", "qemu:///system", "uri", check=False).returncode == 0

    def command(self, words: Sequence[str], variables: Mapping[str, str]) -> list[str]:
        """Return the command line that runs `words` inside, where Vagrant means this place."""
        wanted = {**self.environment(), **variables}
        return self.fabric.command(["env", *(f"{k}={v}" for k, v in wanted.items()), *words])

    def vagrant(
        self, *words: str, timeout_s: float, variables: Mapping[str, str] | None = None
    ) -> str:
        """Run Vagrant to its end and return what it says; CommandError when it fails."""
        command = self.command(["vagrant", *words], variables or {})
        return self.fabric.run_outside(command, timeout_s=timeout_s).stdout

    def virsh(self, *words: str) -> str:
        """Run virsh and return what it says."""
        return self.fabric.run("virsh", "-q", "-c", "qemu:///system", *words).stdout

    def environment(self) -> dict[str, str]:
        """Return Vagrant's variables, and those of our Vagrantfile."""
        return {
            "VAGRANT_HOME": str(self.directory / "vagrant-home"),
            "VAGRANT_DOTFILE_PATH": str(self.directory / "vagrant-machines"),
            "VAGRANT_CWD": str(PROJECT / "vagrant"),
            "VAGRANT_DEFAULT_PROVIDER": "libvirt",
            "VAGRANT_CHECKPOINT_DISABLE": "1",
            "VAGRANT_BOX_UPDATE_CHECK_DISABLE": "1",
            "NETAGENT_BOX": "local",
            "NETAGENT_DRIVER": "kvm" if is_accelerated(get_image()) else "qemu",
            "NETAGENT_CONSOLES": str(self.directory),
        }


def mounts_of(directory: Path) -> str:
    """Return the shell commands that give a holder libvirt's directories, and make these.

    A process file system of its own as well: libvirt looks for its processes by their numbers.
    """
    libvirt = directory / "libvirt"
    for each in MOUNTED:
        (libvirt / each).mkdir(parents=True)
    (libvirt / "etc/qemu.conf").write_text(QEMU_SETTINGS)
    (libvirt / "etc/libvirtd.conf").write_text(DAEMON_SETTINGS)
    binds = [f"mount --bind '{libvirt / ours}' {theirs}" for ours, theirs in MOUNTED.items()]
    return "\n".join(
        (
            "mount -t proc proc /proc",
            "mount -t tmpfs tmpfs /run",
            "mkdir -p /run/libvirt /run/lock",
            "mount -t sysfs sysfs /sys",
            *binds,
        )
    )
