"""MoveService: moving a machine's address, committing and undoing, and reading moves."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator
from typing import Any

import grpc.aio
from google.protobuf.duration_pb2 import Duration

from netagent.api.control.v1 import move_service_pb2 as pb
from netagent.api.control.v1 import move_service_pb2_grpc
from netagent.api.convert import move_to_message, trigger_from_message
from netagent.api.types.v1 import types_pb2
from netagent.control.move_begin import Wish, plan_begin
from netagent.control.move_drain import plan_host_drain
from netagent.control.move_plans import plan_abort, plan_call
from netagent.control.moves_driver import Followed, MovesDriver
from netagent.control.paging import check_page_size, read_page_token, take_page
from netagent.control.records import READY_BOUND_S, MoveRecord
from netagent.control.sync_hub import SyncHub
from netagent.control.validation import resolve_machine
from netagent.control.view import View
from netagent.control.writer import Plan, Writer
from netagent.model.errors import InvalidError, NotFoundError, StateError, UnavailableError
from netagent.model.fleet import ENDED_PHASES, MovePhase, check_name

READY_BOUND_MAX_S = 7 * 86_400.0
REASON_MAX = 200

_ORDER = tuple(MovePhase)
_Context = grpc.aio.ServicerContext[Any, Any]


class MoveService(move_service_pb2_grpc.MoveServiceServicer):
    """The service on a writer and the driver; the hub knows who is connected."""

    def __init__(self, writer: Writer, driver: MovesDriver, hub: SyncHub) -> None:
        self._writer = writer
        self._driver = driver
        self._hub = hub

    async def MoveAddress(  # noqa: D102
        self, request: pb.MoveAddressRequest, context: _Context
    ) -> AsyncIterator[pb.MoveAddressResponse]:
        began_ns = time.monotonic_ns()
        wish = _read_wish(request)
        move_id = _make_move_id(time.time_ns() // 1_000_000, secrets.randbits(32))

        def plan(view: View) -> Plan:
            return plan_begin(view, move_id, wish, self._hub.is_connected, self._hub.is_reporting)

        async with self._driver.follow(move_id) as phases:
            await self._writer.write(plan)
            async for record in _until_ended(phases):
                elapsed = Duration()
                elapsed.FromNanoseconds(time.monotonic_ns() - began_ns)
                yield pb.MoveAddressResponse(
                    move=_message(record), elapsed=elapsed, lagging_hosts=_lagging(record)
                )

    async def WatchMove(  # noqa: D102
        self, request: pb.WatchMoveRequest, context: _Context
    ) -> AsyncIterator[pb.WatchMoveResponse]:
        async with self._driver.follow(request.move_id) as phases:
            record = _find(await self._writer.feed.catch_up(), request.move_id)
            yield pb.WatchMoveResponse(move=_message(record), lagging_hosts=_lagging(record))
            if record.move.phase in ENDED_PHASES:
                return
            known = _ORDER.index(record.move.phase)
            async for record in _until_ended(phases):
                # What was recorded between following and reading has been sent already.
                if _ORDER.index(record.move.phase) > known:
                    yield pb.WatchMoveResponse(
                        move=_message(record), lagging_hosts=_lagging(record)
                    )

    async def CommitMove(  # noqa: D102
        self, request: pb.CommitMoveRequest, context: _Context
    ) -> pb.CommitMoveResponse:
        move_id = request.move_id
        async with self._driver.follow(move_id) as phases:
            view = await self._writer.write(
                lambda view: plan_call(view, move_id, *self._driver.progress(move_id))
            )
            record = _find(view, move_id)
            while record.move.phase in (MovePhase.PREPARING, MovePhase.READY):
                record = _read(await phases.get())
        if record.move.phase is MovePhase.ABORTED:
            raise StateError(f"move_id: {move_id} was aborted: {record.reason}")
        return pb.CommitMoveResponse(move=_message(record))

    async def AbortMove(  # noqa: D102
        self, request: pb.AbortMoveRequest, context: _Context
    ) -> pb.AbortMoveResponse:
        if len(request.reason) > REASON_MAX:
            raise InvalidError("reason", f"has more than {REASON_MAX} characters")
        reason = request.reason or "somebody asked for it"
        view = await self._writer.write(lambda view: plan_abort(view, request.move_id, reason))
        return pb.AbortMoveResponse(move=_message(_find(view, request.move_id)))

    async def PlanDrain(  # noqa: D102
        self, request: pb.PlanDrainRequest, context: _Context
    ) -> pb.PlanDrainResponse:
        view = await self._writer.feed.catch_up()
        drain = plan_host_drain(view, request, self._hub.is_connected)
        return pb.PlanDrainResponse(
            assignments=[
                pb.PlanDrainResponse.Assignment(machine=machine, destination=destination)
                for machine, destination in drain.plan.assignments
            ],
            unplaced=[
                pb.PlanDrainResponse.Unplaced(machine=machine, reason=reason)
                for machine, reason in drain.plan.unplaced
            ],
            under_way=[_message(record) for record in drain.under_way],
        )

    async def GetMove(  # noqa: D102
        self, request: pb.GetMoveRequest, context: _Context
    ) -> pb.GetMoveResponse:
        view = await self._writer.feed.catch_up()
        return pb.GetMoveResponse(move=_message(_find(view, request.move_id)))

    async def ListMoves(  # noqa: D102
        self, request: pb.ListMovesRequest, context: _Context
    ) -> pb.ListMovesResponse:
        size = check_page_size(request.page_size)
        query = "moves", request.machine, str(request.active_only)
        before = read_page_token(request.page_token, *query)
        view = await self._writer.feed.catch_up()
        machine = _read_machine_filter(view, request.machine)
        entries = (
            (move_id, stored.value)
            for move_id, stored in view.moves.before(before)
            if machine in ("", stored.value.move.machine)
            and not (request.active_only and stored.value.move.phase in ENDED_PHASES)
        )
        moves, token = take_page(entries, size, *query)
        return pb.ListMovesResponse(moves=[_message(move) for move in moves], next_page_token=token)


def _read_wish(request: pb.MoveAddressRequest) -> Wish:
    bound_s = READY_BOUND_S
    if request.HasField("ready_bound"):
        bound_s = request.ready_bound.ToTimedelta().total_seconds()
        if not 1 <= bound_s <= READY_BOUND_MAX_S:
            raise InvalidError(
                "ready_bound", f"{bound_s:g} s is not within 1 s to {READY_BOUND_MAX_S:g} s"
            )
    return Wish(
        machine=request.machine,
        destination=request.destination,
        etag=request.etag,
        trigger=trigger_from_message(request.trigger),
        ready_bound_s=bound_s,
        is_forced=request.force,
        is_source_dead=request.source_is_dead,
    )


async def _until_ended(phases: Followed) -> AsyncIterator[MoveRecord]:
    while True:
        record = _read(await phases.get())
        yield record
        if record.move.phase in ENDED_PHASES:
            return


def _read(followed: MoveRecord | UnavailableError) -> MoveRecord:
    if isinstance(followed, UnavailableError):
        raise followed
    return followed


def _find(view: View, move_id: str) -> MoveRecord:
    stored = view.moves.get(move_id)
    if stored is None:
        raise NotFoundError(f"move_id: there is no move {move_id!r}")
    return stored.value


def _message(record: MoveRecord) -> types_pb2.Move:
    return move_to_message(
        record.move,
        carried=record.carried,
        warnings=record.warnings,
        reason=record.reason,
        is_called=record.is_called,
    )


def _lagging(record: MoveRecord) -> tuple[str, ...]:
    """Return the hosts that had not applied the phase that ended with the record's."""
    match record.move.phase:
        case MovePhase.READY | MovePhase.COMMITTED:
            return record.prepare_lagging
        case MovePhase.SETTLED:
            return record.settle_lagging
        case _:
            return ()


def _make_move_id(now_ms: int, random_bits: int) -> str:
    """Return an id that sorts by time. now_ms: since 1970. random_bits: 32 of them."""
    return f"{now_ms:011x}-{random_bits:08x}"


def _read_machine_filter(view: View, machine: str) -> str:
    """Return NETWORK/NAME; one written out need not exist any more."""
    network, slash, name = machine.partition("/")
    if slash:
        return f"{check_name('machine', network)}/{check_name('machine', name)}"
    return resolve_machine(view, machine) if machine else ""
