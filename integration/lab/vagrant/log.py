"""vagrant/log: runs every command of vagrant/README.md here, compares, and keeps what was said.

usage: vagrant/log [FILE]     docs/vagrant-log.txt unless given; written only if all went well
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from integration.lab.vagrant.__main__ import end, find_place, make_place
from integration.lab.vagrant.box import get_box
from integration.lab.vagrant.place import Place
from integration.lab.vagrant.wheel import put_wheel
from integration.lab.vm.image import PROJECT, get_image

README = PROJECT / "vagrant" / "README.md"
LOG = PROJECT / "docs" / "vagrant-log.txt"
STEP_TIMEOUT_S = 1800
NOISE = (
    re.compile(r"^==> \S+:  -- .*\n", re.MULTILINE),  # libvirt's settings, 30 lines a machine
    re.compile(r"^.*Progress: .*\n", re.MULTILINE),
    re.compile(r"\x1b\[[0-9;]*[A-Za-z]|\r"),
    re.compile(r"^(Pseudo-terminal will not|Connection to \S+ closed).*\n", re.MULTILINE),
)


class Unexpected(Exception):  # the page, or what it is about, is wrong
    """A command said something else than the page says."""


def read_steps(page: str) -> Iterator[tuple[str, str]]:
    """Yield (command, what the page says it prints) of a page's console blocks."""
    for block in re.findall(r"^```console\n(.*?)^```$", page, re.DOTALL | re.MULTILINE):
        for step in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, printed = step.partition("\n")
            yield command, printed


def fits(printed: str, expected: str) -> bool:
    """Whether a text is as expected, where a line `...` stands for any lines."""
    parts = re.split(r"^\.\.\.$", expected.strip(), flags=re.MULTILINE)
    pattern = ".*".join(re.escape(part.strip("\n")) for part in parts)
    return re.fullmatch(pattern, printed.strip(), re.DOTALL) is not None


def main() -> int:
    """Write the log; return the exit code."""
    words = sys.argv[1:]
    if len(words) > 1 or (words[:1] and words[0].startswith("-")):
        print(__doc__)
        return 0 if words[0] in ("-h", "--help") else 2
    target = Path(words[0]) if words else LOG
    partial = target.with_suffix(".partial")
    if find_place() is not None:
        print("error: there is a place already: vagrant/here end", file=sys.stderr)
        return 1
    try:
        with partial.open("w") as log:
            _Writer(log).run_all()
    except Unexpected as error:
        print(f"error: {error}\nwhat was said until then: {partial}", file=sys.stderr)
        return 1
    finally:
        end()
    partial.rename(target)
    return 0


class _Writer:
    """What is said goes to the log, and to standard output as it comes."""

    def __init__(self, log: object) -> None:
        self._log = log

    def say(self, text: str) -> None:
        print(text, file=self._log, flush=True)  # type: ignore[call-overload]
        print(text, flush=True)

    def run_all(self) -> None:
        """Run all steps of the page, in a place that is made for them."""
        began = time.monotonic()
        box, image = get_box(), get_image()
        place = make_place()
        wheel = put_wheel()
        environment = place.environment()
        self.say("The commands of vagrant/README.md, as vagrant/log ran them. No line was edited;")
        self.say("left out are libvirt's settings (lines with --) and progress bars.\n")
        self.say(f"machine       {_describe_machine()}")
        self.say(f"driver        {environment['NETAGENT_DRIVER']}")
        self.say(f"versions      {_describe_versions()}")
        self.say(f"image         {image.describe()['seconds']} s to build (once)")
        self.say(f"box           {box.stat().st_size / 1e6:.0f} MB, wheel {_kb(wheel)} kB")
        self.say(f"place         {time.monotonic() - began:.0f} s to make: libvirtd, the box added")
        up_began = time.monotonic()
        for number, (command, expected) in enumerate(read_steps(README.read_text())):
            self._run(place, command, expected)
            if number == 0:
                self._say_sizes(place)
        self.say(f"\nall of it: {time.monotonic() - up_began:.0f} s")

    def _run(self, place: Place, command: str, expected: str) -> None:
        self.say(f"\n$ {command}")
        began = time.monotonic()
        done = subprocess.run(
            place.command(["bash", "-c", command], {"VAGRANT_NO_COLOR": "1"}),
            cwd=PROJECT / "vagrant",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=STEP_TIMEOUT_S,
            check=False,
        )
        printed = _without_noise(done.stdout, place)
        code = f", exit {done.returncode}" if done.returncode else ""
        self.say(f"{printed.rstrip()}\n[{time.monotonic() - began:.1f} s{code}]")
        if not fits(printed, expected):
            raise Unexpected(f"{command}: not what the page says:\n{expected}")
        if done.returncode and not expected.startswith("error:"):
            raise Unexpected(f"{command}: exit {done.returncode}")

    def _say_sizes(self, place: Place) -> None:
        """Say what the machines take of this one."""
        for row in place.virsh("list", "--name").split():
            disk = place.directory / "libvirt/lib/images" / f"{row}.img"
            memory = re.search(r"rss (\d+)", place.virsh("dommemstat", row))
            resident = f"{int(memory[1]) >> 10} MiB" if memory else "?"
            self.say(f"{row:16} {resident} of memory, {disk.stat().st_blocks >> 11} MiB of disk")


def _without_noise(text: str, place: Place) -> str:
    for pattern in NOISE:
        text = pattern.sub("", text)
    return text.replace(str(place.directory), "PLACE").replace(str(PROJECT), "CHECKOUT")


def _describe_machine() -> str:
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    load = os.getloadavg()[0]
    return f"{os.cpu_count()} processors, {pages >> 30} GiB; load of other work {load:.1f}"


def _describe_versions() -> str:
    names = ("vagrant", "vagrant-libvirt", "libvirt-daemon", "qemu-system-x86")
    if not shutil.which("dpkg-query"):
        return "not known"
    query = ("dpkg-query", "-W", "-f=${Package} ${Version}  ", *names)
    return subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip()


def _kb(path: Path) -> int:
    return path.stat().st_size // 1000


if __name__ == "__main__":
    sys.exit(main())
