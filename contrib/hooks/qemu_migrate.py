#!/usr/bin/env python3
"""Moves a QEMU guest live: a hook for `netagent move MACHINE --to HOST --hook THIS`.

Speaks QMP to the guest at its source and to the QEMU that waits for it at its destination (started
with `-incoming defer`, its tap attached to netagent). Commits the move at the very moment at which
the guest stops at the source: what is sent from then on waits in the destination's tap for the
guest to go on. The source's QEMU is ended once it is of no more use.

Environment, beside what every hook is told (docs/moves.md, "Hooks"):
  NETAGENT_CONTROL           control, as for the command
  NETAGENT_QMP               path of a guest's QMP socket (default /run/qemu/{host}/{name}.qmp)
  NETAGENT_MIGRATION_URI     what the destination listens on (default tcp:{host}:49152)
  NETAGENT_MIGRATION_S       most seconds that the migration may take (default 600)
  {host}, {network}, {name}  stand for themselves; in NETAGENT_QMP host is the one that is asked
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import grpc

from netagent.api.control.v1 import move_service_pb2 as pb
from netagent.api.control.v1.move_service_pb2_grpc import MoveServiceStub

MOVED, UNKNOWN, STAYED = 0, 1, 10
COMMIT_S = 30.0


class QmpError(Exception):
    """QEMU refused a command, or cannot be reached."""


class Qmp:
    """One QMP session. deadline: monotonic time at which patience ends."""

    def __init__(self, path: str, deadline: float) -> None:
        self._deadline = deadline
        self._events: list[dict[str, Any]] = []
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            self._socket.settimeout(10)
            self._socket.connect(path)
            self._lines = self._socket.makefile("rb")
            self._read()
        except OSError as error:
            raise QmpError(f"{path}: {error}") from error
        self.execute("qmp_capabilities")

    def execute(self, command: str, **arguments: Any) -> Any:
        """Run a command and return what it returns."""
        message = {"execute": command, "arguments": arguments}
        self._socket.sendall(json.dumps(message).encode() + b"\n")
        while True:
            reply = self._read()
            if "return" in reply:
                return reply["return"]
            if "error" in reply:
                raise QmpError(f"{command}: {reply['error']['desc']}")
            self._events.append(reply)

    def next_event(self) -> dict[str, Any]:
        """Return the next event, in the order in which they came."""
        while not self._events:
            self._events.append(self._read())
        return self._events.pop(0)

    def _read(self) -> dict[str, Any]:
        self._socket.settimeout(max(self._deadline - time.monotonic(), 0.001))
        try:
            line = self._lines.readline()
        except OSError as error:
            raise QmpError(f"no answer: {error}") from error
        if not line:
            raise QmpError("QEMU has ended the session")
        return dict(json.loads(line))


def main() -> int:
    """Migrate, and return an exit code of hooks."""
    network, _, name = os.environ["NETAGENT_MACHINE"].partition("/")
    hosts = os.environ["NETAGENT_SOURCE"], os.environ["NETAGENT_DESTINATION"]
    qmp = os.environ.get("NETAGENT_QMP", "/run/qemu/{host}/{name}.qmp")
    uri = os.environ.get("NETAGENT_MIGRATION_URI", "tcp:{host}:49152")
    uri = uri.format(host=hosts[1], network=network, name=name)
    deadline = time.monotonic() + float(os.environ.get("NETAGENT_MIGRATION_S", "600"))
    control = os.environ.get("NETAGENT_CONTROL", "unix:///run/netagent/control.sock")
    paths = [qmp.format(host=host, network=network, name=name) for host in hosts]
    try:
        with grpc.insecure_channel(control) as channel, ThreadPoolExecutor(1) as pool:
            stub = MoveServiceStub(channel)
            move_id = os.environ["NETAGENT_MOVE_ID"]
            # So that the connection stands when it has to be quick.
            stub.GetMove(pb.GetMoveRequest(move_id=move_id), timeout=10)
            source, destination = (Qmp(path, deadline) for path in paths)
            destination.execute("migrate-incoming", uri=uri)
            capabilities = [{"capability": "events", "state": True}]
            source.execute("migrate-set-capabilities", capabilities=capabilities)
            source.execute("migrate", uri=uri)
            request = pb.CommitMoveRequest(move_id=move_id)
            return follow(
                source,
                destination,
                lambda: pool.submit(stub.CommitMove, request, timeout=COMMIT_S),
            )
    except (QmpError, grpc.RpcError) as error:
        print(f"qemu_migrate: {error}", file=sys.stderr)
        return STAYED if _runs(paths[0]) else UNKNOWN


def follow(source: Qmp, destination: Qmp, commit: Callable[[], Future[Any]]) -> int:
    """Follow a migration that has begun, and commit the move when the guest stops.

    Returns an exit code of hooks.
    """
    committing: Future[Any] | None = None
    stopped_s = 0.0
    while True:
        event = source.next_event()
        if event["event"] == "STOP" and committing is None:
            committing = commit()
            stopped_s = time_of(event)
        status = event["data"]["status"] if event["event"] == "MIGRATION" else ""
        if status in ("failed", "cancelled"):
            if committing is None:
                return STAYED
            print("qemu_migrate: it failed after the guest had stopped", file=sys.stderr)
            return UNKNOWN
        if status == "completed":
            break
    if committing is not None:
        committing.result()
    done = source.execute("query-migrate")
    while not done.get("total-time"):  # right after the end it may not know yet
        time.sleep(0.01)
        done = source.execute("query-migrate")
    while (event := destination.next_event())["event"] != "RESUME":
        pass
    print(
        f"qemu_migrate: downtime_ms={done['downtime']} total_ms={done['total-time']}"
        f" stopped_at={stopped_s:.6f} resumed_at={time_of(event):.6f}"
    )
    source.execute("quit")
    return MOVED


def time_of(event: dict[str, Any]) -> float:
    """Return when an event was, as Unix time."""
    return float(event["timestamp"]["seconds"] + event["timestamp"]["microseconds"] / 1e6)


def _runs(path: str) -> bool:
    """Whether the guest runs at the source, as far as that can be told."""
    try:
        return bool(Qmp(path, time.monotonic() + 5).execute("query-status")["running"])
    except (QmpError, OSError, ValueError):
        return False


if __name__ == "__main__":
    sys.exit(main())
