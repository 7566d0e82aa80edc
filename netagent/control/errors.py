"""The one place where error classes become gRPC statuses, and where unknown errors are recorded."""

from __future__ import annotations

import functools
import inspect
import logging
import textwrap
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NoReturn

import grpc
import grpc.aio

from netagent.control.logging import log_event
from netagent.model import errors

DETAILS_MAX = 1_000
"""Longest message, in characters: it travels in a header, and may quote what the caller sent."""

PROBLEMS_MAX = 5_000
"""Longest list of a policy's problems, in characters: headers have room for some 8 KB."""

_CODES: tuple[tuple[type[errors.NetagentError], grpc.StatusCode], ...] = (
    (errors.InvalidError, grpc.StatusCode.INVALID_ARGUMENT),
    (errors.PolicyError, grpc.StatusCode.INVALID_ARGUMENT),
    (errors.NotFoundError, grpc.StatusCode.NOT_FOUND),
    (errors.ExistsError, grpc.StatusCode.ALREADY_EXISTS),
    (errors.ConflictError, grpc.StatusCode.ABORTED),
    (errors.StateError, grpc.StatusCode.FAILED_PRECONDITION),
    (errors.ExhaustedError, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (errors.UnavailableError, grpc.StatusCode.UNAVAILABLE),
)


def status_of(error: errors.NetagentError) -> grpc.StatusCode:
    """Return the status that stands for an error."""
    for kind, code in _CODES:
        if isinstance(error, kind):
            return code
    return grpc.StatusCode.INTERNAL


class ErrorInterceptor(grpc.aio.ServerInterceptor):
    """Turns what handlers raise into statuses."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Wrap the handler, whatever its kind."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return handler
        kind = ("stream" if handler.request_streaming else "unary") + (
            "_stream" if handler.response_streaming else "_unary"
        )
        make = getattr(grpc, f"{kind}_rpc_method_handler")
        return make(
            _translating(getattr(handler, kind), handler_call_details.method),
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )


def _translating(handler: Any, method: str) -> Any:
    @functools.wraps(handler)
    async def call(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        try:
            return await handler(request, context)
        except Exception as error:  # the boundary of the call
            await _abort(context, method, error)

    @functools.wraps(handler)
    async def stream(
        request: Any, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[Any]:
        try:
            async for response in handler(request, context):
                yield response
        except Exception as error:  # the boundary of the call
            await _abort(context, method, error)

    return stream if inspect.isasyncgenfunction(handler) else call


async def _abort(
    context: grpc.aio.ServicerContext[Any, Any], method: str, error: Exception
) -> NoReturn:
    if isinstance(error, grpc.aio.AbortError):
        raise error
    if isinstance(error, errors.PolicyError):
        await context.abort(status_of(error), _join_problems(error))
    if isinstance(error, errors.NetagentError):
        await context.abort(status_of(error), textwrap.shorten(str(error), DETAILS_MAX))
    log_event(logging.ERROR, "call failed", method=method, error=repr(error))
    logging.getLogger("netagent.control").debug("traceback", exc_info=error)
    await context.abort(grpc.StatusCode.INTERNAL, "internal error; the server's log has it")
    raise error


def _join_problems(error: errors.PolicyError) -> str:
    """Return the problems, a line each, as far as there is room."""
    lines: list[str] = []
    room = PROBLEMS_MAX
    for problem in error.problems:
        line = textwrap.shorten(str(problem), DETAILS_MAX)
        room -= len(line.encode()) + 1
        if room < 0:
            more = len(error.problems) - len(lines)
            return "\n".join([*lines, f"and {more} more: `netagent policy check` says them all"])
        lines.append(line)
    return "\n".join(lines)
