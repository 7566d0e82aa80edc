"""Floating addresses in a lab: made, put on machines, assigned."""

from __future__ import annotations

from typing import Any

from integration.lab.host import RPC_TIMEOUT_S
from integration.lab.machine import Machine
from integration.lab.pace import PACE
from netagent.api.control.v1 import address_service_pb2 as address_pb
from netagent.api.control.v1.address_service_pb2_grpc import AddressServiceStub


def float_address(lab: Any, path: str, holder: Machine, *others: Machine) -> str:
    """Create a floating address, and put it on all machines that may come to have it."""
    network, _, name = path.partition("/")
    request = address_pb.CreateAddressRequest(network=network, name=name, machine=holder.path)
    made = AddressServiceStub(lab.channel).CreateAddress(request, timeout=RPC_TIMEOUT_S).address
    for machine in (holder, *others):
        machine.run("ip", "-6", "addr", "add", f"{made.address}/128", "dev", "lo", "nodad")
    return str(made.address)


def assign(
    lab: Any, path: str, machine: Machine, expected: Machine | None = None
) -> address_pb.AssignAddressResponse:
    """Assign an address; returns when all connected hosts have applied it, or lag."""
    request = address_pb.AssignAddressRequest(
        address=path, machine=machine.path, expected_holder=expected.path if expected else ""
    )
    timeout_s = RPC_TIMEOUT_S * PACE.slowness
    return AddressServiceStub(lab.channel).AssignAddress(request, timeout=timeout_s)
