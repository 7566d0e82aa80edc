"""The error classes of netagent.

Raised at the layer that knows what is wrong, translated once at the edge (gRPC status, exit code).
"""

from __future__ import annotations


class NetagentError(Exception):
    """Base of every error that netagent raises on purpose."""


class InvalidError(NetagentError):
    """A value given by a caller is not acceptable, whatever the state of the fleet.

    field: path of the offending field in the request, as `labels[app]` or `endpoint.port`.
    """

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.problem = problem


class ConfigError(NetagentError):
    """A configuration file, environment variable or flag is wrong; names the source and key."""


class NotFoundError(NetagentError):
    """The object that the caller named does not exist."""


class ExistsError(NetagentError):
    """An object of that name exists already, with other content."""


class ConflictError(NetagentError):
    """The caller's etag is stale: somebody changed the object in between; read it again."""


class StateError(NetagentError):
    """The state of the fleet does not allow this now; the message says what has to happen first."""


class ExhaustedError(NetagentError):
    """Nothing is left of something finite (addresses, numbers, map entries)."""


class UnavailableError(NetagentError):
    """The other side cannot be reached or is stopping; the call may be repeated."""


class DataplaneError(NetagentError):
    """The kernel, `wg` or libbpf refused an operation.

    operation: verb, as `attach` or `update`.
    subject: what it was done to, as `interface na-web-1` or `map location`.
    """

    def __init__(self, operation: str, subject: str, detail: str, errno: int | None = None) -> None:
        suffix = f" (errno {errno})" if errno is not None else ""
        super().__init__(f"cannot {operation} {subject}: {detail}{suffix}")
        self.operation = operation
        self.subject = subject
        self.errno = errno


class AbiMismatchError(DataplaneError):
    """A pinned map or a shipped object does not have the layout that this release needs."""
