"""Sends the flows of machines that move away to where they move.

All of them while the move is prepared, and what has changed since once it has committed here, which
is when the machine is fenced and nothing changes any more.

Level-triggered: what is due follows from the view after each batch, so an agent that starts in the
middle of a move sends again, and the other side takes nothing twice. A failure is tried again for
as long as the machine moves; a move does not wait for it beyond control's bound.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final

import grpc
import grpc.aio

from netagent.agent.carry_service import CARRY_PORT
from netagent.api.agent.v1 import carry_service_pb2 as pb
from netagent.api.agent.v1 import carry_service_pb2_grpc
from netagent.api.convert_carry import flows_to_messages
from netagent.model.addresses import StableId
from netagent.model.errors import DataplaneError
from netagent.model.flows import CarriedFlow, SentFlows
from netagent.moves.reports import Carried
from netagent.reconcile.moving import Departure

log = logging.getLogger(__name__)

CARRY_TIMEOUT_S = 5.0
RETRY_S = 0.2

CHANNEL_OPTIONS: Final = (
    ("grpc.enable_http_proxy", 0),
    # Each attempt is a channel of its own: the time between attempts is ours to choose.
    ("grpc.use_local_subchannel_pool", 1),
)


class _Leaving:
    """A machine on its way out. committed: set once it is fenced here."""

    def __init__(self, task: asyncio.Task[None], committed: asyncio.Event) -> None:
        self.task = task
        self.committed = committed


class Carrier:
    """A task for each machine that leaves, so that none waits for another.

    flows_of: blocking; any thread. report: told (departure, what is to be said to control) after
    each success.
    """

    def __init__(
        self,
        flows_of: Callable[[StableId], list[CarriedFlow]],
        report: Callable[[Departure, Carried], None],
    ) -> None:
        self._flows_of = flows_of
        self._report = report
        self._leaving: dict[tuple[StableId, int], _Leaving] = {}

    def take(self, group: asyncio.TaskGroup, departures: Sequence[Departure]) -> None:
        """Do in `group` what follows from every machine that moves away now."""
        for key in self._leaving.keys() - {each.key for each in departures}:
            self._leaving.pop(key).task.cancel()
        for departure in departures:
            if departure.key not in self._leaving:
                committed = asyncio.Event()
                task = group.create_task(self._see_off(departure, committed))
                self._leaving[departure.key] = _Leaving(task, committed)
            if departure.is_committed:
                self._leaving[departure.key].committed.set()

    async def _see_off(self, departure: Departure, committed: asyncio.Event) -> None:
        """Carry all, and after the commit what has changed; as often as it takes."""
        sent = SentFlows()
        while True:
            try:
                await self._carry_on(departure, committed, sent)
            except (grpc.aio.AioRpcError, DataplaneError, TimeoutError) as error:
                detail = error.details() if isinstance(error, grpc.aio.AioRpcError) else str(error)
                log.warning(
                    "cannot carry flows id=%016x to=%s detail=%r",
                    *(departure.stable_id, departure.destination, detail or "no answer in time"),
                )
                await asyncio.sleep(RETRY_S)
            else:
                return

    async def _carry_on(
        self, departure: Departure, committed: asyncio.Event, sent: SentFlows
    ) -> None:
        target = f"[{departure.destination}]:{CARRY_PORT}"
        async with grpc.aio.insecure_channel(target, CHANNEL_OPTIONS) as channel:
            stub: Any = carry_service_pb2_grpc.CarryServiceStub(channel)
            is_final = False
            while not is_final:
                is_final = committed.is_set()
                await self._carry(stub, departure, sent, is_final=is_final)
                await committed.wait()

    async def _carry(
        self,
        stub: Any,
        departure: Departure,
        sent: SentFlows,
        *,
        is_final: bool,
    ) -> None:
        began_ns = time.monotonic_ns()
        flows = await asyncio.to_thread(self._flows_of, departure.stable_id)
        changed = sent.find_changed(flows, began_ns)
        async with asyncio.timeout(CARRY_TIMEOUT_S):
            response: pb.CarryResponse = await stub.Carry(_requests(departure, changed))
        sent.note(changed, began_ns)
        log.info(
            "flows carried id=%016x epoch=%d sent=%d taken=%d final=%s lasted_ms=%.1f",
            *(departure.stable_id, departure.epoch, len(changed), response.taken, is_final),
            (time.monotonic_ns() - began_ns) / 1e6,
        )
        self._report(departure, Carried(len(sent), is_final))


async def _requests(
    departure: Departure, flows: Sequence[CarriedFlow]
) -> AsyncIterator[pb.CarryRequest]:
    begin = pb.BeginCarry(id=departure.stable_id, epoch=departure.epoch)
    yield pb.CarryRequest(begin=begin)
    for message in flows_to_messages(flows):
        yield pb.CarryRequest(flows=message)
