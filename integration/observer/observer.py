"""An observer in a guest, as a test has it: started, asked for its counts, ended."""

from __future__ import annotations

import contextlib
import json
import socket
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from integration.lab.namespace import CommandError
from integration.lab.vm.host import GuestHost
from integration.lab.vm.lab import at_once

HERE = Path(__file__).parent
ROOT = "/run/observer"
"""Where the disk is mounted in a guest: what runs there sees the guest's kernel, not its files."""

SOCKET = "/run/observer.sock"
DISK_NAME = "observer"
UNIT = "lab-observer.service"
START_S = 900.0
"""Compiling takes 2 s of a real processor and 50 of an emulated one, which others may share."""

ANSWER_S = 60.0

RUN = f"""
mount -o ro /dev/disk/by-id/virtio-{DISK_NAME} {ROOT}
for each in dev proc run tmp; do mount --bind /$each {ROOT}/$each; done
mount --rbind /sys {ROOT}/sys
exec chroot {ROOT} python3 /run/observe.py /run/programs.c underlay0 {SOCKET}
"""
START = f"""
udevadm wait --timeout=60 /dev/disk/by-id/virtio-{DISK_NAME}
mkdir -p {ROOT}
systemctl reset-failed {UNIT} 2>/dev/null || true
systemd-run --quiet --unit={UNIT} --service-type=notify --property=TimeoutStartSec={START_S:g} \
  --property=Nice=19 unshare --mount sh -e /run/observe.sh
"""


@dataclass(frozen=True, slots=True)
class Tally:
    """Packets, and their bytes as the kernel counts them: without an Ethernet header received."""

    packets: int = 0
    bytes: int = 0

    def __sub__(self, before: Tally) -> Tally:
        return Tally(self.packets - before.packets, self.bytes - before.bytes)


@dataclass(frozen=True, slots=True)
class Wire:
    """What a packet on the underlay looks like. direction: "sent" or "received".

    protocol: IP's, or the next header. source, destination: ports of TCP and UDP over IPv4; of
    IPv6, the first 16 bits of the addresses.
    """

    direction: str
    ethertype: int
    protocol: int
    source: int
    destination: int


@dataclass(frozen=True, slots=True)
class Counts:
    """All that an observer has counted since it began.

    passed: by interface, and "sent" or "received". freed: by interface, the kernel's reason, and
    the function that did it.
    """

    passed: dict[tuple[str, str], Tally]
    freed: Counter[tuple[str, str, str]]
    wires: Counter[Wire]

    def sent(self, device: str) -> Tally:
        """What was handed to the interface, before segments are cut."""
        return self.passed.get((device, "sent"), Tally())

    def received(self, device: str) -> Tally:
        """What the stack was given, after GRO and before clsact."""
        return self.passed.get((device, "received"), Tally())

    def __sub__(self, before: Counts) -> Counts:
        passed = {
            key: tally - before.passed.get(key, Tally()) for key, tally in self.passed.items()
        }
        return Counts(passed, self.freed - before.freed, self.wires - before.wires)


class Observer:
    """An observer that runs in a guest. path: of the socket here that leads to it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> Counts:
        """Return all counts. AssertionError when it does not answer."""
        with socket.socket(socket.AF_UNIX) as caller:
            caller.settimeout(ANSWER_S)
            try:
                caller.connect(str(self._path))
                with caller.makefile("rb") as answer:
                    text = answer.read()
            except OSError as error:
                raise AssertionError(f"{self._path.name}: {error}") from error
        assert text, f"{self._path.name}: no answer"
        found = json.loads(text)
        return Counts(
            {(device, way): Tally(*counts) for device, way, *counts in found["passed"]},
            Counter({tuple(key): n for *key, n in found["freed"]}),
            Counter({Wire(*wire): n for *wire, n in found["wires"]}),
        )


@contextlib.contextmanager
def observing(hosts: Iterable[GuestHost], disk: Path) -> Iterator[dict[str, Observer]]:
    """Run an observer in each of these guests, for the block; by name of the host."""
    listed = list(hosts)
    with contextlib.ExitStack() as stack:
        observers = at_once(listed, lambda host: _start(stack, host, disk))
        yield {host.name: each for host, each in zip(listed, observers, strict=True)}


def _start(stack: contextlib.ExitStack, host: GuestHost, disk: Path) -> Observer:
    shell = host.namespace
    host.vm.plug_in(DISK_NAME, disk)
    for name in ("observe.py", "programs.c"):
        shell.write(f"/run/{name}", (HERE / name).read_bytes())
    shell.write("/run/observe.sh", RUN.encode())
    stack.callback(shell.run, "systemctl", "stop", UNIT, check=False)
    try:
        shell.script(START, timeout_s=START_S)
    except CommandError as error:
        said = shell.run("journalctl", "-q", "-o", "cat", "-u", UNIT).stdout
        raise RuntimeError(f"the observer of {host.name} does not start: {said}") from error
    local = shell.log_dir / f"observer-{host.name}.sock"
    shell.forward(local, SOCKET)
    return Observer(local)
