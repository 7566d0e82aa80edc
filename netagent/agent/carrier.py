"""Sends the flows of machines that move away to where they move: all while the move is prepared,
and what has changed since once it has committed.

Level-triggered: what is due follows from the view after each batch, so an agent that starts in the
middle of a move sends again, and the other side takes nothing twice. A failure is tried again for
as long as the machine moves; a move does not wait for it beyond control's bound.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv6Address

import grpc
import grpc.aio

from netagent.agent.carry_service import CARRY_PORT
from netagent.api.agent.v1 import carry_service_pb2 as pb
from netagent.api.agent.v1 import carry_service_pb2_grpc
from netagent.api.convert_carry import flows_to_messages
from netagent.model.addresses import StableId
from netagent.model.errors import DataplaneError
from netagent.model.flows import CarriedFlow, changed_flows

log = logging.getLogger(__name__)

CARRY_TIMEOUT_S = 5.0
RETRY_S = 0.2


@dataclass(frozen=True, slots=True)
class Departure:
    """A machine that moves away from here.

    epoch: the move's. destination: the stable address of the host it moves to. is_committed: it is
    located there already.
    """

    stable_id: StableId
    epoch: int
    destination: IPv6Address
    is_committed: bool


@dataclass(slots=True)
class _Progress:
    """sent: key to flags. is_final: also what changed until the commit."""

    sent: dict[bytes, int] = field(default_factory=dict)
    is_begun: bool = False
    is_final: bool = False


class Carrier:
    """One task runs `run`.

    find_departures: returns every machine that moves away now. flows_of: blocking; any thread.
    report: told (departure, flows sent) after each success.
    """

    def __init__(
        self,
        find_departures: Callable[[], Awaitable[Sequence[Departure]]],
        flows_of: Callable[[StableId], list[CarriedFlow]],
        report: Callable[[Departure, int], None],
    ) -> None:
        self._find_departures = find_departures
        self._flows_of = flows_of
        self._report = report
        self._wake = asyncio.Event()
        self._progress: dict[tuple[StableId, int], _Progress] = {}

    def wake(self) -> None:
        """Look whether anything is due."""
        self._wake.set()

    async def run(self) -> None:
        """Send what is due, for ever; machines side by side."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            departures = await self._find_departures()
            current = {(each.stable_id, each.epoch) for each in departures}
            self._progress = {key: one for key, one in self._progress.items() if key in current}
            due = [each for each in departures if self._is_due(each)]
            done = await asyncio.gather(*(self._carry(each) for each in due))
            if not all(done):
                await asyncio.sleep(RETRY_S)
                self._wake.set()

    def _is_due(self, departure: Departure) -> bool:
        progress = self._progress.get((departure.stable_id, departure.epoch))
        if progress is None or not progress.is_begun:
            return True
        return departure.is_committed and not progress.is_final

    async def _carry(self, departure: Departure) -> bool:
        key = departure.stable_id, departure.epoch
        progress = self._progress.setdefault(key, _Progress())
        try:
            flows = await asyncio.to_thread(self._flows_of, departure.stable_id)
            changed = changed_flows(progress.sent, flows)
            async with asyncio.timeout(CARRY_TIMEOUT_S):
                taken = await _send(departure, changed)
        except (grpc.aio.AioRpcError, DataplaneError, TimeoutError) as error:
            detail = error.details() if isinstance(error, grpc.aio.AioRpcError) else str(error)
            log.warning("cannot carry flows id=%016x detail=%r", departure.stable_id, detail)
            return False
        progress.sent |= {flow.key: flow.flags for flow in changed}
        progress.is_begun = True
        progress.is_final = departure.is_committed
        log.info(
            "flows carried id=%016x epoch=%d sent=%d taken=%d final=%s",
            departure.stable_id,
            departure.epoch,
            len(changed),
            taken,
            progress.is_final,
        )
        self._report(departure, len(progress.sent))
        return True


async def _send(departure: Departure, flows: Sequence[CarriedFlow]) -> int:
    async def requests() -> AsyncIterator[pb.CarryRequest]:
        begin = pb.BeginCarry(id=departure.stable_id, epoch=departure.epoch)
        yield pb.CarryRequest(begin=begin)
        for message in flows_to_messages(flows):
            yield pb.CarryRequest(flows=message)

    target = f"[{departure.destination}]:{CARRY_PORT}"
    async with grpc.aio.insecure_channel(target) as channel:
        stub = carry_service_pb2_grpc.CarryServiceStub(channel)
        response: pb.CarryResponse = await stub.Carry(requests())
        return response.taken
