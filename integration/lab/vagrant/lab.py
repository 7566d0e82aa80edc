"""A lab whose control and hosts come up by `vagrant up` of the Vagrantfile that people use.

From then on it is a lab of virtual machines: ssh, units, and a cable to each customer's machine,
through the management network, where the fabric has the first address.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from typing import Any

from integration.lab.backend import CannotDo
from integration.lab.fabric import CONTROL_NUMBER, FIRST_HOST_NUMBER
from integration.lab.kept import remove_remains
from integration.lab.lab import CONTROL_PORT, host_name
from integration.lab.namespace import CommandError
from integration.lab.vagrant.machine import VagrantMachine
from integration.lab.vagrant.place import Place, mounts_of
from integration.lab.vagrant.wheel import put_wheel
from integration.lab.vm.daemon import GuestDaemon
from integration.lab.vm.host import BOOT_TIMEOUT_S, GuestHost
from integration.lab.vm.image import get_image
from integration.lab.vm.kernels import DEFAULT
from integration.lab.vm.lab import VmLab, adopt_pace, at_once
from integration.lab.vm.qemu import Shape
from integration.lab.vm.shell import GuestShell, write_ssh_config

HOSTS_MAX = 9
UP_TIMEOUT_S = 3000
SSH_CONFIG_TIMEOUT_S = 120
MTU_BYTES = 1500
UNDERLAY = ipaddress.IPv4Network("192.168.56.0/24")
"""As the Vagrantfile has it."""

TRUNK = """\
[Unit]
Description=The lab's cables to customers' machines, as they were before this boot
After=systemd-networkd.service

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/local/sbin/lab-trunk

[Install]
WantedBy=multi-user.target
"""

TRUNK_SCRIPT = """\
#!/bin/sh
# Calls the interface to Vagrant's machine as lab-cable does, and has the cables made again.
set -eu
[ -e /sys/class/net/eth0 ]
ip link show trunk0 >/dev/null 2>&1 || ip link property add dev eth0 altname trunk0
until ip -4 addr show dev eth0 | grep -q inet; do sleep 0.2; done
exec lab-cable
"""


class VagrantLab(VmLab):
    """A lab that Vagrant makes."""

    def __init__(
        self,
        name: str | None = None,
        *,
        hosts: int = 3,
        mtu_bytes: int = MTU_BYTES,
        underlay: int = 4,
        is_bound: bool = True,
        kernels: Sequence[str] = (DEFAULT,),
    ) -> None:
        if underlay != 4 or mtu_bytes != MTU_BYTES:
            raise CannotDo("another underlay: the Vagrantfile has IPv4 with 1,500 bytes")
        if set(kernels) != {DEFAULT}:
            raise CannotDo(f"several kernels: the local box has {DEFAULT}")
        if hosts > HOSTS_MAX:
            raise CannotDo(f"{hosts} hosts: the Vagrantfile has {HOSTS_MAX} at most")
        super().__init__(name, hosts=hosts, is_bound=is_bound)

    def start(self) -> None:
        """Have Vagrant make all of it, and wait until every agent is in step."""
        remove_remains()
        image = get_image()
        put_wheel()
        self.directory.mkdir(mode=0o755)
        self._write_down()
        adopt_pace(image)
        self.fabric = self._start_namespace("fabric", mounts=mounts_of(self.directory))
        self.place = Place(self.fabric)
        self.place.start()
        variables = {"NETAGENT_HOSTS": str(self._host_count), "NETAGENT_SAMPLES": "no"}
        self._vagrant_up(variables)
        write_ssh_config(self.directory, image.key)
        self._find_guests(self._read_addresses(variables))
        self._write_down()
        at_once(self._shells(), lambda shell: shell.wait_up(BOOT_TIMEOUT_S))
        at_once(self._shells(), self._adapt)
        self._start_daemons()

    def _vagrant_up(self, variables: dict[str, str]) -> None:
        log = self.directory / "vagrant-up.log"
        try:
            log.write_text(self.place.vagrant("up", variables=variables, timeout_s=UP_TIMEOUT_S))
        except CommandError as error:
            log.write_text(str(error))
            raise

    def _read_addresses(self, variables: dict[str, str]) -> dict[str, str]:
        """Return the management address of each machine, as `vagrant ssh-config` has it."""
        said = self.place.vagrant("ssh-config", variables=variables, timeout_s=SSH_CONFIG_TIMEOUT_S)
        return dict(re.findall(r"^Host (\S+)\n\s+HostName (\S+)$", said, re.MULTILINE))

    def _find_guests(self, addresses: dict[str, str]) -> None:
        """Know control and hosts by the addresses at which they are managed."""
        self.control_target = f"{UNDERLAY[10]}:{CONTROL_PORT}"
        self.control_vm, self.control_shell = self._find("control", CONTROL_NUMBER, addresses)
        self.control = GuestDaemon(self.control_shell, "control")  # type: ignore[assignment]
        for number in range(self._host_count):
            name, place = host_name(number), FIRST_HOST_NUMBER + number
            vm, shell = self._find(name, place, addresses)
            self.hosts[name] = GuestHost(
                self.fabric, vm, shell, UNDERLAY[place], self.control_target
            )

    def _find(self, name: str, number: int, addresses: dict[str, str]) -> tuple[Any, GuestShell]:
        address = addresses[name]
        shape = Shape(name, number, f"{UNDERLAY[number]}/24", address, MTU_BYTES)
        return VagrantMachine(self.place, shape), GuestShell(self.fabric, name, address)

    def _adapt(self, shell: GuestShell) -> None:
        """Give a machine the lab's settings, and a host what cables need; starts nothing."""
        if shell is self.control_shell:
            shell.script(f"systemctl stop {self.control.unit}")
            self._configure_control()
            return
        host = self.hosts[shell.name]
        shell.script(f"systemctl stop {host.agent.unit}")
        host.configure()
        shell.write("/usr/local/sbin/lab-trunk", TRUNK_SCRIPT.encode())
        shell.write("/etc/systemd/system/lab-trunk.service", TRUNK.encode())
        shell.script(
            "chmod 755 /usr/local/sbin/lab-trunk; systemctl daemon-reload;"
            "systemctl -q enable --now lab-trunk.service"
        )
