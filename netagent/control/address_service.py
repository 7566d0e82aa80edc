"""AddressService: floating addresses, and who has them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import grpc.aio
from google.protobuf.duration_pb2 import Duration

from netagent.api.control.v1 import address_service_pb2 as pb
from netagent.api.control.v1 import address_service_pb2_grpc
from netagent.api.convert import address_to_message
from netagent.api.types.v1 import types_pb2
from netagent.control.address_plans import (
    Expectation,
    locate,
    plan_assignment,
    plan_creation,
    plan_deletion,
    plan_release,
    resolve_address,
)
from netagent.control.paging import check_page_size, make_etag, read_page_token, take_page
from netagent.control.sync_hub import SyncHub
from netagent.control.validation import find_network
from netagent.control.view import View
from netagent.control.writer import Plan, Writer
from netagent.model.addresses import network_of
from netagent.model.errors import NotFoundError
from netagent.model.fleet import check_name

_Context = grpc.aio.ServicerContext[Any, Any]


class AddressService(address_service_pb2_grpc.AddressServiceServicer):
    """The service on a writer; the hub knows how far hosts are.

    bound_s: how long an assignment waits for hosts.
    """

    def __init__(self, writer: Writer, hub: SyncHub, bound_s: float) -> None:
        self._writer = writer
        self._hub = hub
        self._bound_s = bound_s

    async def CreateAddress(  # noqa: D102
        self, request: pb.CreateAddressRequest, context: _Context
    ) -> pb.CreateAddressResponse:
        network = check_name("network", request.network)
        name = check_name("name", request.name)
        view = await self._writer.write(
            lambda view: plan_creation(view, network, name, request.machine),
            scopes=(f"machines of {network}",),
        )
        return pb.CreateAddressResponse(address=_read(view, f"{network}/{name}"))

    async def ListAddresses(  # noqa: D102
        self, request: pb.ListAddressesRequest, context: _Context
    ) -> pb.ListAddressesResponse:
        size = check_page_size(request.page_size)
        query = "addresses", request.network
        after = read_page_token(request.page_token, *query)
        view = await self._writer.feed.catch_up()
        if request.network:
            find_network(view, "network", request.network)
        entries = view.addresses.after(after, f"{request.network}/" if request.network else "")
        found, token = take_page(entries, size, *query)
        return pb.ListAddressesResponse(
            addresses=[_read(view, one.value.path) for one in found], next_page_token=token
        )

    async def AssignAddress(  # noqa: D102
        self, request: pb.AssignAddressRequest, context: _Context
    ) -> pb.AssignAddressResponse:
        expected = Expectation(request.expected_holder, request.etag)
        return pb.AssignAddressResponse(
            **await self._change(
                request.address,
                lambda view: plan_assignment(view, request.address, request.machine, expected),
            )
        )

    async def ReleaseAddress(  # noqa: D102
        self, request: pb.ReleaseAddressRequest, context: _Context
    ) -> pb.ReleaseAddressResponse:
        expected = Expectation(request.expected_holder, request.etag)
        return pb.ReleaseAddressResponse(
            **await self._change(
                request.address, lambda view: plan_release(view, request.address, expected)
            )
        )

    async def DeleteAddress(  # noqa: D102
        self, request: pb.DeleteAddressRequest, context: _Context
    ) -> pb.DeleteAddressResponse:
        await self._writer.write(lambda view: plan_deletion(view, request.address, request.etag))
        return pb.DeleteAddressResponse()

    async def _change(self, address: str, plan: Callable[[View], Plan]) -> dict[str, Any]:
        """Write a change of holder, wait for the hosts; return the fields of the response."""
        began_ns = time.monotonic_ns()
        view = await self._writer.write(plan)
        path = resolve_address(view, address)
        stored = view.addresses[path]
        changed = _read(view, path)
        needing = view.interest.hosts(network_of(stored.value.stable_id))
        lagging = await self._wait(needing, stored.revision)
        elapsed = Duration()
        elapsed.FromNanoseconds(time.monotonic_ns() - began_ns)
        return {
            "address": changed,
            "elapsed": elapsed,
            "lagging_hosts": lagging,
            "away_hosts": sorted(host for host in needing if not self._hub.is_connected(host)),
        }

    async def _wait(self, hosts: set[str], revision: int) -> list[str]:
        """Wait until all connected ones of some hosts have applied a revision; name the others."""

        def lagging() -> list[str]:
            applied = ((host, self._hub.applied_revision(host)) for host in sorted(hosts))
            return [host for host, held in applied if held is not None and held < revision]

        try:
            with self._hub.progress() as progressed:
                async with asyncio.timeout(self._bound_s):
                    while lagging():
                        progressed.clear()
                        await progressed.wait()
        except TimeoutError:
            return lagging()
        return []


def _read(view: View, path: str) -> types_pb2.FloatingAddress:
    stored = view.addresses.get(path)
    if stored is None:
        raise NotFoundError(f"address: {path} was deleted by another caller meanwhile")
    return address_to_message(
        view.fleet,
        stored.value,
        host=locate(view, stored.value),
        etag=make_etag(stored.revision),
    )
