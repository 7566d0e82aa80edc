"""A whole lab: fabric, control, hosts with agents, machines.

with Lab(hosts=3) as lab:
    lab.network("shop")
    web = lab.machine("shop/web-1", host="host-a")
    db = lab.machine("shop/db-1", host="host-b")
    web.wait_reaches(db)
    lab.move(web, "host-c")
"""

from __future__ import annotations

import secrets
import shutil
import signal
import string
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType

import grpc

from integration.lab.fabric import (
    CONTROL_NUMBER,
    FIRST_HOST_NUMBER,
    make_bridge,
    plug_in,
    underlay_address,
)
from integration.lab.host import Host
from integration.lab.kept import (
    directory_of,
    machine_mounts,
    name_machine,
    remove_remains,
    write_description,
)
from integration.lab.machine import Machine
from integration.lab.namespace import HOST_MOUNTS, Namespace, start_namespace
from integration.lab.pace import PACE
from integration.lab.process import Daemon
from integration.lab.wait import wait_until
from netagent.api.control.v1 import host_service_pb2 as host_pb
from netagent.api.control.v1 import machine_service_pb2 as machine_pb
from netagent.api.control.v1 import move_service_pb2 as move_pb
from netagent.api.control.v1 import network_service_pb2 as network_pb
from netagent.api.control.v1.host_service_pb2_grpc import HostServiceStub
from netagent.api.control.v1.machine_service_pb2_grpc import MachineServiceStub
from netagent.api.control.v1.move_service_pb2_grpc import MoveServiceStub
from netagent.api.control.v1.network_service_pb2_grpc import NetworkServiceStub

CONTROL_PORT = 7400
RPC_TIMEOUT_S = 30.0
HOSTS_MAX = 200


