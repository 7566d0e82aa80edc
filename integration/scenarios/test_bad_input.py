"""Bad input of every kind: a clear error that names the field, and nothing half-made."""

from __future__ import annotations

import json
from collections.abc import Callable

import grpc
import pytest

from integration.lab.lab import Lab
from integration.lab.process import NETAGENT
from netagent.api.agent.v1 import agent_service_pb2 as agent_pb
from netagent.api.control.v1 import host_service_pb2 as host_pb
from netagent.api.control.v1 import machine_service_pb2 as machine_pb
from netagent.api.control.v1 import move_service_pb2 as move_pb
from netagent.api.control.v1 import network_service_pb2 as network_pb
from netagent.api.control.v1.host_service_pb2_grpc import HostServiceStub
from netagent.api.control.v1.machine_service_pb2_grpc import MachineServiceStub
from netagent.api.control.v1.move_service_pb2_grpc import MoveServiceStub
from netagent.api.control.v1.network_service_pb2_grpc import NetworkServiceStub
from netagent.api.types.v1 import types_pb2

pytestmark = pytest.mark.namespaces_only("is about what control and agents refuse")

Code = grpc.StatusCode
Call = Callable[[grpc.Channel], object]


def _create_network(name: str) -> Call:
    request = network_pb.CreateNetworkRequest(name=name)
    return lambda channel: NetworkServiceStub(channel).CreateNetwork(request)


def _create_machine(**fields: object) -> Call:
    request = machine_pb.CreateMachineRequest(
        **{"network": "shop", "name": "bad", "host": "host-a", **fields}  # type: ignore[arg-type]
    )
    return lambda channel: MachineServiceStub(channel).CreateMachine(request)


def _register(**fields: object) -> Call:
    endpoint = types_pb2.Endpoint(address="10.77.0.99", port=51820)
    request = host_pb.RegisterHostRequest(
        **{  # type: ignore[arg-type]
            "name": "host-bad",
            "region": 1,
            "public_key": bytes(range(32)),
            "endpoint": endpoint,
            **fields,
        }
    )
    return lambda channel: HostServiceStub(channel).RegisterHost(request)


def _move(machine: str, destination: str) -> Call:
    request = move_pb.MoveAddressRequest(machine=machine, destination=destination)
    return lambda channel: list(MoveServiceStub(channel).MoveAddress(request, timeout=10))


def _list_machines(**fields: object) -> Call:
    request = machine_pb.ListMachinesRequest(**fields)  # type: ignore[arg-type]
    return lambda channel: MachineServiceStub(channel).ListMachines(request)


REFUSED = {
    "network without name": (_create_network(""), Code.INVALID_ARGUMENT, "name"),
    "network in capitals": (_create_network("Shop"), Code.INVALID_ARGUMENT, "name"),
    "network of 64 letters": (_create_network("a" * 64), Code.INVALID_ARGUMENT, "name"),
    "network twice": (_create_network("shop"), Code.ALREADY_EXISTS, "shop"),
    "machine with a slash": (_create_machine(name="a/b"), Code.INVALID_ARGUMENT, "name"),
    "machine in no network": (_create_machine(network="none"), Code.NOT_FOUND, "none"),
    "machine on no host": (_create_machine(host="host-z"), Code.NOT_FOUND, "host-z"),
    "machine twice": (_create_machine(name="web-1"), Code.ALREADY_EXISTS, "web-1"),
    "label key": (_create_machine(labels={"a b": "c"}), Code.INVALID_ARGUMENT, "labels[a b]"),
    "label value": (_create_machine(labels={"a": "\n"}), Code.INVALID_ARGUMENT, "labels[a]"),
    "host key": (_register(public_key=b"short"), Code.INVALID_ARGUMENT, "public_key"),
    "host region": (_register(region=4096), Code.INVALID_ARGUMENT, "region"),
    "host endpoint": (
        _register(endpoint=types_pb2.Endpoint(address="nowhere", port=1)),
        Code.INVALID_ARGUMENT,
        "endpoint.address",
    ),
    "host port": (
        _register(endpoint=types_pb2.Endpoint(address="10.77.0.99", port=65536)),
        Code.INVALID_ARGUMENT,
        "endpoint.port",
    ),
    "host of another key": (_register(name="host-a"), Code.ALREADY_EXISTS, "host-a"),
    "move of nobody": (_move("shop/none", "host-a"), Code.NOT_FOUND, "none"),
    "move to nowhere": (_move("shop/web-1", "host-z"), Code.NOT_FOUND, "host-z"),
    "move to where it is": (_move("shop/web-1", "host-a"), Code.INVALID_ARGUMENT, "host-a"),
    "move without destination": (_move("shop/web-1", ""), Code.INVALID_ARGUMENT, "destination"),
    "page token": (_list_machines(page_token="??"), Code.INVALID_ARGUMENT, "page_token"),
}


