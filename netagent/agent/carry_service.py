"""CarryService: takes over flows for machines that move here; served over the mesh."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from ipaddress import IPv6Address, ip_address
from typing import Any

import grpc.aio

from netagent.agent.errors import as_status
from netagent.api.agent.v1 import carry_service_pb2 as pb
from netagent.api.agent.v1 import carry_service_pb2_grpc
from netagent.api.convert_carry import flows_from_message
from netagent.model.addresses import StableId
from netagent.model.errors import InvalidError, StateError
from netagent.model.flows import FLOWS_CARRIED_MAX, CarriedFlow

_Context = grpc.aio.ServicerContext[Any, Any]

CARRY_PORT = 7401
"""TCP, on each host's own stable address."""

LEARN_S = 2.0
"""The source may hear of a move before we do; so long a call waits for us to hear of it too."""


class CarryService(carry_service_pb2_grpc.CarryServiceServicer):
    """The service.

    find_source: returns the stable address of the host that a machine moves here from under an
    epoch, None when it does not; `wait_s`: how long it may wait for that to be known.
    held_by: returns the floating addresses that a machine has.
    take_over: adds flows, blocking; any thread.
    """

    def __init__(
        self,
        find_source: Callable[[StableId, int, float], Awaitable[IPv6Address | None]],
        held_by: Callable[[StableId], tuple[StableId, ...]],
        take_over: Callable[[Iterable[CarriedFlow]], int],
    ) -> None:
        self._find_source = find_source
        self._held_by = held_by
        self._take_over = take_over

    async def Carry(  # noqa: D102
        self, requests: AsyncIterator[pb.CarryRequest], context: _Context
    ) -> pb.CarryResponse:
        async with as_status(context):
            caller = _caller(context.peer())
            first = await anext(requests, pb.CarryRequest())
            if first.WhichOneof("message") != "begin":
                raise InvalidError("begin", "has to be the first message")
            stable_id, epoch = StableId(first.begin.id), first.begin.epoch
            await self._check(stable_id, epoch, caller, LEARN_S)
            taken = received = 0
            async for request in requests:
                flows = flows_from_message(request.flows)
                ids = stable_id, *self._held_by(stable_id)
                if not all(any(map(flow.has_end, ids)) for flow in flows):
                    raise InvalidError("flows.keys", "has a flow of another machine")
                received += len(flows)
                if received > FLOWS_CARRIED_MAX:
                    raise InvalidError("flows", f"are more than {FLOWS_CARRIED_MAX} in all")
                # Again for each part: the move may have ended meanwhile.
                await self._check(stable_id, epoch, caller)
                taken += await asyncio.to_thread(self._take_over, flows)
            return pb.CarryResponse(taken=taken)
        raise AssertionError("abort does not return")

    async def _check(
        self, stable_id: StableId, epoch: int, caller: IPv6Address | None, wait_s: float = 0
    ) -> None:
        source = await self._find_source(stable_id, epoch, wait_s)
        if source is None:
            raise StateError(f"{stable_id:016x} does not move to this host under epoch {epoch}")
        if caller != source:
            raise StateError(f"{stable_id:016x} moves from {source}, not from {caller}")


def _caller(peer: str) -> IPv6Address | None:
    """Return the address of a gRPC peer, `ipv6:%5Bfd00::1%5D:4000` or `ipv6:[fd00::1]:4000`."""
    text = peer.removeprefix("ipv6:").replace("%5B", "[").replace("%5D", "]")
    address, bracket, _ = text.removeprefix("[").partition("]")
    try:
        found = ip_address(address) if bracket else None
    except ValueError:
        return None
    return found if isinstance(found, IPv6Address) else None