class Lab:
    """A lab. name: unique on this machine; a random one unless given.

    is_bound: whether everything ends with this process, also when it is killed.
    underlay: 4 or 6, the IP version of the underlay.
    """

    def __init__(
        self,
        name: str | None = None,
        *,
        hosts: int = 3,
        mtu_bytes: int = 1500,
        underlay: int = 4,
        is_bound: bool = True,
    ) -> None:
        if not 0 < hosts <= HOSTS_MAX:
            raise ValueError(f"hosts: {hosts} is not within 1 to {HOSTS_MAX}")
        self.name = name or secrets.token_hex(4)
        self.directory = directory_of(self.name)
        self.hosts: dict[str, Host] = {}
        self.machines: dict[str, Machine] = {}
        self._host_count = hosts
        self._mtu_bytes = mtu_bytes
        self._underlay = underlay
        self._is_bound = is_bound
        self._namespaces: list[Namespace] = []
        self._channel: grpc.Channel | None = None

    @property
    def namespaces(self) -> tuple[Namespace, ...]:
        """Every namespace of the lab, the fabric first."""
        return tuple(self._namespaces)

    @property
    def control_socket(self) -> Path:
        """Control's unix socket, reachable from everywhere on this machine."""
        return self.directory / "control.sock"

    def start(self) -> None:
        """Bring everything up, and wait until every agent is in step."""
        remove_remains()
        self.directory.mkdir(mode=0o755)
        self._write_down()
        self.fabric = self._start_namespace("fabric")
        make_bridge(self.fabric, self._mtu_bytes)
        self._start_control()
        for number in range(self._host_count):
            self._add_host(number)
        self._write_down()
        for host in self.hosts.values():
            host.agent.start()
        for host in self.hosts.values():
            host.wait_in_step()

    def begin(self) -> None:
        """Start; when that fails, print the logs and leave nothing behind."""
        try:
            self.start()
        except BaseException:
            try:
                self.show_logs()
            finally:
                self.stop()
            raise

    def stop(self) -> None:
        """End everything and remove the lab's directory."""
        if self._channel is not None:
            self._channel.close()
        for namespace in reversed(self._namespaces):
            namespace.begin_kill()
        for namespace in self._namespaces:
            namespace.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def start_control(self) -> None:
        """Start control and wait until it answers."""
        self.control.start()
        self.wait_control()

    def kill_control(self) -> None:
        """kill -9."""
        self.control.end(signal.SIGKILL)

    def wait_control(self) -> None:
        """Wait until control answers."""

        def answers() -> bool:
            try:
                self.list_hosts()
            except grpc.RpcError as error:
                log = self.control.log
                tail = log.read_text()[-2000:] if log.exists() else ""
                raise AssertionError(f"{error}\n{tail}") from error
            return True

        wait_until("control answers", answers, timeout_s=30)

    def list_hosts(self) -> list[host_pb.types_pb2.Host]:  # type: ignore[name-defined]
        """Return all hosts as control has them."""
        request = host_pb.ListHostsRequest()
        return list(
            HostServiceStub(self.channel)
            .ListHosts(request, timeout=PACE.allow(RPC_TIMEOUT_S))
            .hosts
        )

    def network(self, name: str) -> None:
        """Create a network."""
        request = network_pb.CreateNetworkRequest(name=name)
        NetworkServiceStub(self.channel).CreateNetwork(request, timeout=PACE.allow(RPC_TIMEOUT_S))

    def machine(
        self, path: str, host: str, labels: Mapping[str, str] | None = None, *, attach: bool = True
    ) -> Machine:
        """Create a machine and (unless told otherwise) attach it on its host."""
        network, _, name = path.partition("/")
        request = machine_pb.CreateMachineRequest(
            network=network, name=name, labels=labels or {}, host=host
        )
        stub = MachineServiceStub(self.channel)
        created = stub.CreateMachine(request, timeout=PACE.allow(RPC_TIMEOUT_S)).machine
        name_machine(self.directory, path, created.address)
        namespace = self._start_namespace(path, mounts=machine_mounts(self.directory))
        machine = self._new_machine(namespace, path, created.address)
        self.machines[path] = machine
        if attach:
            machine.attach(self.hosts[host])
        return machine

    def _new_machine(self, namespace: Namespace, path: str, address: str) -> Machine:
        return Machine(namespace, path, address)

    def copy_of(self, machine: Machine, name: str) -> Machine:
        """Start a second machine under another's name and address, attached nowhere."""
        return self._new_machine(self._start_namespace(name), machine.path, machine.address)

    def namespace(self, name: str) -> Namespace:
        """Start a namespace that has nothing to do with the fleet; it ends with the lab."""
        return self._start_namespace(name)

    def relabel(self, machine: Machine, labels: Mapping[str, str]) -> None:
        """Replace a machine's labels."""
        request = machine_pb.UpdateMachineLabelsRequest(machine=machine.path, labels=labels)
        MachineServiceStub(self.channel).UpdateMachineLabels(
            request, timeout=PACE.allow(RPC_TIMEOUT_S)
        )

    def locate(self, machine: Machine) -> str:
        """Return the name of the host on which control has the machine."""
        request = machine_pb.GetMachineRequest(machine=machine.path)
        stub = MachineServiceStub(self.channel)
        return str(stub.GetMachine(request, timeout=PACE.allow(RPC_TIMEOUT_S)).machine.host)

    def move(
        self, machine: Machine, destination: str, *, attach: bool = True
    ) -> list[move_pb.MoveAddressResponse]:
        """Move a machine and return the phases as they were reached; attaches it there first."""
        if attach:
            machine.attach(self.hosts[destination])
        request = move_pb.MoveAddressRequest(machine=machine.path, destination=destination)
        stub = MoveServiceStub(self.channel)
        return list(stub.MoveAddress(request, timeout=PACE.allow(RPC_TIMEOUT_S)))

    @property
    def channel(self) -> grpc.Channel:
        """A channel to control's unix socket."""
        if self._channel is None:
            self._channel = grpc.insecure_channel(
                f"unix://{self.control_socket}",
                options=(
                    ("grpc.initial_reconnect_backoff_ms", 50),
                    ("grpc.max_reconnect_backoff_ms", 200),
                ),
            )
        return self._channel

    def show_logs(self) -> None:
        """Print the end of every log, for whoever has to find out what went wrong."""
        for log in sorted(self.directory.glob("*.log")):
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-40:])
            print(f"--- {log.name}\n{tail}", file=sys.stderr)

    def _start_control(self) -> None:
        namespace = self._start_namespace("control", mounts=HOST_MOUNTS)
        address = underlay_address(self._underlay, CONTROL_NUMBER)
        plug_in(self.fabric, "control", namespace, address, self._mtu_bytes)
        self.control_target = f"[{address}]:{CONTROL_PORT}"
        if address.version == 4:
            self.control_target = f"{address}:{CONTROL_PORT}"
        self.control = Daemon(
            namespace,
            "control",
            [
                *("control", "run", "--insecure", "--state-dir", str(self.directory / "control")),
                *("--listen", f"unix://{self.control_socket},{self.control_target}"),
                *(f"--{name.replace('_', '-')}={bound_s}" for name, bound_s in self._bounds()),
            ],
        )
        self.start_control()

    def _bounds(self) -> Iterable[tuple[str, float]]:
        """Return control's settings that say how long it waits, where not the usual ones."""
        return ()

    def _add_host(self, number: int) -> None:
        name = host_name(number)
        namespace = self._start_namespace(name, mounts=HOST_MOUNTS)
        address = underlay_address(self._underlay, FIRST_HOST_NUMBER + number)
        port = f"port-{_letters(number)}"
        plug_in(self.fabric, port, namespace, address, self._mtu_bytes)
        directory = self.directory / name
        directory.mkdir()
        self.hosts[name] = Host(
            namespace, address, self.control_target, directory, self.fabric, port
        )

    def _write_down(self) -> None:
        environments = {name: host.agent.environment for name, host in self.hosts.items()}
        if environments:
            environments["control"] = self.control.environment
        write_description(self.directory, not self._is_bound, environments)

    def _start_namespace(self, name: str, mounts: str = "") -> Namespace:
        namespace = start_namespace(name, self.directory, mounts=mounts, is_bound=self._is_bound)
        self._namespaces.append(namespace)
        return namespace

    def __enter__(self) -> Lab:
        self.begin()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if error is not None:
                self.show_logs()
        finally:
            self.stop()


def host_name(number: int) -> str:
    """Return the name of a lab's host by its number, from 0: host-a, host-b, …"""
    return f"host-{_letters(number)}"


def _letters(number: int) -> str:
    """Return a, b, … z, aa, ab, …"""
    letters = ""
    number += 1
    while number:
        number, rest = divmod(number - 1, 26)
        letters = string.ascii_lowercase[rest] + letters
    return letters
