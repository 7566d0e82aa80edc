"""Calls to control and to the agent, and what their failures mean for the person who typed."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar

# Before grpc is imported: its own log lines would stand between ours.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

import grpc

from netagent.cli.failures import ExitCode, Failure
from netagent.cli.options import TIMEOUT_DEFAULT_S, Shared

_EXIT_CODES = {
    grpc.StatusCode.INVALID_ARGUMENT: ExitCode.USAGE,
    grpc.StatusCode.NOT_FOUND: ExitCode.NOT_FOUND,
    grpc.StatusCode.ALREADY_EXISTS: ExitCode.CONFLICT,
    grpc.StatusCode.ABORTED: ExitCode.CONFLICT,
    grpc.StatusCode.UNAVAILABLE: ExitCode.UNREACHABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED: ExitCode.UNREACHABLE,
}

_UNIX = "unix://"

# The machine's proxy settings are not for us; a message of the fleet's size fits.
_OPTIONS = (("grpc.enable_http_proxy", 0), ("grpc.max_receive_message_length", 64 << 20))

_Message = TypeVar("_Message", covariant=True)
_Stub = TypeVar("_Stub")


class _Page(Protocol):
    next_page_token: str


_AnyPage = TypeVar("_AnyPage", bound=_Page)


@contextmanager
def control_stub(shared: Shared, stub: Callable[[Any], _Stub]) -> Iterator[_Stub]:
    """Give a stub of one of control's services; Failure for every way in which a call fails."""
    hint = "is `netagent control run` running there? --control or NETAGENT_CONTROL names another"
    with _channel(shared.control, "control", hint) as channel:
        yield stub(channel)


@contextmanager
def agent_stub(shared: Shared, stub: Callable[[Any], _Stub]) -> Iterator[_Stub]:
    """Give a stub of the service of this host's agent; Failure as with control_stub."""
    hint = (
        "is `netagent agent run` running here? this command is about the host that it runs on"
        " (`netagent host list` shows all); --agent-socket names another socket"
    )
    path = shared.agent_socket.absolute()
    with _channel(f"{_UNIX}{path}", "the agent", hint) as channel:
        yield stub(channel)


def timeout_s(shared: Shared, default_s: float = TIMEOUT_DEFAULT_S) -> float:
    """Return how long a call may take, in seconds."""
    return default_s if shared.timeout_s is None else shared.timeout_s


def read_pages(fetch: Callable[[str], _AnyPage]) -> Iterator[_AnyPage]:
    """Yield every page of a list. fetch: gets the page that a token names, first the empty one."""
    token = ""
    while True:
        page = fetch(token)
        yield page
        token = page.next_page_token
        if not token:
            return


@contextmanager
def _channel(target: str, who: str, hint: str) -> Iterator[grpc.Channel]:
    if target.startswith("unix:"):
        _probe_socket(Path("/" + target.removeprefix("unix:").lstrip("/")), who, hint)
    try:
        with grpc.insecure_channel(target, options=_OPTIONS) as channel:
            yield channel
    except grpc.RpcError as error:
        raise _translate(error, target, who, hint) from error


def _probe_socket(path: Path, who: str, hint: str) -> None:
    """Raise Failure when nobody listens on a socket: gRPC would not say why."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(os.fspath(path))
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EPERM):
                hint = "run this as root"
            problem = error.strerror or str(error)
            message = f"cannot reach {who} at {path}: {problem}; {hint}"
            raise Failure(message, ExitCode.UNREACHABLE) from error


def _translate(error: grpc.RpcError, target: str, who: str, hint: str) -> Failure:
    status, details = error.code(), error.details() or ""
    if status is grpc.StatusCode.UNAVAILABLE and _is_of_transport(details):
        return Failure(f"cannot reach {who} at {target}; {hint}", ExitCode.UNREACHABLE)
    if is_of_deadline(error):
        return Failure(
            f"{who} at {target} did not answer in time; look at its log, or allow more with"
            " --timeout",
            ExitCode.UNREACHABLE,
        )
    if status is grpc.StatusCode.UNIMPLEMENTED:
        return Failure(f"{who} at {target} does not know this call: is it of another release?")
    code = _EXIT_CODES.get(status, ExitCode.FAILED)
    return Failure(details or f"{who} answered {status.name}", code)


def is_of_deadline(error: grpc.RpcError) -> bool:
    """Whether a call took longer than it may; for a stream gRPC may call this an unknown error."""
    status, details = error.code(), error.details() or ""
    return status is grpc.StatusCode.DEADLINE_EXCEEDED or (
        status is grpc.StatusCode.UNKNOWN and "deadline exceeded" in details.lower()
    )


def _is_of_transport(details: str) -> bool:
    """Whether gRPC itself says so: what our servers say begins with a field or with their name."""
    words = details.lower()
    return any(sign in words for sign in ("connect", "resolv", "socket", "stream removed")) and (
        ":" not in words.partition(" ")[0]
    )
