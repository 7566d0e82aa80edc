"""The other end of one agent's Sync stream, in the hands of a test: it says what the test says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc.aio
from agent_rig import FLEET, H1, H2, H3

from netagent.api.control.v1 import (
    host_service_pb2,
    host_service_pb2_grpc,
    sync_service_pb2,
    sync_service_pb2_grpc,
)
from netagent.api.convert import fleet_to_message, host_to_message


class ScriptedControl(
    host_service_pb2_grpc.HostServiceServicer, sync_service_pb2_grpc.SyncServiceServicer
):
    """Welcomes the agent of h1; then `send` speaks, and `hear` returns what the agent said."""

    def __init__(self) -> None:
        self._said: asyncio.Queue[sync_service_pb2.SyncRequest] = asyncio.Queue()
        self._to_say: asyncio.Queue[sync_service_pb2.SyncResponse] = asyncio.Queue()
        self.hello: sync_service_pb2.Hello | None = None

    async def RegisterHost(self, request, context):
        return host_service_pb2.RegisterHostResponse(
            fleet=fleet_to_message(FLEET), host=host_to_message(FLEET, H1)
        )

    async def Sync(self, requests, context):
        self.hello = (await context.read()).hello
        yield sync_service_pb2.SyncResponse(
            welcome=sync_service_pb2.Welcome(
                fleet=fleet_to_message(FLEET),
                host=host_to_message(FLEET, H1),
                snapshot=not self.hello.revision,
            )
        )
        listening = asyncio.ensure_future(self._listen(context))
        try:
            while True:
                yield await self._to_say.get()
        finally:
            listening.cancel()

    async def _listen(self, context) -> None:
        while (request := await context.read()) is not grpc.aio.EOF:
            await self._said.put(request)

    async def send(self, *updates: sync_service_pb2.Update) -> None:
        for update in updates:
            await self._to_say.put(sync_service_pb2.SyncResponse(update=update))

    async def ask(self, number: int, flow) -> None:
        question = sync_service_pb2.Question(number=number, flow=flow)
        await self._to_say.put(sync_service_pb2.SyncResponse(question=question))

    async def hear(self) -> sync_service_pb2.SyncRequest:
        async with asyncio.timeout(10):
            return await self._said.get()


def hosts() -> list:
    return [host_to_message(FLEET, host) for host in (H1, H2, H3)]


@asynccontextmanager
async def scripted_control(directory: Path) -> AsyncIterator[ScriptedControl]:
    control = ScriptedControl()
    server = grpc.aio.server()
    host_service_pb2_grpc.add_HostServiceServicer_to_server(control, server)
    sync_service_pb2_grpc.add_SyncServiceServicer_to_server(control, server)
    server.add_insecure_port(f"unix://{directory}/control.sock")
    await server.start()
    try:
        yield control
    finally:
        await server.stop(None)
