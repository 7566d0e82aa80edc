"""NetworkService: private networks."""

from __future__ import annotations

from typing import Any

import grpc.aio

from netagent.api.control.v1 import network_service_pb2 as pb
from netagent.api.control.v1 import network_service_pb2_grpc
from netagent.api.convert import network_to_message
from netagent.api.types.v1 import types_pb2
from netagent.control import keys
from netagent.control.allocation import allocate_network
from netagent.control.paging import (
    check_etag,
    check_page_size,
    make_etag,
    read_page_token,
    take_page,
)
from netagent.control.records import encode_network
from netagent.control.validation import find_network
from netagent.control.view import Stored, View
from netagent.control.writer import Plan, Writer
from netagent.model.errors import ExistsError, StateError
from netagent.model.fleet import Network, check_name
from netagent.store.contract import Delete, NoneWithin, Put, Unchanged

_Context = grpc.aio.ServicerContext[Any, Any]


class NetworkService(network_service_pb2_grpc.NetworkServiceServicer):
    """The service on a writer."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    async def CreateNetwork(  # noqa: D102
        self, request: pb.CreateNetworkRequest, context: _Context
    ) -> pb.CreateNetworkResponse:
        name = check_name("name", request.name)

        def plan(view: View) -> Plan:
            if name in view.networks:
                raise ExistsError(f"name: network {name} exists already")
            number = allocate_network(view)
            return Plan(
                (*number.compares, Unchanged(keys.network_key(name), 0)),
                (
                    *number.operations,
                    Put(keys.network_key(name), encode_network(Network(name, number.number))),
                ),
            )

        view = await self._writer.write(plan, scopes=("networks",))
        return pb.CreateNetworkResponse(network=_message(view, find_network(view, "name", name)))

    async def GetNetwork(  # noqa: D102
        self, request: pb.GetNetworkRequest, context: _Context
    ) -> pb.GetNetworkResponse:
        view = await self._writer.feed.catch_up()
        return pb.GetNetworkResponse(
            network=_message(view, find_network(view, "name", request.name))
        )

    async def ListNetworks(  # noqa: D102
        self, request: pb.ListNetworksRequest, context: _Context
    ) -> pb.ListNetworksResponse:
        size = check_page_size(request.page_size)
        after = read_page_token(request.page_token, "networks")
        view = await self._writer.feed.catch_up()
        networks, token = take_page(view.networks.after(after), size, "networks")
        return pb.ListNetworksResponse(
            networks=[_message(view, network) for network in networks], next_page_token=token
        )

    async def DeleteNetwork(  # noqa: D102
        self, request: pb.DeleteNetworkRequest, context: _Context
    ) -> pb.DeleteNetworkResponse:
        numbers: list[int] = []

        def plan(view: View) -> Plan:
            network = find_network(view, "name", request.name)
            check_etag(request.etag, network.revision, f"network {request.name}")
            count = view.machine_counts[network.value.number]
            if count:
                what = "a machine; delete it" if count == 1 else f"{count} machines; delete them"
                raise StateError(f"name: network {request.name} has {what} first")
            if next(view.addresses.after("", f"{request.name}/"), None) is not None:
                raise StateError(
                    f"name: network {request.name} has floating addresses; delete them first"
                )
            key = keys.network_key(request.name)
            numbers.append(network.value.number)
            return Plan(
                (
                    Unchanged(key, network.revision),
                    NoneWithin(keys.machines_prefix(request.name)),
                    NoneWithin(keys.addresses_prefix(request.name)),
                ),
                (Delete(key), Delete(keys.policy_key(request.name))),
            )

        await self._writer.write(plan)
        # Nothing refers to these any more; what a crash leaves of them only takes room.
        await self._writer.delete_all(keys.identities_prefix(numbers[-1]))
        await self._writer.delete_all(keys.cursors_machine_prefix(numbers[-1]))
        await self._writer.delete_all(keys.policy_versions_prefix(numbers[-1]))
        return pb.DeleteNetworkResponse()


def _message(view: View, network: Stored[Network]) -> types_pb2.Network:
    return network_to_message(
        network.value,
        machine_count=view.machine_counts[network.value.number],
        etag=make_etag(network.revision),
    )