def _listed(shared: Lab) -> tuple[list[str], list[str]]:
    machines = MachineServiceStub(shared.channel).ListMachines(machine_pb.ListMachinesRequest())
    return (
        [str(machine) for machine in machines.machines],
        [host.name for host in shared.list_hosts()],
    )


@pytest.mark.parametrize("what", REFUSED)
def test_control_refuses_and_changes_nothing(shared: Lab, what: str) -> None:
    call, code, named = REFUSED[what]
    before = _listed(shared)

    with pytest.raises(grpc.RpcError) as caught:
        call(shared.channel)

    assert caught.value.code() is code, caught.value.details()
    assert named in caught.value.details()
    assert _listed(shared) == before


ATTACHMENTS = {
    "no device": ({}, Code.INVALID_ARGUMENT, "device"),
    "no such interface": ({"interface": "tap99"}, Code.NOT_FOUND, "tap99"),
    "the agent's own": ({"interface": "netagent0"}, Code.INVALID_ARGUMENT, "interface"),
    "no such namespace": ({"netns": "/run/netns/none"}, Code.NOT_FOUND, "netns"),
    "no namespace at all": ({"netns": "/etc/passwd"}, Code.INVALID_ARGUMENT, "netns"),
    "the host's namespace": ({"netns": "/proc/self/ns/net"}, Code.INVALID_ARGUMENT, "netns"),
    "no MAC": ({"interface": "lo", "mac": "12:34"}, Code.INVALID_ARGUMENT, "mac"),
    "a group's MAC": (
        {"interface": "lo", "mac": "01:00:00:00:00:01"},
        Code.INVALID_ARGUMENT,
        "mac",
    ),
    "no such machine": ({"machine": "shop/none", "interface": "lo"}, Code.NOT_FOUND, "none"),
    "no name": ({"machine": "a/b/c", "interface": "lo"}, Code.INVALID_ARGUMENT, "machine"),
}


@pytest.mark.parametrize("what", ATTACHMENTS)
def test_the_agent_refuses_and_changes_nothing(shared: Lab, what: str) -> None:
    fields, code, named = ATTACHMENTS[what]
    host = shared.hosts["host-c"]
    before = host.run("ip", "-o", "link"), host.status().endpoints, host.status().kernel_writes

    with pytest.raises(grpc.RpcError) as caught:
        host.attach(agent_pb.AttachRequest(**{"machine": "shop/web-1", **fields}))

    assert caught.value.code() is code, caught.value.details()
    assert named in caught.value.details()
    after = host.run("ip", "-o", "link"), host.status().endpoints, host.status().kernel_writes
    assert after == before


COMMANDS = {
    "unknown command": (("fly",), 2, "fly"),
    "bad name": (("network", "create", "No"), 2, "name"),
    "exists": (("network", "create", "shop"), 5, "shop"),
    "not found": (("machine", "get", "shop/none"), 4, "shop/none"),
    "refused": (("move", "shop/web-1", "--to", "host-a"), 2, "host-a"),
    "no control": (("--control", "unix:///nowhere.sock", "host", "list"), 3, "nowhere.sock"),
}


@pytest.mark.parametrize("what", COMMANDS)
def test_the_command_says_what_is_wrong(shared: Lab, what: str) -> None:
    arguments, code, named = COMMANDS[what]
    control = ("--control", f"unix://{shared.control_socket}", "--timeout", "5")
    host = shared.hosts["host-a"]

    done = host.namespace.run(NETAGENT, *control, *arguments, check=False)

    assert done.returncode == code, done.stdout + done.stderr
    assert named in done.stderr
    assert "Traceback" not in done.stderr
    assert not done.stdout


def test_the_command_answers_programs_in_json(shared: Lab) -> None:
    control = ("--control", f"unix://{shared.control_socket}", "--output", "json")
    host = shared.hosts["host-a"]

    listed = json.loads(host.run(NETAGENT, *control, "machine", "list"))

    text = json.dumps(listed)
    assert all(machine.address in text for machine in shared.machines.values())
