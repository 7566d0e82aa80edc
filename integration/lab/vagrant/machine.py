"""A virtual machine that Vagrant made: its cable and its reset button, through libvirt."""

from __future__ import annotations

from pathlib import Path

from integration.lab.backend import CannotDo
from integration.lab.vagrant.place import Place
from integration.lab.vm.qemu import Shape

PREFIX = "netagent-"
"""Of the names that libvirt knows machines by; the Vagrantfile has the same."""

UNDERLAY = "netagent-underlay"


class VagrantMachine:
    """Has of `VirtualMachine` what hosts need."""

    stage = ""

    def __init__(self, place: Place, shape: Shape) -> None:
        self.shape = shape
        self._place = place
        self._domain = f"{PREFIX}{shape.name}"

    @property
    def underlay_port(self) -> str:
        """The fabric's end of the cable to the other hosts."""
        rows = [line.split() for line in self._place.virsh("domiflist", self._domain).splitlines()]
        (port,) = [row[0] for row in rows if row[2:3] == [UNDERLAY]]
        return port

    @property
    def pid(self) -> int:
        """libvirt's processes have numbers of their own."""
        raise CannotDo("the process of a machine: it is libvirt's")

    def reset(self) -> None:
        """Press the reset button: it boots anew, without shutting down."""
        self._place.virsh("reset", self._domain)

    @property
    def trunk_port(self) -> str:
        """The cable to machines and management is libvirt's."""
        raise CannotDo("listening at a machine's management network: it is libvirt's")

    def plug_in(self, name: str, disk: Path) -> None:
        """libvirt knows the machine's disks."""
        raise CannotDo("plugging a disk into a machine: Vagrant and libvirt have it")
