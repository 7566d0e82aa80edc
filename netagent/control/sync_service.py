"""SyncService: one stream for each agent."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import grpc.aio

from netagent.api.control.v1 import sync_service_pb2 as pb
from netagent.api.control.v1 import sync_service_pb2_grpc
from netagent.api.convert import fleet_to_message, host_to_message
from netagent.api.convert_sync import report_from_message
from netagent.control.feed import Feed
from netagent.control.logging import log_event
from netagent.control.sync_batches import Batches
from netagent.control.sync_hub import Session, SyncHub
from netagent.control.validation import find_host
from netagent.model.errors import InvalidError, StateError

PROTOCOL_VERSION = 1

_Context = grpc.aio.ServicerContext[Any, Any]


class SyncService(sync_service_pb2_grpc.SyncServiceServicer):
    """The service on a feed and the hub."""

    def __init__(self, feed: Feed, hub: SyncHub) -> None:
        self._feed = feed
        self._hub = hub
        self._batches = Batches(feed.view)

    async def Sync(  # type: ignore[override]  # noqa: D102
        self, requests: AsyncIterator[pb.SyncRequest], context: _Context
    ) -> None:
        request = await anext(requests, pb.SyncRequest())
        if request.WhichOneof("message") != "hello":
            raise InvalidError("hello", "has to be the first message")
        hello = request.hello
        view = await self._feed.catch_up()
        host = find_host(view, "hello.host", hello.host)
        self._check(hello)
        policies = {held.network: held.content for held in hello.policies}
        session, is_snapshot = self._hub.open(
            hello.host,
            hello.revision,
            hello.networks,
            policies,
            is_reporting=hello.reports_moves,
        )
        fields = {"host": hello.host, "agent": hello.agent_version, "revision": hello.revision}
        log_event(logging.INFO, "agent connected", **fields, snapshot=is_snapshot)
        try:
            welcome = pb.Welcome(
                fleet=fleet_to_message(view.fleet),
                host=host_to_message(view.fleet, host.value, connected=True),
                snapshot=is_snapshot,
            )
            await context.write(pb.SyncResponse(welcome=welcome))
            await self._keep_in_step(session, requests, context)
        finally:
            self._hub.close(session)
            log_event(logging.INFO, "agent left", host=hello.host)

    def _check(self, hello: pb.Hello) -> None:
        fleet_id = self._feed.view.fleet.fleet_id
        if hello.fleet_id not in ("", fleet_id):
            raise StateError(
                f"hello.fleet_id: the host holds the state of fleet {hello.fleet_id}, this is"
                f" {fleet_id}; clean the host up first"
            )
        if hello.protocol_version != PROTOCOL_VERSION:
            raise StateError(
                f"hello.protocol_version: {hello.protocol_version} is not spoken here, only"
                f" {PROTOCOL_VERSION}; upgrade the older side"
            )

    async def _keep_in_step(
        self, session: Session, requests: AsyncIterator[pb.SyncRequest], context: _Context
    ) -> None:
        """Send and receive until either side ends the stream."""
        tasks: set[asyncio.Future[Any]] = {
            asyncio.ensure_future(self._send(session, context)),
            asyncio.ensure_future(self._receive(session, requests)),
        }
        try:
            done, _ = await asyncio.wait(
                {*tasks, session.ended}, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for task in done & tasks:
            task.result()
        if session.ended in done:
            raise session.ended.result()

    async def _send(self, session: Session, context: _Context) -> None:
        while True:
            await session.wake.wait()
            session.wake.clear()
            while session.questions:
                await context.write(pb.SyncResponse(question=session.questions.popleft()))
            if session.is_due:
                for update in self._batches.make(session.outbox.take(self._feed.view)):
                    await context.write(pb.SyncResponse(update=update))

    async def _receive(self, session: Session, requests: AsyncIterator[pb.SyncRequest]) -> None:
        async for request in requests:
            match request.WhichOneof("message"):
                case "answer":
                    session.answered(request.answer)
                case "report":
                    reported = report_from_message(request.report)
                    if reported is not None:
                        self._hub.reported(session, *reported)
                case "applied":
                    revision = request.applied.revision
                    if not session.outbox.confirm(revision):
                        raise _not_sent_last("applied.revision", revision)
                    self._hub.confirmed(session)
                case "rejected":
                    revision, reason = request.rejected.revision, request.rejected.reason
                    if not session.outbox.reject(revision):
                        raise _not_sent_last("rejected.revision", revision)
                    log_event(
                        logging.WARNING,
                        "batch rejected",
                        host=session.outbox.host,
                        revision=revision,
                        reason=reason,
                    )
                    self._hub.rejected(session, revision, reason)
                case _:
                    raise InvalidError("hello", "may only be the first message")


def _not_sent_last(field: str, revision: int) -> InvalidError:
    return InvalidError(field, f"{revision} is not the batch that was sent last")
