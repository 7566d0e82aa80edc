"""The local API's server: AgentService, health and reflection, on a unix socket of root's."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from netagent.agent.service import AgentService
from netagent.api.agent.v1 import agent_service_pb2, agent_service_pb2_grpc
from netagent.model.errors import ConfigError

SERVICE = agent_service_pb2.DESCRIPTOR.services_by_name["AgentService"].full_name

SUN_PATH_MAX = 107
GRACE_S = 2.0


@asynccontextmanager
async def serve_local_api(path: Path, service: AgentService) -> AsyncIterator[None]:
    """Serve while the block runs; calls in flight have GRACE_S seconds after it.

    A socket that a killed agent left is replaced: the state lock says that nobody listens there.
    """
    if len(str(path).encode()) > SUN_PATH_MAX:
        raise ConfigError(f"run_dir: {path} is too long for a unix socket ({SUN_PATH_MAX} bytes)")
    await asyncio.to_thread(path.unlink, missing_ok=True)
    server = grpc.aio.server()
    agent_service_pb2_grpc.add_AgentServiceServicer_to_server(service, server)
    status = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(status, server)
    names = (SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
    reflection.enable_server_reflection(names, server)
    before = os.umask(0o177)
    try:
        server.add_insecure_port(f"unix://{path}")
    finally:
        os.umask(before)
    await server.start()
    for name in ("", SERVICE):
        await status.set(name, health_pb2.HealthCheckResponse.SERVING)
    try:
        yield
    finally:
        await status.enter_graceful_shutdown()
        await server.stop(GRACE_S)
        await asyncio.to_thread(path.unlink, missing_ok=True)
