"""A lab whose hosts, and control, are virtual machines; machines are namespaces, cabled to them.

The fabric's namespace holds the bridge, the cables and every QEMU; nothing of it is seen outside,
and all of it ends with the fabric's holder.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from integration.lab.fabric import (
    CONTROL_NUMBER,
    FIRST_HOST_NUMBER,
    make_bridge,
    underlay_address,
)
from integration.lab.kept import NAMES, remove_remains
from integration.lab.lab import CONTROL_PORT, Lab, host_name
from integration.lab.machine import Machine
from integration.lab.namespace import Namespace, child_of
from integration.lab.pace import EMULATED_SLOWNESS, PACE, set_pace
from integration.lab.vm.daemon import CONTROL_SOCKET, GuestDaemon
from integration.lab.vm.host import BOOT_TIMEOUT_S, GuestHost, address_with_length
from integration.lab.vm.image import VENV, Image, get_image
from integration.lab.vm.kept import write_places
from integration.lab.vm.kernels import DEFAULT, check_kernels
from integration.lab.vm.machine import CabledMachine
from integration.lab.vm.qemu import Shape, VirtualMachine, is_accelerated, port_names
from integration.lab.vm.shell import GuestShell, write_ssh_config
from integration.lab.vm.wheel import build_wheel, install_wheel
from netagent.api.control.v1 import address_service_pb2 as address_pb
from netagent.api.control.v1 import machine_service_pb2 as machine_pb
from netagent.api.control.v1 import network_service_pb2 as network_pb
from netagent.api.control.v1.address_service_pb2_grpc import AddressServiceStub
from netagent.api.control.v1.machine_service_pb2_grpc import MachineServiceStub
from netagent.api.control.v1.network_service_pb2_grpc import NetworkServiceStub

MANAGEMENT = IPv4Address("169.254.77.0")
"""Each guest's trunk leads to the fabric, which is .1 of these; no guest sees another's."""

KEPT_LOGS = Path(os.environ.get("NETAGENT_LAB_LOGS", f"{tempfile.gettempdir()}/netagent-kept-logs"))
"""Consoles and logs of labs in which something failed, by the lab's name."""

HOSTS_MAX = 20
RPC_TIMEOUT_S = 120.0
BOOTED = "booted"
"""The stage of a guest that has booted and has no netagent yet."""

PRUNE_CONTROL = """
systemctl stop netagent-control.service
rm -rf /var/lib/netagent/control/*
systemctl start netagent-control.service
"""


