"""MoveService: moving a machine's address, and reading moves."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator
from typing import Any

import grpc.aio
from google.protobuf.duration_pb2 import Duration

from netagent.api.control.v1 import move_service_pb2 as pb
from netagent.api.control.v1 import move_service_pb2_grpc
from netagent.api.convert import move_to_message
from netagent.control.move_plans import plan_begin
from netagent.control.moves_driver import MovesDriver
from netagent.control.paging import check_page_size, read_page_token, take_page
from netagent.control.sync_hub import SyncHub
from netagent.control.validation import resolve_machine
from netagent.control.view import View
from netagent.control.writer import Plan, Writer
from netagent.model.errors import NotFoundError, StateError, UnavailableError
from netagent.model.fleet import MovePhase, check_name

_Context = grpc.aio.ServicerContext[Any, Any]
_ENDED = (MovePhase.SETTLED, MovePhase.ABORTED)


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
        move_id = _make_move_id(time.time_ns() // 1_000_000, secrets.randbits(32))

        def plan(view: View) -> Plan:
            planned = plan_begin(view, move_id, request.machine, request.destination, request.etag)
            if not self._hub.is_connected(request.destination):
                raise StateError(
                    f"destination: the agent of host {request.destination} is not connected;"
                    " start it first"
                )
            return planned

        async with self._driver.follow(move_id) as phases:
            await self._writer.write(plan)
            while True:
                record = await phases.get()
                if isinstance(record, UnavailableError):
                    raise record
                phase = record.move.phase
                lagging = {
                    MovePhase.COMMITTED: record.prepare_lagging,
                    MovePhase.SETTLED: record.settle_lagging,
                }.get(phase, ())
                elapsed = Duration()
                elapsed.FromNanoseconds(time.monotonic_ns() - began_ns)
                yield pb.MoveAddressResponse(
                    move=move_to_message(record.move), elapsed=elapsed, lagging_hosts=lagging
                )
                if phase in _ENDED:
                    return

    async def GetMove(  # noqa: D102
        self, request: pb.GetMoveRequest, context: _Context
    ) -> pb.GetMoveResponse:
        view = await self._writer.feed.catch_up()
        stored = view.moves.get(request.move_id)
        if stored is None:
            raise NotFoundError(f"move_id: there is no move {request.move_id!r}")
        return pb.GetMoveResponse(move=move_to_message(stored.value.move))

    async def ListMoves(  # noqa: D102
        self, request: pb.ListMovesRequest, context: _Context
    ) -> pb.ListMovesResponse:
        size = check_page_size(request.page_size)
        query = "moves", request.machine, str(request.active_only)
        before = read_page_token(request.page_token, *query)
        view = await self._writer.feed.catch_up()
        machine = _read_machine_filter(view, request.machine)
        entries = (
            (move_id, stored.value.move)
            for move_id, stored in view.moves.before(before)
            if machine in ("", stored.value.move.machine)
            and not (request.active_only and stored.value.move.phase in _ENDED)
        )
        moves, token = take_page(entries, size, *query)
        return pb.ListMovesResponse(
            moves=[move_to_message(move) for move in moves], next_page_token=token
        )


def _make_move_id(now_ms: int, random_bits: int) -> str:
    """Return an id that sorts by time. now_ms: since 1970. random_bits: 32 of them."""
    return f"{now_ms:011x}-{random_bits:08x}"


def _read_machine_filter(view: View, machine: str) -> str:
    """Return NETWORK/NAME; one written out need not exist any more."""
    network, slash, name = machine.partition("/")
    if slash:
        return f"{check_name('machine', network)}/{check_name('machine', name)}"
    return resolve_machine(view, machine) if machine else ""
