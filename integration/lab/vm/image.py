"""The image of the guests: Debian packages, netagent's dependencies, kernels; made once and kept.

Kept in a directory named by the digest of what it is made from: the lists in this package, the
guest's files and the project's dependencies. What Debian has published meanwhile is not part of
it: `script/lab image --rebuild`. Several makers at once wait for the first.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from integration.lab.vm.kernels import GUEST, KEPT, PACKAGES, ROOT_NEEDS, unpack_kernel

PROJECT = Path(__file__).resolve().parents[3]
CACHE = Path(os.environ.get("NETAGENT_VM_CACHE", "/var/cache/netagent-vm"))
SUITE = "bookworm"
VENV = "/opt/netagent"
"""Where netagent is installed in a guest."""

GUEST_PACKAGES = (
    *("systemd", "systemd-sysv", "udev", "dbus", "kmod", "openssh-server", "procps"),
    *("python3", "python3-venv", "libbpf1", "wireguard-tools"),  # what netagent needs
    *("iproute2", "iputils-ping", "bpftool", "ethtool", "iperf3", "tcpdump"),  # what tests need
    "sudo",  # what Vagrant needs
)
GUEST_FILES = ("init", "lab-identity", "lab-identity.service")
HOST_TOOLS = ("mmdebstrap", "mke2fs", "qemu-img", "qemu-system-x86_64", "cpio", "ssh")
MASKED = (
    *("apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "fstrim.timer"),
    *("e2scrub_all.timer", "e2scrub_reap.service", "systemd-timesyncd.service"),
    *("getty@tty1.service", "serial-getty@ttyS0.service", "systemd-update-utmp.service"),
    *("systemd-update-utmp-runlevel.service", "console-getty.service", "getty.target"),
    *("systemd-networkd-wait-online.service", "systemd-pstore.service", "systemd-binfmt.service"),
)
DISK_BYTES = 1600 << 20
BUILD_TIMEOUT_S = 1200
UNUSED_S = 7 * 86_400
SSHD = """\
HostKey /etc/ssh/ssh_host_ed25519_key
HostKey /etc/ssh/ssh_host_ecdsa_key
PermitRootLogin prohibit-password
PasswordAuthentication no
UsePAM no
UseDNS no
MaxSessions 100
MaxStartups 100
"""


@dataclass(frozen=True, slots=True)
class Image:
    """A finished image."""

    directory: Path

    @property
    def disk(self) -> Path:
        """The root file system, qcow2; never written to: every guest has an overlay."""
        return self.directory / "root.qcow2"

    @property
    def key(self) -> Path:
        """The private key that opens every guest."""
        return self.directory / "id_ed25519"

    def kernel(self, name: str) -> Path:
        """Return a kernel; name: a key of PACKAGES."""
        return self.directory / f"vmlinuz-{name}"

    def initrd(self, name: str) -> Path:
        """Return the initrd that goes with a kernel."""
        return self.directory / f"initrd-{name}"

    def describe(self) -> dict[str, object]:
        """Return what it is: kernels by name, seconds it took, bytes."""
        described: dict[str, object] = json.loads((self.directory / "image.json").read_text())
        return described


def get_image(*, rebuild: bool = False) -> Image:
    """Return the image, made now if there is none of this content.

    Raises RuntimeError when a tool is missing or a step fails; the log is build.log beside it.
    """
    directory = CACHE / digest_of_inputs()
    CACHE.mkdir(parents=True, exist_ok=True)
    with locked(CACHE / "lock"):
        if rebuild or not (directory / "image.json").exists():
            _build(directory)
            _remove_unused(directory)
        (directory / "image.json").touch()
    return Image(directory)


def _remove_unused(used: Path) -> None:
    """Remove images that nobody has used for a week, and builds that were broken off."""
    for partial in CACHE.glob("*.partial"):
        shutil.rmtree(partial, ignore_errors=True)
    for described in CACHE.glob("*/image.json"):
        is_old = time.time() - described.stat().st_mtime > UNUSED_S
        if is_old and described.parent != used:
            shutil.rmtree(described.parent)


def digest_of_inputs() -> str:
    """Return what names an image: 16 hexadecimal digits."""
    inputs = [
        *(repr(each) for each in (GUEST_PACKAGES, MASKED, SSHD, SUITE, DISK_BYTES, VENV)),
        *(repr(each) for each in (KEPT, PACKAGES, ROOT_NEEDS, sorted(_dependencies()))),
        *((GUEST / name).read_text() for name in GUEST_FILES),
    ]
    return hashlib.sha256("\0".join(inputs).encode()).hexdigest()[:16]


def _dependencies() -> list[str]:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    return list(project["dependencies"])


def _build(directory: Path) -> None:
    missing = [tool for tool in HOST_TOOLS if not shutil.which(tool)]
    if missing:
        raise RuntimeError(f"the image cannot be built without {', '.join(missing)}")
    began = time.monotonic()
    partial = directory.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    print(f"building the guests' image in {directory}, once", file=sys.stderr, flush=True)
    try:
        with (CACHE / "build.log").open("w") as log:
            build = _Build(partial, log.fileno())
            kernels = build.run()
    except (subprocess.SubprocessError, RuntimeError, OSError) as error:
        tail = "\n".join((CACHE / "build.log").read_text(errors="replace").splitlines()[-20:])
        raise RuntimeError(f"the image could not be built: {error}\n{tail}") from error
    described = {
        "kernels": kernels,
        "seconds": round(time.monotonic() - began, 1),
        "bytes": (partial / "root.qcow2").stat().st_size,
    }
    (partial / "image.json").write_text(json.dumps(described, indent=2))
    shutil.rmtree(directory, ignore_errors=True)
    partial.rename(directory)
    print(f"built: {json.dumps(described)}", file=sys.stderr, flush=True)


class _Build:
    """One build. log: file descriptor for what the tools say."""

    def __init__(self, directory: Path, log: int) -> None:
        self._directory = directory
        self._root = directory / "root"
        self._log = log

    def run(self) -> dict[str, str]:
        """Make everything; return the releases of the kernels, by name."""
        self._bootstrap()
        releases = {
            name: unpack_kernel(self._package(name), self._root, self._directory, name)
            for name in PACKAGES
        }
        shutil.rmtree(self._directory / "debs")
        self._install_dependencies()
        self._configure()
        self._make_disk()
        shutil.rmtree(self._root)
        return releases

    def _do(self, *command: str | Path, stdin: str | None = None) -> None:
        subprocess.run(
            [str(word) for word in command],
            input=stdin,
            text=True,
            stdout=self._log,
            stderr=self._log,
            check=True,
            timeout=BUILD_TIMEOUT_S,
        )

    def _bootstrap(self) -> None:
        """Make a root file system of packages, and fetch the newest kernel of each kind."""
        (self._directory / "debs").mkdir()
        newest = " ".join(
            f"$(apt-cache search --names-only '{pattern}' | cut -d' ' -f1 | sort -V | tail -n1)"
            for pattern in PACKAGES.values()
        )
        mirror, security = find_mirrors()
        (self._directory / "fetch").write_text(f"set -e; cd /tmp/debs; apt-get download {newest}\n")
        self._do(
            *("mmdebstrap", "--variant=minbase", "--mode=root", "--quiet"),
            *("--aptopt=APT::Install-Recommends false", "--aptopt=Acquire::Languages none"),
            *(f"--dpkgopt=path-exclude=/usr/share/{each}/*" for each in ("man", "doc", "locale")),
            f"--include={','.join(GUEST_PACKAGES)}",
            '--customize-hook=mkdir "$1/tmp/debs"',
            f'--customize-hook=chroot "$1" sh -c "$(cat {self._directory}/fetch)"',
            f"--customize-hook=copy-out /tmp/debs {self._directory}",
            '--customize-hook=rm -r "$1/tmp/debs"',
            *(SUITE, self._root),
            *(f"deb {mirror} {suite} main" for suite in (SUITE, f"{SUITE}-updates")),
            *(f"deb {mirror} {SUITE}-backports main", f"deb {security} {SUITE}-security main"),
        )

    def _package(self, name: str) -> Path:
        found = list((self._directory / "debs").glob(f"linux-image-{name}.*.deb"))
        if len(found) != 1:
            raise RuntimeError(f"Debian's mirror has {len(found)} kernels {name}, not one")
        return found[0]

    def _install_dependencies(self) -> None:
        """Make the environment that netagent's wheel goes into, from wheels fetched here."""
        wheelhouse = self._directory / "wheelhouse"
        pip = (sys.executable, "-m", "pip", "--quiet")
        self._do(*pip, "download", "--only-binary=:all:", "-d", wheelhouse, *_dependencies())
        inside = self._root / "tmp/wheelhouse"
        shutil.copytree(wheelhouse, inside)
        self._do("chroot", self._root, "python3", "-m", "venv", VENV)
        self._do(
            *("chroot", self._root, f"{VENV}/bin/pip", "install", "--quiet", "--no-index"),
            *("--disable-pip-version-check", "--find-links=/tmp/wheelhouse", *_dependencies()),
        )
        shutil.rmtree(inside)
        self._do("chroot", self._root, "ln", "-s", f"{VENV}/bin/netagent", "/usr/local/bin/")

    def _configure(self) -> None:
        root, directory = self._root, self._directory
        self._make_key("ed25519", directory / "id_ed25519")
        (root / "root/.ssh").mkdir(mode=0o700, exist_ok=True)
        shutil.copy(directory / "id_ed25519.pub", root / "root/.ssh/authorized_keys")
        (root / "etc/ssh/sshd_config").write_text(SSHD + "Subsystem sftp internal-sftp\n")
        for kind in ("ed25519", "ecdsa", "rsa"):
            key = root / f"etc/ssh/ssh_host_{kind}_key"
            key.unlink(missing_ok=True)
            key.with_suffix(".pub").unlink(missing_ok=True)
        for kind in ("ed25519", "ecdsa"):
            self._make_key(kind, root / f"etc/ssh/ssh_host_{kind}_key")
        identity = root / "usr/local/sbin/lab-identity"
        shutil.copy(GUEST / "lab-identity", identity)
        identity.chmod(0o755)
        shutil.copy(GUEST / "lab-identity.service", root / "etc/systemd/system/")
        for arguments in (
            ("enable", "lab-identity.service", "ssh.service"),
            ("mask", *MASKED),
            ("set-default", "multi-user.target"),
        ):
            self._do("chroot", root, "systemctl", "--quiet", *arguments)
        (root / "etc/fstab").write_text("")
        (root / "var/log/journal").mkdir(exist_ok=True)
        (root / "etc/machine-id").write_text("")
        shutil.rmtree(root / "var/lib/apt/lists", ignore_errors=True)

    def _make_key(self, kind: str, path: Path) -> None:
        self._do("ssh-keygen", "-q", "-t", kind, "-N", "", "-C", "lab", "-f", path)

    def _make_disk(self) -> None:
        raw = self._directory / "root.raw"
        with raw.open("wb") as file:
            file.truncate(DISK_BYTES)
        options = ("-E", "lazy_itable_init=1,lazy_journal_init=1", "-O", "^metadata_csum")
        self._do("mke2fs", "-q", "-t", "ext4", *options, "-d", self._root, raw)
        self._do("qemu-img", "convert", "-O", "qcow2", raw, self._directory / "root.qcow2")
        raw.unlink()


def find_mirrors() -> tuple[str, str]:
    """Return (Debian's archive, its security archive) as this machine's apt has them."""
    default = ("http://deb.debian.org/debian", "http://deb.debian.org/debian-security")
    listed = _output(["apt-get", "indextargets", "--format", "$(REPO_URI) $(CODENAME)"])
    found = {
        codename: uri.rstrip("/") for uri, _, codename in (line.partition(" ") for line in listed)
    }
    return found.get(SUITE, default[0]), found.get(f"{SUITE}-security", default[1])


def _output(command: Sequence[str]) -> list[str]:
    try:
        return subprocess.run(
            command, capture_output=True, text=True, check=True
        ).stdout.splitlines()
    except (OSError, subprocess.CalledProcessError):
        return []


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Be the only one on this machine for the block."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