class VmLab(Lab):
    """A lab of virtual machines.

    kernels: of the hosts, in turn. is_control_guest: whether control is one more virtual machine;
    otherwise it runs in a namespace on the same underlay.
    """

    hosts: dict[str, GuestHost]  # type: ignore[assignment]

    def __init__(
        self,
        name: str | None = None,
        *,
        hosts: int = 3,
        mtu_bytes: int = 1500,
        underlay: int = 4,
        is_bound: bool = True,
        kernels: Sequence[str] = (DEFAULT,),
        is_control_guest: bool = True,
    ) -> None:
        if not 0 < hosts <= HOSTS_MAX:
            raise ValueError(f"hosts: {hosts} is not within 1 to {HOSTS_MAX}")
        check_kernels(kernels)
        super().__init__(
            name, hosts=hosts, mtu_bytes=mtu_bytes, underlay=underlay, is_bound=is_bound
        )
        self.hosts = {}
        self._kernels = kernels
        self._is_control_guest = is_control_guest
        self.control_vm: VirtualMachine | None = None
        self._numbers = itertools.count(2)

    def start(self) -> None:
        """Boot everything, install netagent, and wait until every agent is in step."""
        remove_remains()
        image = get_image()
        wheel = build_wheel()
        self.directory.mkdir(mode=0o755)
        self._write_down()
        adopt_pace(image)
        self.fabric = self._start_namespace("fabric")
        make_bridge(self.fabric, self._mtu_bytes)
        write_ssh_config(self.directory, image.key)
        installed = _stage_of(wheel[1])
        self._switch_on(image, (installed, BOOTED))
        self._write_down()
        at_once(self._guests, lambda guest: self._bring_to(*guest, installed, wheel))
        self._start_daemons()

    def _start_daemons(self) -> None:
        """Reach control and agents from here, start them, and wait until they are in step."""
        if self.control_vm is not None:
            self.control_shell.forward(self.control_socket, CONTROL_SOCKET)
            self.start_control()
        at_once(self.hosts.values(), GuestHost.connect)
        self._start_agents()

    def _bring_to(
        self, vm: VirtualMachine, shell: GuestShell, installed: str, wheel: tuple[str, bytes]
    ) -> None:
        """Have netagent installed in a guest, from whichever stage it was restored."""
        shell.wait_up(BOOT_TIMEOUT_S)
        if not vm.stage:
            shell.disconnect()
            vm.keep(BOOTED)
        shell.set_clock()
        if vm.stage != installed:
            install_wheel(shell, wheel)
            if vm is self.control_vm:
                self._configure_control()
            else:
                self.hosts[shell.name].configure()
            shell.disconnect()
            vm.keep(installed)
        shell.set_clock()

    def _switch_on(self, image: Image, stages: Sequence[str]) -> None:
        if self._is_control_guest:
            self._switch_on_control(image, stages)
        else:
            self._start_control()
        for number in range(self._host_count):
            place = FIRST_HOST_NUMBER + number
            vm, shell = self._make_vm(image, host_name(number), place, stages, number)
            address = underlay_address(self._underlay, place)
            self.hosts[vm.shape.name] = GuestHost(
                self.fabric, vm, shell, address, self.control_target
            )

    def _switch_on_control(self, image: Image, stages: Sequence[str]) -> None:
        address = underlay_address(self._underlay, CONTROL_NUMBER)
        self.control_target = f"[{address}]:{CONTROL_PORT}"
        if address.version == 4:
            self.control_target = f"{address}:{CONTROL_PORT}"
        self.control_vm, self.control_shell = self._make_vm(
            image, "control", CONTROL_NUMBER, stages
        )
        self.control = GuestDaemon(self.control_shell, "control")  # type: ignore[assignment]

    def _make_vm(
        self, image: Image, name: str, place: int, stages: Sequence[str], number: int = 0
    ) -> tuple[VirtualMachine, GuestShell]:
        """Make a guest's cables and switch it on. place: the last number of its addresses."""
        management = str(MANAGEMENT + place + 1)
        shape = Shape(
            name,
            place,
            address_with_length(underlay_address(self._underlay, place)),
            management,
            self._mtu_bytes,
            self._kernels[number % len(self._kernels)],
        )
        port, trunk = port_names(name)
        for each in (port, trunk):
            self.fabric.run("ip", "tuntap", "add", each, "mode", "tap")
        self.fabric.run("ip", "link", "set", port, "mtu", str(self._mtu_bytes))
        self.fabric.run("ip", "link", "set", port, "master", "underlay", "up")
        self.fabric.run("ip", "link", "set", trunk, "mtu", "9000", "up")
        peer = ("peer", f"{management}/32")
        self.fabric.run("ip", "addr", "add", str(MANAGEMENT + 1), *peer, "dev", trunk)
        vm = VirtualMachine(self.fabric, image, shape)
        vm.start(stages)
        return vm, GuestShell(self.fabric, name, management)

    def _configure_control(self) -> None:
        shell = self.control_shell
        listen = f"unix://{CONTROL_SOCKET},{self.control_target}"
        shell.run("mkdir", "-p", "/etc/netagent")
        settings = f'listen = "{listen}"\ninsecure = true\n'
        settings += "".join(f"{name} = {bound_s}\n" for name, bound_s in self._bounds())
        shell.write("/etc/netagent/control.toml", settings.encode())
        install = f"{VENV}/bin/netagent systemd install control"
        shell.script(f"{install}; systemctl -q enable {self.control.unit}")

    def _bounds(self) -> Iterable[tuple[str, float]]:
        """Give agents in emulation the time that they take for what others do in milliseconds."""
        if PACE.can_measure:
            return ()
        return (("prepare_bound_s", 15.0), ("head_start_s", 5.0), ("settle_bound_s", 20.0))

    def _start_agents(self) -> None:
        at_once(self.hosts.values(), lambda host: host.agent.start())
        at_once(self.hosts.values(), GuestHost.wait_in_step)

    def empty(self) -> None:
        """Leave no network and no machine; daemons that run go on, others are started.

        AssertionError or RpcError when something is not as it should be: `reset` then.
        """
        at_once(self.hosts.values(), GuestHost.heal)
        if not self.control.is_running:
            self.start_control()
        at_once(self.hosts.values(), GuestHost.ensure_in_step)
        at_once(self.hosts.values(), GuestHost.detach_all)
        addresses = AddressServiceStub(self.channel)
        owned = addresses.ListAddresses(address_pb.ListAddressesRequest(), timeout=RPC_TIMEOUT_S)
        for each in owned.addresses:
            unneeded = address_pb.DeleteAddressRequest(address=f"{each.network}/{each.name}")
            addresses.DeleteAddress(unneeded, timeout=RPC_TIMEOUT_S)
        machines = MachineServiceStub(self.channel)
        listed = machines.ListMachines(machine_pb.ListMachinesRequest(), timeout=RPC_TIMEOUT_S)
        for each in listed.machines:
            request = machine_pb.DeleteMachineRequest(machine=f"{each.network}/{each.name}")
            machines.DeleteMachine(request, timeout=RPC_TIMEOUT_S)
        networks = NetworkServiceStub(self.channel)
        found = networks.ListNetworks(network_pb.ListNetworksRequest(), timeout=RPC_TIMEOUT_S)
        for network in found.networks:
            gone = network_pb.DeleteNetworkRequest(name=network.name)
            networks.DeleteNetwork(gone, timeout=RPC_TIMEOUT_S)
        self._end_machines()
        at_once(self.hosts.values(), GuestHost.wait_idle)

    def _end_machines(self) -> None:
        for machine in self.machines.values():
            machine.namespace.kill()
            self._namespaces.remove(machine.namespace)
        self.machines.clear()
        (self.directory / NAMES).unlink(missing_ok=True)

    def reset(self) -> None:
        """Make the lab what it was after `start`: no network, no machine, new daemons."""
        self._end_machines()
        at_once(self.hosts.values(), GuestHost.prune)
        if self._is_control_guest:
            self.control_shell.script(PRUNE_CONTROL)
            self.wait_control()
        else:
            self.control.end()
            shutil.rmtree(self.directory / "control")
            self.start_control()
        self._start_agents()

    def show_logs(self) -> None:
        """Print the end of every log, and keep all of them with the consoles.

        Daemons' logs are fetched first, if possible.
        """
        controls = [self.control] if self.control_vm is not None else []
        for daemon in (*controls, *(host.agent for host in self.hosts.values())):
            try:
                _ = daemon.log
            except AssertionError as error:
                print(f"no log: {error}", file=sys.stderr)
        super().show_logs()
        kept = KEPT_LOGS / self.name
        kept.mkdir(parents=True, exist_ok=True)
        for log in self.directory.glob("*.log"):
            shutil.copy(log, kept)
        print(f"--- consoles and logs are in {kept}", file=sys.stderr)

    @property
    def _guests(self) -> list[tuple[VirtualMachine, GuestShell]]:
        return list(zip(self.virtual_machines, self._shells(), strict=True))

    @property
    def virtual_machines(self) -> list[VirtualMachine]:
        """Control's first, if it is one."""
        controls = [self.control_vm] if self.control_vm is not None else []
        return [*controls, *(host.vm for host in self.hosts.values())]

    def measure_memory_mib(self) -> dict[str, int]:
        """Return what each QEMU takes of this machine's memory."""
        return {vm.shape.name: resident_mib(vm.pid) for vm in self.virtual_machines}

    def _new_machine(self, namespace: Namespace, path: str, address: str) -> Machine:
        return CabledMachine(namespace, path, address, self.fabric, next(self._numbers))

    def _write_down(self) -> None:
        super()._write_down()
        write_places(self.directory, self._shells())

    def _shells(self) -> list[GuestShell]:
        controls = [self.control_shell] if self.control_vm is not None else []
        return [*controls, *(host.namespace for host in self.hosts.values())]


