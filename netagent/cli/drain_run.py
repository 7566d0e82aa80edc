"""Runs the moves of a drain: a bounded number at a time, until all are done or one has failed.

A move holds its place until it has committed: what follows, up to its settling, costs its hosts
next to nothing. The drain ends when the last one has settled.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import grpc

from netagent.api.control.v1 import move_service_pb2 as pb
from netagent.api.types.v1 import types_pb2
from netagent.cli.channel import read_pages
from netagent.cli.failures import ExitCode, Failure, printable
from netagent.cli.moving import COMMITTED, SETTLED, follow_move
from netagent.cli.output import print_json
from netagent.cli.progress import Spinner
from netagent.cli.views import move_view


@dataclass(frozen=True, slots=True)
class Job:
    """One machine and where it goes; move_id: when that has begun already."""

    machine: str
    destination: str
    move_id: str = ""


class DrainRun:
    """One run. moved: how many machines have moved so far.

    stub: of MoveService, used by many threads. wish: what all moves have in common.
    limit_s: how long one move may take. call_timeout_s: of other calls.
    """

    def __init__(
        self,
        stub: Any,
        wish: pb.MoveAddressRequest,
        hook: Path | None,
        *,
        limit_s: float,
        call_timeout_s: float,
        is_json: bool,
    ) -> None:
        self.moved = 0
        self._stub = stub
        self._wish = wish
        self._hook = hook
        self._limit_s = limit_s
        self._call_timeout_s = call_timeout_s
        self._is_json = is_json
        self._calls: set[Any] = set()
        self._lock = threading.Lock()
        self._is_stopping = threading.Event()

    def drain(self, jobs: Sequence[Job], parallel: int, *, keep_going: bool) -> list[str]:
        """Run jobs in order, `parallel` at a time; return what went wrong, a line each.

        Begins no more after a failure, unless keep_going. Raises Failure when interrupted: moves
        that have begun go on.
        """
        failures: list[str] = []
        left = list(reversed(jobs))
        running: dict[Future[tuple[types_pb2.Move, float]], Job] = {}
        moved: set[str] = set()
        with ThreadPoolExecutor(parallel) as pool, Spinner() as spinner:
            try:
                while running or (left and (keep_going or not failures)):
                    while left and len(running) < parallel and (keep_going or not failures):
                        job = left.pop()
                        running[pool.submit(self._move, job)] = job
                    spinner.show(f"{self.moved} of {len(jobs)} moved, {len(running)} moving")
                    done, _ = wait(running, return_when=FIRST_COMPLETED)
                    for future in done:
                        job = running.pop(future)
                        try:
                            move, elapsed_s = future.result()
                        except (Failure, grpc.RpcError) as error:
                            failures.append(f"{job.machine}: {_explain(error)}")
                            continue
                        self.moved += 1
                        moved.add(move.move_id)
                        spinner.stop()
                        self._report(move, elapsed_s, len(jobs))
                spinner.show("until the last moves have settled")
                self._wait_until_settled(moved)
            except KeyboardInterrupt:
                self._stop()
                message = "interrupted; moves that have begun go on, run the same command again"
                raise Failure(message, ExitCode.INTERRUPTED) from None
        return failures

    def _move(self, job: Job) -> tuple[types_pb2.Move, float]:
        """Carry out one job; return the committed move and how long that took."""
        began_s = time.monotonic()
        move = self._follow(self._begin(job), until=COMMITTED)
        return move, time.monotonic() - began_s

    def _begin(self, job: Job) -> Any:
        if job.move_id:
            request = pb.WatchMoveRequest(move_id=job.move_id)
            return self._stub.WatchMove(request, timeout=self._limit_s)
        wish = pb.MoveAddressRequest(machine=job.machine, destination=job.destination)
        wish.MergeFrom(self._wish)
        return self._stub.MoveAddress(wish, timeout=self._limit_s)

    def _follow(self, responses: Any, *, until: types_pb2.MovePhase) -> types_pb2.Move:
        with self._lock:
            self._calls.add(responses)
        if self._is_stopping.is_set():
            responses.cancel()
        try:
            return follow_move(
                self._stub,
                responses,
                until=until,
                hook=self._hook,
                limit_s=self._limit_s,
                call_timeout_s=self._call_timeout_s,
                on_phase=lambda _: None,
            )
        finally:
            with self._lock:
                self._calls.discard(responses)

    def _wait_until_settled(self, moved: set[str]) -> None:
        """Wait for those of some moves that have not ended."""
        pages = read_pages(
            lambda token: self._stub.ListMoves(
                pb.ListMovesRequest(page_token=token, active_only=True),
                timeout=self._call_timeout_s,
            )
        )
        active = [move.move_id for page in pages for move in page.moves]
        for move_id in active:
            if move_id in moved:
                request = pb.WatchMoveRequest(move_id=move_id)
                watch = self._stub.WatchMove(request, timeout=self._limit_s)
                self._follow(watch, until=SETTLED)

    def _stop(self) -> None:
        self._is_stopping.set()
        with self._lock:
            for call in self._calls:
                call.cancel()

    def _report(self, move: types_pb2.Move, elapsed_s: float, of: int) -> None:
        if self._is_json:
            print_json({**move_view(move), "elapsed_s": elapsed_s}, is_line=True)
            return
        place = f"{str(self.moved).rjust(len(str(of)))}/{of}"
        click.echo(
            f"{place}  {elapsed_s:8.3f} s  {printable(f'{move.machine} is at {move.destination}')}"
        )
        for warning in move.warnings:
            click.echo(f"{'':{len(place)}}  warning: {printable(warning)}")
        sys.stdout.flush()


def _explain(error: Failure | grpc.RpcError) -> str:
    if isinstance(error, Failure):
        return error.message
    return error.details() or error.code().name
