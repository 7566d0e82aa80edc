"""Serves what agents say to each other: over the mesh, on the host's own stable address.

Nothing else authenticates the caller, and nothing else has to: WireGuard knows who sent a packet,
and the receiving program drops what does not come from where its source is located.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable
from ipaddress import IPv6Address
from typing import Final, NoReturn

import grpc.aio

from netagent.agent.carry_service import CARRY_PORT, CarryService
from netagent.agent.pulse import Pulse
from netagent.api.agent.v1 import carry_service_pb2_grpc

log = logging.getLogger(__name__)

RETRY_S = 0.5
"""The address comes with the host's interface; how long until we look again."""

CALLS_MAX = 64

OPTIONS: Final = (("grpc.so_reuseport", 0),)


class MeshServer:
    """One task runs `run`.

    find_address: returns the host's own stable address once that is known. changed: beats when it
    may have become another.
    """

    def __init__(
        self,
        service: CarryService,
        find_address: Callable[[], Awaitable[IPv6Address]],
        changed: Pulse,
    ) -> None:
        self._service = service
        self._find_address = find_address
        self._changed = changed

    async def run(self) -> NoReturn:
        """Serve, for ever. A listener outlives its interface, if that comes back."""
        while True:
            address = await self._find_address()
            if not _is_ours(address):
                await asyncio.sleep(RETRY_S)
                continue
            server = grpc.aio.server(options=OPTIONS, maximum_concurrent_rpcs=CALLS_MAX)
            carry_service_pb2_grpc.add_CarryServiceServicer_to_server(self._service, server)
            try:
                server.add_insecure_port(f"[{address}]:{CARRY_PORT}")
            except RuntimeError as error:
                log.warning("cannot serve on the mesh address=%s detail=%r", address, str(error))
                await asyncio.sleep(RETRY_S)
                continue
            await server.start()
            log.info("serves on the mesh address=%s port=%d", address, CARRY_PORT)
            try:
                await self._wait_for_another(address)
            finally:
                await server.stop(None)

    async def _wait_for_another(self, address: IPv6Address) -> None:
        while True:
            beat = self._changed.next
            if await self._find_address() != address:
                return
            await beat.wait()


def _is_ours(address: IPv6Address) -> bool:
    """Whether the address is on an interface here, and so can be bound."""
    with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((str(address), 0))
        except OSError:
            return False
        return True