def adopt_pace(image: Image) -> None:
    """Say how fast this machine's guests are."""
    if is_accelerated(image):
        set_pace(2.0, "50M", 1000, 1.0)
    else:
        set_pace(EMULATED_SLOWNESS, "2M", 100, 4.0)


def _stage_of(wheel: bytes) -> str:
    """Return what names guests in which this wheel is installed as this code does it."""
    code = [path.read_bytes() for path in _own_files()]
    return hashlib.sha256(b"\0".join([wheel, *code])).hexdigest()


def _own_files() -> list[Path]:
    """Return what says how a guest is made ready; the rest changes nothing in it."""
    here = Path(__file__).parent
    return [*sorted((here / "guest").iterdir()), here / "host.py", here / "lab.py"]


def resident_mib(pid: int) -> int:
    """Return the memory of the process below an nsenter, in MiB."""
    pages = Path(f"/proc/{child_of(pid)}/statm").read_text().split()[1]
    return int(pages) * 4096 >> 20


def at_once(items: Iterable[Any], work: Callable[[Any], Any]) -> list[Any]:
    """Do the same for all at once; the first error is raised when all have ended."""
    listed = list(items)
    with ThreadPoolExecutor(max_workers=len(listed)) as pool:
        return list(pool.map(work, listed))
