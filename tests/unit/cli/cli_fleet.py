"""The real command against a real control process, and agents that speak Sync."""

from __future__ import annotations

import base64
import json
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from click.testing import CliRunner, Result

from netagent.api.control.v1 import sync_service_pb2 as sync_pb
from netagent.api.control.v1.sync_service_pb2_grpc import SyncServiceStub
from netagent.api.types.v1 import types_pb2
from netagent.cli.main import cli

DEADLINE_S = 20.0

COMMAND = str(Path(sys.executable).parent / "netagent")


@dataclass(frozen=True)
class Cli:
    """The command, told where control and agent are."""

    control: str
    agent_socket: str = "/nonexistent/agent.sock"

    def run(self, *args: str, stdin: str | None = None) -> Result:
        env = {"NETAGENT_CONTROL": self.control, "NETAGENT_AGENT_SOCKET": self.agent_socket}
        return CliRunner(env=env).invoke(cli, args, input=stdin)

    def ok(self, *args: str, stdin: str | None = None) -> str:
        result = self.run(*args, stdin=stdin)
        assert result.exit_code == 0, result.output
        return result.stdout

    def json(self, *args: str) -> Any:
        return json.loads(self.ok(*args, "--output", "json"))

    def refused(self, code: int, *args: str) -> str:
        """Return standard error of a command that has to fail."""
        result = self.run(*args)
        assert (result.exit_code, result.stdout) == (code, ""), result.output
        return result.stderr

    def register(self, number: int) -> str:
        name = f"h{number}"
        key = base64.b64encode(b"\x01" + number.to_bytes(31, "big")).decode()
        endpoint = f"192.0.2.{number}:51820"
        self.ok("host", "register", name, "--public-key", key, "--endpoint", endpoint)
        return name


@contextmanager
def running_control(directory: Path) -> Iterator[str]:
    """Run `netagent control run`; give its target once it listens."""
    socket = directory / "control.sock"
    target = f"unix://{socket}"
    with subprocess.Popen(
        [
            *(COMMAND, "control", "run", "--listen", target),
            *("--state-dir", str(directory / "state"), "--log-level", "error"),
            *("--prepare-bound-s", "0.2", "--settle-bound-s", "0.2"),
        ]
    ) as process:
        try:
            wait_until(lambda: socket.exists() or process.poll() is not None)
            assert process.poll() is None, "control has ended; its message is above"
            yield target
        finally:
            process.terminate()


def allow_by_rule(flow: types_pb2.FlowQuestion) -> types_pb2.Opinion:
    return types_pb2.Opinion(network="n", version=3, allowed=True, rule="r")


Judge = Callable[[types_pb2.FlowQuestion], types_pb2.Opinion | str]
"""What a host's kernel says, or why the host cannot say."""


@contextmanager
def connected_agent(
    cli: Cli, host: str, *, answers: bool = True, judge: Judge = allow_by_rule
) -> Iterator[None]:
    """Hold a Sync stream of a host. answers: whether it says that it has applied batches."""
    requests: queue.SimpleQueue[sync_pb.SyncRequest | None] = queue.SimpleQueue()
    requests.put(sync_pb.SyncRequest(hello=sync_pb.Hello(host=host, protocol_version=1)))

    with grpc.insecure_channel(cli.control) as channel:
        call = SyncServiceStub(channel).Sync(iter(requests.get, None))

        def follow() -> None:
            try:
                for response in call:
                    if answers and response.update.revision:
                        applied = sync_pb.Applied(revision=response.update.revision)
                        requests.put(sync_pb.SyncRequest(applied=applied))
                    if response.HasField("question"):
                        requests.put(_answer(response.question, judge))
            except grpc.RpcError as error:
                if error.code() is not grpc.StatusCode.CANCELLED:
                    raise

        thread = threading.Thread(target=follow)
        thread.start()
        try:
            wait_until(lambda: cli.json("host", "get", host)["connected"])
            yield
        finally:
            requests.put(None)
            call.cancel()
            thread.join(DEADLINE_S)


def _answer(question: sync_pb.Question, judge: Judge) -> sync_pb.SyncRequest:
    said = judge(question.flow)
    key = "problem" if isinstance(said, str) else "opinion"
    return sync_pb.SyncRequest(answer=sync_pb.Answer(number=question.number, **{key: said}))


def wait_until(condition: Any) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "the condition never held"
        threading.Event().wait(0.01)
