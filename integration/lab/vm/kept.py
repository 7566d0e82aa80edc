"""What script/lab does with a lab of virtual machines that an earlier command has left."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import grpc

from integration.lab.kept import KeptLab
from integration.lab.namespace import CommandError, Namespace
from integration.lab.vm.daemon import AGENT_SOCKET, CONTROL_SOCKET
from integration.lab.vm.machine import make_interface, plug_in
from integration.lab.vm.shell import GuestShell
from netagent.api.agent.v1 import agent_service_pb2 as agent_pb
from netagent.api.agent.v1.agent_service_pb2_grpc import AgentServiceStub

PLACES = "guests.json"
"""File of a lab that names its guests' management addresses; there only in labs of these."""

NUMBERS = "cables"
"""Directory of a lab: a file for each cable, by its number, that names the machine."""

ANSWER_S = 30.0


def write_places(directory: Path, shells: Iterable[GuestShell]) -> None:
    """Write down how the guests are reached."""
    places = {shell.name: shell.address for shell in shells}
    (directory / PLACES).write_text(json.dumps(places))


def is_virtual(lab: KeptLab) -> bool:
    """Whether the lab's hosts are virtual machines."""
    return (lab.directory / PLACES).exists()


def find_shells(lab: KeptLab) -> dict[str, GuestShell]:
    """Return the guests of a lab, by name; none when its hosts are namespaces."""
    fabric = lab.namespaces().get("fabric")
    if not is_virtual(lab) or fabric is None:
        return {}
    places = json.loads((lab.directory / PLACES).read_text())
    return {name: GuestShell(fabric, name, address) for name, address in places.items()}


def reconnect(lab: KeptLab) -> None:
    """Reach the sockets of guests again that have booted since the last command."""
    for name, shell in find_shells(lab).items():
        local, remote = (
            (lab.control_socket, CONTROL_SOCKET)
            if name == "control"
            else (lab.agent_socket(name), AGENT_SOCKET)
        )
        if not _answers(local):
            with suppress(CommandError):  # a guest that is away is for the command to say
                shell.forward(local, remote)


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as ours:
        try:
            ours.connect(str(path))
        except OSError:
            return False
    return True


def cable_in(lab: KeptLab, machine: Namespace, address: str) -> None:
    """Give a machine its interface, unless it has it."""
    if machine.run("ip", "link", "show", "eth0", check=False).returncode == 0:
        return
    numbers = lab.directory / NUMBERS
    numbers.mkdir(exist_ok=True)
    number = _find_number(lab, machine.name)
    if number is None:
        number = 2 + len(list(numbers.iterdir()))
        (numbers / str(number)).write_text(machine.name)
    make_interface(lab.namespaces()["fabric"], machine, number, address)


def plug(lab: KeptLab, machine: str, host: str) -> str:
    """Lay a machine's cable to a host; return the name of its end there."""
    number = _find_number(lab, machine)
    assert number is not None, f"{machine} was never cabled"
    plug_in(lab.namespaces()[machine], find_shells(lab)[host], number)
    return f"m{number}"


def adapt(lab: KeptLab, machine: str, host: str) -> None:
    """Give a machine the MAC and the MTU that its host expects."""
    with grpc.insecure_channel(f"unix://{lab.agent_socket(host)}") as channel:
        request = agent_pb.GetStatusRequest()
        status = AgentServiceStub(channel).GetStatus(request, timeout=ANSWER_S)
    (mac,) = [each.mac for each in status.endpoints if each.machine == machine]
    link = ("ip", "link", "set", "eth0", "address", mac, "mtu", str(status.mtu_bytes))
    lab.namespaces()[machine].run(*link)


def _find_number(lab: KeptLab, machine: str) -> int | None:
    """Return the number of a machine's cable, if it has ever had one."""
    for each in (lab.directory / NUMBERS).iterdir():
        if each.read_text() == machine:
            return int(each.name)
    return None
