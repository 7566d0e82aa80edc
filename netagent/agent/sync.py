"""The way to control: register, then hold the Sync stream; when it breaks, come back.

Drives SyncSession and Reconnect over grpc.aio and decides nothing itself.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final, TypeAlias

import grpc
import grpc.aio

from netagent.agent.conditions import Code, Conditions
from netagent.agent.config import AgentConfig
from netagent.agent.facts import OwnHost
from netagent.agent.intake import Intake
from netagent.agent.move_reports import MoveReports
from netagent.agent.respondent import Respondent
from netagent.agent.session import Malformed, SyncSession, Welcomed
from netagent.api.control.v1 import (
    host_service_pb2,
    host_service_pb2_grpc,
    machine_service_pb2,
    machine_service_pb2_grpc,
    sync_service_pb2,
    sync_service_pb2_grpc,
)
from netagent.api.convert import (
    endpoint_to_message,
    fleet_from_message,
    host_from_message,
    machine_from_message,
)
from netagent.model.errors import NetagentError, StateError
from netagent.model.fleet import Machine
from netagent.reconcile.batch import Batch
from netagent.reconcile.reconnect import Loss, Reconnect

log = logging.getLogger(__name__)

_SyncCall: TypeAlias = grpc.aio.StreamStreamCall[
    sync_service_pb2.SyncRequest, sync_service_pb2.SyncResponse
]

_Request: TypeAlias = sync_service_pb2.SyncRequest

CALL_TIMEOUT_S = 5.0
WELCOME_TIMEOUT_S = 10.0

CHANNEL_OPTIONS: Final = (
    # A control that died without closing its socket is noticed after 10 to 15 seconds.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.max_receive_message_length", 64 << 20),
    # Each attempt is a channel of its own: the time between attempts is Reconnect's to choose.
    ("grpc.use_local_subchannel_pool", 1),
)

_REFUSALS = {
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.UNIMPLEMENTED,
}


class ControlClient:
    """One task runs `run`. jitter: draws from 0 to 1."""

    def __init__(
        self,
        config: AgentConfig,
        public_key: bytes,
        intake: Intake,
        respondent: Respondent,
        reports: MoveReports,
        conditions: Conditions,
        jitter: Callable[[], float],
    ) -> None:
        self._config = config
        self._public_key = public_key
        self._intake = intake
        self._respondent = respondent
        self._reports = reports
        self._conditions = conditions
        self._jitter = jitter
        self._reconnect = Reconnect()
        self._is_registered = False

    @property
    def is_connected(self) -> bool:
        """Whether there is a stream on which a batch has been applied."""
        return self._reconnect.is_up

    async def run(self) -> None:
        """Register and stay in step, for ever."""
        while True:
            try:
                async with self._open() as channel:
                    await self._stay_in_step(channel)
            except grpc.aio.AioRpcError as error:
                is_refused = error.code() in _REFUSALS
                loss = Loss.REFUSED if is_refused else Loss.UNREACHABLE
                detail = f"{error.code().name}: {error.details()}"
            except asyncio.InvalidStateError as error:
                # grpc.aio says so when the stream has ended before a message is written to it.
                loss, detail = Loss.UNREACHABLE, str(error)
            except (NetagentError, TimeoutError, ConnectionError) as error:
                loss = Loss.REFUSED if isinstance(error, NetagentError) else Loss.UNREACHABLE
                detail = str(error) or "no answer in time"
            await self._wait(loss, detail)

    async def get_machine(self, name: str) -> Machine:
        """Ask control for a machine. Raises grpc.aio.AioRpcError."""
        async with self._open() as channel:
            stub = machine_service_pb2_grpc.MachineServiceStub(channel)
            request = machine_service_pb2.GetMachineRequest(machine=name)
            response = await stub.GetMachine(request, timeout=CALL_TIMEOUT_S)
        own = self._intake.own
        if own is None:
            raise StateError("this host is not registered yet; see the agent's conditions")
        return machine_from_message(own.fleet, response.machine)

    def _open(self) -> grpc.aio.Channel:
        return grpc.aio.insecure_channel(self._config.control, options=CHANNEL_OPTIONS)

    async def _stay_in_step(self, channel: grpc.aio.Channel) -> None:
        if not self._is_registered:
            await self._register(channel)
        current = SyncSession()
        stub = sync_service_pb2_grpc.SyncServiceStub(channel)
        call = stub.Sync()
        stream = _Stream(call)
        try:
            position = await self._intake.position()
            await stream.write(current.hello(self._config.name, *position))
            async with asyncio.timeout(WELCOME_TIMEOUT_S):
                await self._handle(stream, current, await stream.read())
            while True:
                await self._handle(stream, current, await stream.read())
        finally:
            stream.close()

    async def _register(self, channel: grpc.aio.Channel) -> None:
        stub = host_service_pb2_grpc.HostServiceStub(channel)
        request = host_service_pb2.RegisterHostRequest(
            name=self._config.name,
            region=self._config.region,
            public_key=self._public_key,
            endpoint=endpoint_to_message(self._config.endpoint),
        )
        response = await stub.RegisterHost(request, timeout=CALL_TIMEOUT_S)
        fleet = fleet_from_message(response.fleet)
        own = OwnHost(fleet, host_from_message(fleet, response.host))
        await self._intake.register(own)
        self._is_registered = True
        log.info("registered host=%s number=%d", own.host.name, own.host.number)

    async def _handle(
        self,
        stream: _Stream,
        current: SyncSession,
        response: sync_service_pb2.SyncResponse,
    ) -> None:
        match current.receive(response):
            case Welcomed(own=own):
                await self._intake.register(own)
            case Malformed(revision=revision, reason=reason):
                self._conditions.set(Code.BATCH_REJECTED, f"revision {revision}: {reason}")
                await stream.write(current.reject(revision, reason))
            case sync_service_pb2.Question() as question:
                await self._respondent.take(question, stream.write)
            case Batch() as batch:
                refusal = await self._intake.take(batch, was_away=stream.is_new)
                if refusal is not None:
                    await stream.write(current.reject(batch.revision, refusal))
                    return
                await stream.write(current.accept(batch.revision))
                stream.begin(self._reports.send)
                if self._reconnect.establish():
                    log.info("in step with control revision=%d", batch.revision)
                self._conditions.clear(Code.CONTROL_UNREACHABLE)
                self._conditions.clear(Code.REGISTRATION_REFUSED)
                await self._intake.finish()

    async def _wait(self, loss: Loss, detail: str) -> None:
        retry = self._reconnect.lose(loss, self._jitter())
        codes = {
            Loss.UNREACHABLE: Code.CONTROL_UNREACHABLE,
            Loss.REFUSED: Code.REGISTRATION_REFUSED,
        }
        self._conditions.set(codes.pop(retry.loss), detail)
        for code in codes.values():
            self._conditions.clear(code)
        await asyncio.sleep(retry.delay_s)


class _Stream:
    """One Sync call. Several tasks write to it, and grpc takes one message at a time."""

    def __init__(self, call: _SyncCall) -> None:
        self._call = call
        self._writing = asyncio.Lock()
        self._reporting: asyncio.Task[None] | None = None

    @property
    def is_new(self) -> bool:
        """Whether no batch has been applied on it."""
        return self._reporting is None

    def begin(self, report: Callable[[Callable[[_Request], Awaitable[None]]], Any]) -> None:
        """Have a coroutine function write what it likes, until the end; only the first time."""
        if self._reporting is None:
            self._reporting = asyncio.create_task(self._bear(report))

    def close(self) -> None:
        """End the call."""
        if self._reporting is not None:
            self._reporting.cancel()
        self._call.cancel()

    async def _bear(self, report: Callable[[Callable[[_Request], Awaitable[None]]], Any]) -> None:
        """Whoever reads learns what has become of the stream."""
        with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            await report(self.write)

    async def write(self, message: sync_service_pb2.SyncRequest) -> None:
        async with self._writing:
            await self._call.write(message)

    async def read(self) -> sync_service_pb2.SyncResponse:
        call = self._call
        response = await call.read()
        if isinstance(response, sync_service_pb2.SyncResponse):
            return response
        if await call.code() is not grpc.StatusCode.OK:
            raise grpc.aio.AioRpcError(
                await call.code(),
                await call.initial_metadata(),
                await call.trailing_metadata(),
                details=await call.details(),
            )
        raise ConnectionError("control closed the stream")
