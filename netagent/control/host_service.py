"""HostService: registering, reading and removing hosts."""

from __future__ import annotations

from typing import Any

import grpc.aio

from netagent.api.control.v1 import host_service_pb2 as pb
from netagent.api.control.v1 import host_service_pb2_grpc
from netagent.api.convert import endpoint_from_message, fleet_to_message, host_to_message
from netagent.api.types.v1 import types_pb2
from netagent.control import keys
from netagent.control.allocation import allocate_host
from netagent.control.paging import (
    check_etag,
    check_page_size,
    make_etag,
    read_page_token,
    take_page,
)
from netagent.control.records import encode_host, make_host
from netagent.control.sync_hub import SyncHub
from netagent.control.validation import (
    check_public_key,
    check_region,
    check_underlay,
    find_host,
)
from netagent.control.view import Stored, View
from netagent.control.writer import Plan, Writer
from netagent.model.errors import ExistsError, StateError
from netagent.model.fleet import Endpoint, Host, check_name
from netagent.store.contract import Compare, Delete, NoneWithin, Operation, Put, Unchanged

_Context = grpc.aio.ServicerContext[Any, Any]


class HostService(host_service_pb2_grpc.HostServiceServicer):
    """The service on a writer; the hub knows who is connected."""

    def __init__(self, writer: Writer, hub: SyncHub) -> None:
        self._writer = writer
        self._hub = hub

    async def RegisterHost(  # noqa: D102
        self, request: pb.RegisterHostRequest, context: _Context
    ) -> pb.RegisterHostResponse:
        name = check_name("name", request.name)
        region = check_region(request.region)
        public_key = check_public_key(request.public_key)
        fleet = self._writer.feed.view.fleet
        endpoint = check_underlay(fleet, endpoint_from_message(request.endpoint))

        def plan(view: View) -> Plan:
            return _plan_registration(view, name, region, public_key, endpoint)

        view = await self._writer.write(plan, scopes=(f"hosts of region {region}",))
        host = view.hosts.get(name)
        if host is None:
            raise StateError(f"name: host {name} was removed while it was being registered")
        return pb.RegisterHostResponse(host=self._message(host), fleet=fleet_to_message(fleet))

    async def GetHost(  # noqa: D102
        self, request: pb.GetHostRequest, context: _Context
    ) -> pb.GetHostResponse:
        view = await self._writer.feed.catch_up()
        return pb.GetHostResponse(host=self._message(find_host(view, "name", request.name)))

    async def ListHosts(  # noqa: D102
        self, request: pb.ListHostsRequest, context: _Context
    ) -> pb.ListHostsResponse:
        size = check_page_size(request.page_size)
        after = read_page_token(request.page_token, "hosts")
        view = await self._writer.feed.catch_up()
        hosts, token = take_page(view.hosts.after(after), size, "hosts")
        return pb.ListHostsResponse(
            hosts=[self._message(host) for host in hosts], next_page_token=token
        )

    async def RemoveHost(  # noqa: D102
        self, request: pb.RemoveHostRequest, context: _Context
    ) -> pb.RemoveHostResponse:
        await self._writer.write(lambda view: _plan_removal(view, request.name, request.etag))
        return pb.RemoveHostResponse()

    def _message(self, host: Stored[Host]) -> types_pb2.Host:
        applied = self._hub.applied_revision(host.value.name)
        return host_to_message(
            self._writer.feed.view.fleet,
            host.value,
            connected=applied is not None,
            applied_revision=applied or 0,
            etag=make_etag(host.revision),
        )


def _plan_registration(
    view: View, name: str, region: int, public_key: bytes, endpoint: Endpoint
) -> Plan:
    old = view.hosts.get(name)
    endpoint_key = keys.host_endpoint_key(endpoint)
    if view.host_of_key(public_key) not in (None, name):
        raise ExistsError(f"public_key: is the key of host {view.host_of_key(public_key)}")
    if view.host_of_endpoint(endpoint) not in (None, name):
        raise ExistsError(
            f"endpoint: {endpoint} is where host {view.host_of_endpoint(endpoint)} listens"
        )
    if old is None:
        number = allocate_host(view, region)
        host = make_host(view.fleet, name, region, number.number, public_key, endpoint)
        return Plan(
            (
                *number.compares,
                Unchanged(keys.host_key(name), 0),
                Unchanged(keys.host_public_key_key(public_key), 0),
                Unchanged(endpoint_key, 0),
            ),
            (
                *number.operations,
                Put(keys.host_key(name), encode_host(host)),
                Put(keys.host_public_key_key(public_key), name.encode()),
                Put(endpoint_key, name.encode()),
            ),
        )
    if old.value.public_key != public_key:
        raise ExistsError(f"name: host {name} has another public key; remove that host first")
    if old.value.region != region:
        raise ExistsError(
            f"region: host {name} is in region {old.value.region}; remove that host first"
        )
    if old.value.endpoint == endpoint:
        return Plan((), ())
    host = make_host(view.fleet, name, region, old.value.number, public_key, endpoint)
    compares: tuple[Compare, ...] = (
        Unchanged(keys.host_key(name), old.revision),
        Unchanged(endpoint_key, 0),
    )
    operations: tuple[Operation, ...] = (
        Put(keys.host_key(name), encode_host(host)),
        Delete(keys.host_endpoint_key(old.value.endpoint)),
        Put(endpoint_key, name.encode()),
    )
    return Plan(compares, operations)


def _plan_removal(view: View, name: str, etag: str) -> Plan:
    host = find_host(view, "name", name)
    check_etag(etag, host.revision, f"host {name}")
    paths = sorted(view.paths_at.get(name, ()))
    if paths:
        what, them = (
            (f"a machine, {paths[0]}", "it")
            if len(paths) == 1
            else (f"{len(paths)} machines, among them {paths[0]}", "them")
        )
        raise StateError(f"name: host {name} has {what}; move or delete {them} first")
    return Plan(
        (Unchanged(keys.host_key(name), host.revision), NoneWithin(keys.at_prefix(name))),
        (
            Delete(keys.host_key(name)),
            Delete(keys.host_public_key_key(host.value.public_key)),
            Delete(keys.host_endpoint_key(host.value.endpoint)),
        ),
    )
