"""Who is connected, and what each has yet to be told.

Listens to the view; a change costs one set insertion for each agent that needs it, and nothing for
the others.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import count

from netagent.api.control.v1 import sync_service_pb2 as pb
from netagent.api.types.v1 import types_pb2
from netagent.control.outbox import Outbox
from netagent.control.policy_tables import PolicyTables
from netagent.control.view import View
from netagent.model.addresses import StableId
from netagent.model.errors import ConflictError, NetagentError, NotFoundError, UnavailableError
from netagent.model.fleet import MovePhase
from netagent.moves.reports import Report

ANSWER_S = 2.0
"""How long a question may take."""


class Session:
    """One agent's stream. `ended` is set with the reason when it has to end.

    is_reporting: the agent sends MoveReports. questions: asked and not yet sent.
    leading, waiting: head starts in which the host is ahead, or has to wait.
    """

    def __init__(self, host: str, policies: PolicyTables, *, is_reporting: bool = False) -> None:
        self.is_reporting = is_reporting
        self.outbox = Outbox(host, policies)
        self.wake = asyncio.Event()
        self.questions: deque[pb.Question] = deque()
        self.leading: set[HeadStart] = set()
        self.waiting: set[HeadStart] = set()
        self._asked: dict[int, asyncio.Future[types_pb2.Opinion]] = {}
        self._numbers = count(1)
        self.ended: asyncio.Future[NetagentError] = asyncio.get_running_loop().create_future()

    @property
    def is_due(self) -> bool:
        """Whether a batch can and should go out now.

        A host that is ahead in one head start does not wait in another: two moves in opposite
        directions would hold each other up.
        """
        return self.outbox.is_due and (bool(self.leading) or not self.waiting)

    def end(self, reason: NetagentError) -> None:
        """Ask the stream to end."""
        if not self.ended.done():
            self.ended.set_result(reason)

    async def ask(self, flow: types_pb2.FlowQuestion) -> types_pb2.Opinion:
        """Return what the agent's kernel says to a flow.

        UnavailableError when the agent cannot say, does not within ANSWER_S, or leaves.
        """
        number = next(self._numbers)
        future: asyncio.Future[types_pb2.Opinion] = asyncio.get_running_loop().create_future()
        self._asked[number] = future
        self.questions.append(pb.Question(number=number, flow=flow))
        self.wake.set()
        try:
            async with asyncio.timeout(ANSWER_S):
                return await future
        except TimeoutError:
            host = self.outbox.host
            raise UnavailableError(f"host {host} has not answered within {ANSWER_S:g} s") from None
        finally:
            del self._asked[number]

    def answered(self, answer: pb.Answer) -> None:
        """Take an answer; one that nobody waits for any more is let go."""
        future = self._asked.get(answer.number)
        if future is None or future.done():
            return
        if answer.WhichOneof("result") == "opinion":
            future.set_result(answer.opinion)
        else:
            problem = f"host {self.outbox.host}: {answer.problem}"
            future.set_exception(UnavailableError(problem))

    def leave(self) -> None:
        """Hear that the stream is gone."""
        problem = f"host {self.outbox.host} has left"
        for future in self._asked.values():
            if not future.done():
                future.set_exception(UnavailableError(problem))


class HeadStart:
    """Lets the destinations of a commit take it before the other hosts are told.

    The machine can then speak from its new place before it is fenced at the old one, and nothing
    that it sends is lost in between. The sources wait whatever else they are to be told: in a drain
    of many machines there is always something. Others are told with their next news.
    """

    def __init__(
        self,
        revision: int,
        first: set[Session],
        rest: set[Session],
        sources: set[Session],
        most_s: float,
    ) -> None:
        self.is_over = False
        self._revision = revision
        self._first = first
        self._waiting = set(first)
        self._rest = rest
        self._sources = sources
        for session in first:
            session.leading.add(self)
        for session in sources:
            session.waiting.add(self)
        self._timer = asyncio.get_running_loop().call_later(most_s, self._end)

    def confirmed(self, session: Session) -> None:
        """Hear that a session has applied something."""
        if session.outbox.applied_revision >= self._revision:
            self._waiting.discard(session)
            if not self._waiting:
                self._end()

    def _end(self) -> None:
        self._timer.cancel()
        self.is_over = True
        for session in self._first:
            session.leading.discard(self)
        for session in self._sources:
            session.waiting.discard(self)
        for session in self._rest:
            session.wake.set()


class SyncHub:
    """All sessions of this process.

    head_start_s: how long sources of a commit wait at most for its destinations.
    on_progress: told the host whenever it has applied something, has come, or has left.
    on_rejected: told host, revision and reason when it has not taken a batch.
    on_report: told what a host reports about a move: host, machine's id, move's epoch, report.
    """

    def __init__(self, view: View, policies: PolicyTables, head_start_s: float) -> None:
        self._view = view
        self._head_start_s = head_start_s
        self._policies = policies
        policies.on_change.append(self._policy_changed)
        self._sessions: dict[str, Session] = {}
        self._touched: set[Session] = set()
        self._destinations: set[str] = set()
        self._sources: set[str] = set()
        self._head_starts: list[HeadStart] = []
        self.on_progress: list[Callable[[str], None]] = []
        self.on_rejected: list[Callable[[str, int, str], None]] = []
        self.on_report: list[Callable[[str, StableId, int, Report], None]] = []
        view.listeners.append(self)

    def open(
        self,
        host: str,
        revision: int,
        networks: Iterable[int],
        policies: Mapping[int, bytes],
        *,
        is_reporting: bool = False,
    ) -> tuple[Session, bool]:
        """Begin a session, ending an older one of the same host; returns whether by snapshot."""
        older = self._sessions.get(host)
        if older is not None:
            older.end(ConflictError(f"hello.host: a newer stream of host {host} took over"))
        session = Session(host, self._policies, is_reporting=is_reporting)
        is_snapshot = session.outbox.begin(self._view, revision, networks, policies)
        self._sessions[host] = session
        session.wake.set()
        self._progress(host)
        return session, is_snapshot

    def close(self, session: Session) -> None:
        """End a session whose stream is gone."""
        host = session.outbox.host
        session.leave()
        if self._sessions.get(host) is session:
            del self._sessions[host]
            self._progress(host)

    def close_all(self, reason: NetagentError) -> None:
        """Ask every stream to end."""
        for session in self._sessions.values():
            session.end(reason)

    def confirmed(self, session: Session) -> None:
        """Go on after an answer to a batch."""
        session.wake.set()
        for head_start in self._head_starts:
            head_start.confirmed(session)
        self._head_starts = [h for h in self._head_starts if not h.is_over]
        self._progress(session.outbox.host)

    def rejected(self, session: Session, revision: int, reason: str) -> None:
        """Hear that an agent has not taken a batch; what it lacks is owed again."""
        for tell in self.on_rejected:
            tell(session.outbox.host, revision, reason)
        self.confirmed(session)

    def reported(self, session: Session, stable_id: StableId, epoch: int, report: Report) -> None:
        """Hear what an agent reports about a move; one that was taken over has no say."""
        host = session.outbox.host
        if self._sessions.get(host) is session:
            for tell in self.on_report:
                tell(host, stable_id, epoch, report)

    def session(self, host: str) -> Session:
        """Return a host's session; UnavailableError when its agent is not connected."""
        session = self._sessions.get(host)
        if session is None:
            raise UnavailableError(f"the agent of host {host} is not connected")
        return session

    def is_connected(self, host: str) -> bool:
        """Whether a host's agent holds a stream."""
        return host in self._sessions

    def is_reporting(self, host: str) -> bool:
        """Whether a host's agent holds a stream and sends MoveReports."""
        session = self._sessions.get(host)
        return session is not None and session.is_reporting

    def applied_revision(self, host: str) -> int | None:
        """Return the newest revision of which a host holds all it needs; None: not connected."""
        session = self._sessions.get(host)
        return session.outbox.in_step_with(self._view) if session is not None else None

    @contextmanager
    def progress(self) -> Iterator[asyncio.Event]:
        """Give an event that is set whenever a host applies something, comes or leaves."""
        event = asyncio.Event()

        def tell(host: str) -> None:
            event.set()

        self.on_progress.append(tell)
        try:
            yield event
        finally:
            self.on_progress.remove(tell)

    def host_changed(self, name: str) -> None:
        """See Listener."""
        for session in self._sessions.values():
            session.outbox.add_host(name)
        self._touched.update(self._sessions.values())
        if name in self._sessions and name not in self._view.hosts:
            self._sessions[name].end(NotFoundError(f"hello.host: host {name} has been removed"))

    def row_changed(self, network: int, stable_id: StableId) -> None:
        """See Listener."""
        for host in self._view.interest.hosts(network):
            session = self._sessions.get(host)
            if session is not None:
                session.outbox.add_row(network, stable_id)
                self._touched.add(session)

    def interest_changed(self, host: str, network: int) -> None:
        """See Listener."""
        session = self._sessions.get(host)
        if session is not None:
            session.outbox.add_interest(self._view, network)
            self._touched.add(session)

    def _policy_changed(self, network: int) -> None:
        for host in self._view.interest.owners(network):
            session = self._sessions.get(host)
            if session is not None:
                session.outbox.add_policy(network)
                self._touched.add(session)

    def move_changed(self, move_id: str) -> None:
        """See Listener: the destination of a commit is told first."""
        stored = self._view.moves.get(move_id)
        if stored is not None and stored.value.move.phase is MovePhase.COMMITTED:
            self._destinations.add(stored.value.move.destination)
            self._sources.add(stored.value.move.source)

    def revision_reached(self, revision: int) -> None:
        """See Listener: only now, so that no batch holds half of a revision."""
        first = {s for s in self._touched if s.outbox.host in self._destinations}
        rest = self._touched - first
        for session in first or rest:
            session.wake.set()
        if first and rest:
            sources = {s for s in rest if s.outbox.host in self._sources}
            self._head_starts.append(HeadStart(revision, first, rest, sources, self._head_start_s))
        self._touched = set()
        self._destinations = set()
        self._sources = set()

    def _progress(self, host: str) -> None:
        for tell in self.on_progress:
            tell(host)
