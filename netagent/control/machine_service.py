"""MachineService: machines and their stable addresses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import grpc.aio

from netagent.api.control.v1 import machine_service_pb2 as pb
from netagent.api.control.v1 import machine_service_pb2_grpc
from netagent.api.convert import machine_to_message
from netagent.api.types.v1 import types_pb2
from netagent.control import keys
from netagent.control.address_plans import release_all
from netagent.control.allocation import DEFAULT_REGION, allocate_identity, allocate_machine
from netagent.control.paging import (
    check_etag,
    check_page_size,
    make_etag,
    read_page_token,
    take_page,
)
from netagent.control.policy_tables import PolicyTables
from netagent.control.records import MachineRecord, encode_machine, encode_number
from netagent.control.validation import (
    check_machine_labels,
    find_host,
    find_network,
    resolve_machine,
)
from netagent.control.view import Stored, View
from netagent.control.writer import Plan, Writer
from netagent.model.addresses import make_id, network_of
from netagent.model.errors import ExistsError, NotFoundError, StateError
from netagent.model.fleet import Identity, Machine, check_name
from netagent.store.contract import Compare, Delete, Exists, Operation, Put, Unchanged

_Context = grpc.aio.ServicerContext[Any, Any]


class MachineService(machine_service_pb2_grpc.MachineServiceServicer):
    """The service on a writer; policies say which machines they name."""

    def __init__(self, writer: Writer, policies: PolicyTables) -> None:
        self._writer = writer
        self._policies = policies

    async def CreateMachine(  # noqa: D102
        self, request: pb.CreateMachineRequest, context: _Context
    ) -> pb.CreateMachineResponse:
        network = check_name("network", request.network)
        name = check_name("name", request.name)
        labels = check_machine_labels(request.labels)
        host = check_name("host", request.host) if request.host else None

        def plan(view: View) -> Plan:
            is_named = self._policies.is_named(f"{network}/{name}")
            return _plan_creation(view, network, name, labels, host, is_named=is_named)

        scopes = [f"machines of {network}", *self._scope_of_identity(network, labels)]
        view = await self._writer.write(plan, scopes=scopes)
        return pb.CreateMachineResponse(machine=_read(view, f"{network}/{name}"))

    async def GetMachine(  # noqa: D102
        self, request: pb.GetMachineRequest, context: _Context
    ) -> pb.GetMachineResponse:
        view = await self._writer.feed.catch_up()
        return pb.GetMachineResponse(machine=_read(view, resolve_machine(view, request.machine)))

    async def ListMachines(  # noqa: D102
        self, request: pb.ListMachinesRequest, context: _Context
    ) -> pb.ListMachinesResponse:
        size = check_page_size(request.page_size)
        query = "machines", request.network, request.host
        after = read_page_token(request.page_token, *query)
        view = await self._writer.feed.catch_up()
        if request.network:
            find_network(view, "network", request.network)
        if request.host:
            find_host(view, "host", request.host)
        entries = _select(view, after, request.network, request.host)
        machines, token = take_page(entries, size, *query)
        return pb.ListMachinesResponse(
            machines=[_message(view, machine) for machine in machines], next_page_token=token
        )

    async def UpdateMachineLabels(  # noqa: D102
        self, request: pb.UpdateMachineLabelsRequest, context: _Context
    ) -> pb.UpdateMachineLabelsResponse:
        labels = check_machine_labels(request.labels)

        def plan(view: View) -> Plan:
            path = resolve_machine(view, request.machine)
            old = view.machines[path]
            check_etag(request.etag, old.revision, f"machine {path}")
            machine = old.value.machine
            if dict(machine.labels) == labels:
                return Plan((), ())
            name = machine.name if self._policies.is_named(path) else None
            identity = allocate_identity(view, network_of(machine.stable_id), labels, name)
            machine = replace(machine, labels=labels, identity=Identity(identity.number))
            key = keys.machine_key(path)
            return Plan(
                (*identity.compares, Unchanged(key, old.revision)),
                (
                    *identity.operations,
                    Put(key, encode_machine(replace(old.value, machine=machine))),
                ),
            )

        view = await self._writer.write(plan, scopes=("identities",))
        path = resolve_machine(view, request.machine)
        return pb.UpdateMachineLabelsResponse(machine=_read(view, path))

    async def DeleteMachine(  # noqa: D102
        self, request: pb.DeleteMachineRequest, context: _Context
    ) -> pb.DeleteMachineResponse:
        await self._writer.write(lambda view: plan_deletion(view, request.machine, request.etag))
        return pb.DeleteMachineResponse()

    def _scope_of_identity(self, network: str, labels: dict[str, str]) -> list[str]:
        view = self._writer.feed.view
        known = view.networks.get(network)
        if known is not None and keys.identity_key(known.value.number, labels) in view.numbers:
            return []
        return ["identities"]


def plan_deletion(view: View, machine_name: str, etag: str = "") -> Plan:
    """Return the plan that deletes a machine and releases what it holds.

    StateError while it is on a move.
    """
    path = resolve_machine(view, machine_name)
    old = view.machines[path]
    check_etag(etag, old.revision, f"machine {path}")
    if old.value.move_id is not None:
        raise StateError(
            f"machine: {path} is on move {old.value.move_id}; wait until that has settled"
        )
    machine = old.value.machine
    compares, operations = release_all(view, path)
    compares.append(Unchanged(keys.machine_key(path), old.revision))
    operations.append(Delete(keys.machine_key(path)))
    operations.append(Delete(keys.id_key(machine.stable_id)))
    if machine.host is not None:
        operations.append(Delete(keys.at_key(machine.host, path)))
    return Plan(tuple(compares), tuple(operations))


def _plan_creation(
    view: View,
    network_name: str,
    name: str,
    labels: dict[str, str],
    host_name: str | None,
    *,
    is_named: bool,
) -> Plan:
    path = f"{network_name}/{name}"
    network = find_network(view, "network", network_name)
    host = find_host(view, "host", host_name) if host_name is not None else None
    if path in view.machines:
        raise ExistsError(f"name: machine {path} exists already")
    if path in view.addresses:
        raise ExistsError(f"name: {path} is a floating address; choose another name")
    region = host.value.region if host is not None else DEFAULT_REGION
    number = allocate_machine(view, network.value.number, region)
    own_name = name if is_named else None
    identity = allocate_identity(view, network.value.number, labels, own_name)
    stable_id = make_id(network.value.number, region, number.number)
    machine = Machine(
        network=network_name,
        name=name,
        stable_id=stable_id,
        identity=Identity(identity.number),
        labels=labels,
        host=host_name,
        epoch=1 if host_name is not None else 0,
    )
    compares: list[Compare] = [
        *number.compares,
        *identity.compares,
        Unchanged(keys.network_key(network_name), network.revision),
        Unchanged(keys.machine_key(path), 0),
        Unchanged(keys.address_key(path), 0),
        Unchanged(keys.id_key(stable_id), 0),
    ]
    operations: list[Operation] = [
        *number.operations,
        *identity.operations,
        Put(keys.machine_key(path), encode_machine(MachineRecord(machine, None))),
        Put(keys.id_key(stable_id), path.encode()),
    ]
    if host is not None:
        # Host removal compares that nothing is tied to the host: one of the two fails.
        compares.append(Exists(keys.host_key(host.value.name)))
        operations.append(
            Put(keys.at_key(host.value.name, path), encode_number(network.value.number))
        )
    return Plan(tuple(compares), tuple(operations))


def _select(
    view: View, after: str, network: str, host: str
) -> Iterator[tuple[str, Stored[MachineRecord]]]:
    if not host:
        yield from view.machines.after(after, f"{network}/" if network else "")
        return
    located = [
        path
        for path in view.paths_at.get(host, ())
        if view.machines[path].value.machine.host == host
        and (not network or path.startswith(f"{network}/"))
    ]
    for path in sorted(located, key=lambda path: path.split("/")):
        if path.split("/") > after.split("/"):
            yield path, view.machines[path]


def _read(view: View, path: str) -> types_pb2.Machine:
    machine = view.machines.get(path)
    if machine is None:
        raise NotFoundError(f"machine: {path} was deleted by another caller meanwhile")
    return _message(view, machine)


def _message(view: View, machine: Stored[MachineRecord]) -> types_pb2.Machine:
    return machine_to_message(
        view.fleet,
        machine.value.machine,
        floating=view.held_by(machine.value.machine.path),
        etag=make_etag(machine.revision),
    )
