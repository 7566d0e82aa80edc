"""The error classes of netagent.

Raised at the layer that knows what is wrong, translated once at the edge (gRPC status, exit code).
"""

from __future__ import annotations

from dataclasses import dataclass


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


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """A place in a text. line and column: from 1, in characters."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing that is wrong, where, and what to do about it. hint: may be empty."""

    span: Span
    message: str
    hint: str = ""

    def __str__(self) -> str:
        return f"{self.span}: {self.message}" + (f"; {self.hint}" if self.hint else "")


class PolicyError(NetagentError):
    """A policy, or a fleet file it is checked against, is not acceptable.

    problems: everything that is wrong, sorted by place; at least one.
    """

    def __init__(self, problems: list[Problem] | tuple[Problem, ...]) -> None:
        assert problems
        self.problems = tuple(sorted(set(problems)))
        super().__init__("\n".join(str(problem) for problem in self.problems))
