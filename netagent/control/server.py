"""The composition root of a control process: store, view, driver, services, server."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import secrets
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from netagent.api.control.v1 import (
    address_service_pb2,
    address_service_pb2_grpc,
    host_service_pb2,
    host_service_pb2_grpc,
    machine_service_pb2,
    machine_service_pb2_grpc,
    move_service_pb2,
    move_service_pb2_grpc,
    network_service_pb2,
    network_service_pb2_grpc,
    policy_service_pb2,
    policy_service_pb2_grpc,
    sync_service_pb2,
    sync_service_pb2_grpc,
)
from netagent.control import keys
from netagent.control.address_service import AddressService
from netagent.control.config import ControlConfig
from netagent.control.errors import ErrorInterceptor
from netagent.control.feed import Feed
from netagent.control.host_service import HostService
from netagent.control.listen import bind, grpc_targets, prepare_socket
from netagent.control.logging import log_event
from netagent.control.machine_service import MachineService
from netagent.control.move_service import MoveService
from netagent.control.moves_driver import MovesDriver
from netagent.control.named_identities import NamedIdentities
from netagent.control.network_service import NetworkService
from netagent.control.policy_service import PolicyService
from netagent.control.policy_tables import PolicyTables
from netagent.control.records import decode_fleet, encode_fleet
from netagent.control.sync_hub import SyncHub
from netagent.control.sync_service import SyncService
from netagent.control.writer import Writer
from netagent.model.addresses import Fleet, random_prefix
from netagent.model.errors import ConfigError, UnavailableError
from netagent.store.contract import Put, Store, Unchanged
from netagent.store.sqlite import SqliteStore
from netagent.systemd.notify import find_supervisor

STOP_GRACE_S = 2.0

_SERVICES = tuple(
    module.DESCRIPTOR.services_by_name[name].full_name
    for module, name in (
        (address_service_pb2, "AddressService"),
        (host_service_pb2, "HostService"),
        (machine_service_pb2, "MachineService"),
        (move_service_pb2, "MoveService"),
        (network_service_pb2, "NetworkService"),
        (policy_service_pb2, "PolicyService"),
        (sync_service_pb2, "SyncService"),
    )
)

_OPTIONS = (
    # A dead agent is found out within 15 s, so that moves stop waiting for it.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.so_reuseport", 0),
)


@dataclass(frozen=True, slots=True)
class Control:
    """A running control process. targets: what clients dial."""

    targets: tuple[str, ...]
    fleet: Fleet


async def run_control(config: ControlConfig) -> None:
    """Run until SIGTERM or SIGINT.

    Raises ConfigError for what the configuration gets wrong, StateError while another process uses
    the state directory, UnavailableError when store or address cannot be used.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        supervisor = find_supervisor(os.environ)
        async with serve_control(config), asyncio.TaskGroup() as tasks:
            # What was loaded mostly stays. Walked by every full collection, a large fleet would
            # hold up moves each time that a policy is compiled.
            gc.collect()
            gc.freeze()
            watchdog = tasks.create_task(supervisor.watch(_turn_of_the_loop), name="watchdog")
            supervisor.ready()
            await stop.wait()
            supervisor.stopping()
            watchdog.cancel()
            log_event(logging.INFO, "control stopping")
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


async def _turn_of_the_loop() -> None:
    """Return when the event loop has come round."""
    await asyncio.sleep(0)


@asynccontextmanager
async def serve_control(config: ControlConfig) -> AsyncIterator[Control]:
    """Serve for as long as the context is open; see run_control for the errors."""
    targets = grpc_targets(config)
    store = await SqliteStore.open(config.state_dir / "store.sqlite")
    try:
        for target in targets:
            prepare_socket(target)
        fleet = await _open_fleet(store, config)
        feed = Feed(store, fleet)
        await feed.load()
        writer = Writer(store, feed)
        policies = PolicyTables(feed.view)
        hub = SyncHub(feed.view, policies, config.head_start_s)
        driver = MovesDriver(
            writer,
            hub,
            prepare_bound_s=config.prepare_bound_s,
            settle_bound_s=config.settle_bound_s,
            drain_s=config.drain_s,
        )
        server = grpc.aio.server(interceptors=(ErrorInterceptor(),), options=_OPTIONS)
        addresses = AddressService(writer, hub, config.settle_bound_s)
        _add_services(server, addresses, writer, policies, hub, driver)
        healthy = _add_standard_services(server)
        async with asyncio.TaskGroup() as tasks:
            following = tasks.create_task(feed.run())
            driving = tasks.create_task(driver.run())
            try:
                await NamedIdentities(writer, policies).settle_all()
                bound = tuple(bind(server, target) for target in targets)
                await server.start()
                for service in ("", *_SERVICES):
                    await healthy.set(service, health_pb2.HealthCheckResponse.SERVING)
                log_event(
                    logging.INFO,
                    "control serving",
                    listen=",".join(bound),
                    fleet=fleet.fleet_id,
                    prefix=fleet.prefix,
                    revision=feed.view.revision,
                )
                yield Control(bound, fleet)
            finally:
                await healthy.enter_graceful_shutdown()
                hub.close_all(UnavailableError("control is stopping; come back"))
                driving.cancel()
                await server.stop(STOP_GRACE_S)
                following.cancel()
                policies.close()
    except BaseExceptionGroup as group:
        # Mostly one thing went wrong, and the groups around it say nothing more.
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
            error = error.exceptions[0]
        raise error from None
    finally:
        await store.close()


def _add_services(
    server: grpc.aio.Server,
    addresses: AddressService,
    writer: Writer,
    policies: PolicyTables,
    hub: SyncHub,
    driver: MovesDriver,
) -> None:
    address_service_pb2_grpc.add_AddressServiceServicer_to_server(addresses, server)
    host_service_pb2_grpc.add_HostServiceServicer_to_server(HostService(writer, hub), server)
    machine_service_pb2_grpc.add_MachineServiceServicer_to_server(
        MachineService(writer, policies), server
    )
    move_service_pb2_grpc.add_MoveServiceServicer_to_server(
        MoveService(writer, driver, hub), server
    )
    network_service_pb2_grpc.add_NetworkServiceServicer_to_server(NetworkService(writer), server)
    policy_service_pb2_grpc.add_PolicyServiceServicer_to_server(
        PolicyService(writer, policies, hub), server
    )
    sync_service_pb2_grpc.add_SyncServiceServicer_to_server(SyncService(writer.feed, hub), server)


async def _open_fleet(store: Store, config: ControlConfig) -> Fleet:
    """Return the fleet, made now if there is none."""
    new = Fleet(secrets.token_hex(8), config.prefix or random_prefix())
    revision = await store.transact(
        (Unchanged(keys.FLEET, 0),), (Put(keys.FLEET, encode_fleet(new)),)
    )
    if revision is not None:
        log_event(logging.INFO, "fleet made", fleet=new.fleet_id, prefix=new.prefix)
    item = await store.get(keys.FLEET)
    if item is None:
        raise UnavailableError("the store does not return the fleet's record; call again")
    fleet = decode_fleet(item.value)
    if config.prefix not in (None, fleet.prefix):
        raise ConfigError(
            f"prefix: {config.prefix} is not that of this fleet, {fleet.prefix}, which cannot"
            " change; leave the option out, or use another state directory for another fleet"
        )
    return fleet


def _add_standard_services(server: grpc.aio.Server) -> health.aio.HealthServicer:
    servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    names = (*_SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME)
    reflection.enable_server_reflection(names, server)
    return servicer
