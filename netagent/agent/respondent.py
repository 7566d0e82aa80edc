"""Answers control's questions beside the batches: one after the other, on a thread of their own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

import grpc.aio

from netagent.agent.engine import Engine
from netagent.agent.facts import OwnHost
from netagent.agent.ports import DatapathPort
from netagent.agent.questions import answer_question, question_from_message
from netagent.api.control.v1 import sync_service_pb2 as pb
from netagent.model.errors import NetagentError

log = logging.getLogger(__name__)

WAITING_MOST = 64

Send = Callable[[pb.SyncRequest], Awaitable[None]]
"""Writes one message to the stream on which the question came; grpc's errors when it has ended."""


class Respondent:
    """One task runs `run`; the stream's owner calls `take`."""

    def __init__(
        self, engine: Engine, datapath: DatapathPort, own: Callable[[], OwnHost | None]
    ) -> None:
        self._engine = engine
        self._datapath = datapath
        self._own = own
        self._waiting: asyncio.Queue[tuple[pb.Question, Send]] = asyncio.Queue(WAITING_MOST)

    async def take(self, question: pb.Question, send: Send) -> None:
        """Accept a question; one too many is answered at once, by saying so."""
        try:
            self._waiting.put_nowait((question, send))
        except asyncio.QueueFull:
            problem = f"more than {WAITING_MOST} questions at once"
            await send(_answer(pb.Answer(number=question.number, problem=problem)))

    async def run(self) -> None:
        """Answer, for ever."""
        while True:
            question, send = await self._waiting.get()
            answer = await asyncio.to_thread(self._consider, question)
            try:
                await send(_answer(answer))
            except (grpc.aio.AioRpcError, asyncio.InvalidStateError) as error:
                log.debug("an answer came too late number=%d detail=%r", question.number, error)
            except asyncio.CancelledError:
                # grpc.aio says the same when it is the stream that was cancelled meanwhile.
                task = asyncio.current_task()
                if task is None or task.cancelling():
                    raise

    def _consider(self, question: pb.Question) -> pb.Answer:
        own = self._own()
        assert own is not None, "a stream begins with who we are"
        try:
            flow = question_from_message(question.flow)
            opinion = answer_question(flow, self._datapath, self._engine.view, own.host.locator)
        except NetagentError as error:
            return pb.Answer(number=question.number, problem=str(error))
        return pb.Answer(number=question.number, opinion=opinion)


def _answer(answer: pb.Answer) -> pb.SyncRequest:
    return pb.SyncRequest(answer=answer)
