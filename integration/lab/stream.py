"""A TCP stream between two machines, by iperf3, and what the kernel says of its connection."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from integration.lab.namespace import CommandError, Namespace, child_of
from integration.lab.pace import PACE
from integration.lab.wait import wait_until

PORT = 5201
ENOUGH_BYTES = 100_000
"""More than any buffer's rest that a dead connection could still send."""


@dataclass(frozen=True, slots=True)
class Connection:
    """A TCP connection as its sender sees it. acknowledged: bytes that have arrived for certain."""

    local_port: int
    acknowledged: int
    retransmitted: int


@dataclass
class Stream:
    """A running stream; its sender is `source`."""

    source: Namespace
    destination: str
    rate: str

    def connection(self) -> Connection:
        """Return the connection that carries the data; AssertionError while there is none."""
        listed = self.source.run(
            *("ss", "-6", "-tinHO", "state", "established"),
            *("dst", f"[{self.destination}]", "and", "dport", "=", f":{PORT}"),
        ).stdout
        found = [_parse(line) for line in listed.splitlines() if line.strip()]
        if len(found) < 2:
            raise AssertionError(f"{self.source.name}: the stream has {len(found)} connections")
        return max(found, key=lambda each: each.acknowledged)

    def is_alive_after(self, before: Connection, timeout_s: float = 5.0) -> bool:
        """Whether this very connection carries data that was sent after `before` was read."""

        def goes_on() -> bool:
            now = self.connection()
            moved = now.acknowledged - before.acknowledged
            return now.local_port == before.local_port and moved > ENOUGH_BYTES

        try:
            return wait_until("the connection carries data", goes_on, timeout_s)
        except AssertionError:
            return False


def _parse(line: str) -> Connection:
    port = re.search(r"\]?:(\d+)\s+\S+:\d+\s", line)
    assert port is not None, line
    return Connection(int(port[1]), _number(line, "bytes_acked:"), _number(line, "bytes_retrans:"))


def _number(line: str, key: str) -> int:
    found = re.search(rf"\b{key}(\d+)", line)
    return int(found[1]) if found else 0


@contextmanager
def serving(destination: Namespace) -> Iterator[None]:
    """Run an iperf3 server, for the block."""
    server = destination.start("iperf3", "--server", log=_log(destination, "server"))
    try:
        wait_until("iperf3 listens", lambda: _is_listening(destination))
        yield
    finally:
        end(server)


def end(process: subprocess.Popen[Any]) -> None:
    """End what `Namespace.start` started: the command itself, not what entered the namespace."""
    with contextlib.suppress(OSError, ValueError):
        os.kill(child_of(process.pid), signal.SIGKILL)
    process.wait()


def _log(namespace: Namespace, role: str) -> str:
    return f"iperf3-{role}-{namespace.name.replace('/', '-')}.log"


def _is_listening(namespace: Namespace) -> bool:
    return bool(namespace.run("ss", "-tlnH", "sport", "=", f":{PORT}").stdout.strip())


@contextmanager
def streaming(
    source: Namespace, destination: Namespace, address: str, rate: str | None = None
) -> Iterator[Stream]:
    """Stream from one machine to another at `rate` (as iperf3 takes it; 0: all it can).

    rate: unless given, 50 Mbit/s, or what the lab's backend has to spare.
    """
    rate = rate or PACE.stream_rate
    with serving(destination):
        client = source.start(
            *("iperf3", "--client", address, "--time", "3600", "--bitrate", rate),
            log=_log(source, "client"),
        )
        try:
            stream = Stream(source, address, rate)
            wait_until("the stream runs", lambda: stream.connection().acknowledged > ENOUGH_BYTES)
            yield stream
        finally:
            end(client)


def measure_throughput(
    source: Namespace, destination: Namespace, address: str, seconds: float
) -> dict[str, Any]:
    """Return Mbit/s received and retransmits of one TCP stream of so many seconds."""
    with serving(destination):
        done = source.run(
            *("iperf3", "--client", address, "--time", str(seconds), "--omit", "1", "--json"),
            timeout_s=seconds + 30,
            check=False,
        )
    result = json.loads(done.stdout)
    if "error" in result:
        raise CommandError(f"{source.name}: iperf3 to {address}: {result['error']}")
    return {
        "mbit_per_s": result["end"]["sum_received"]["bits_per_second"] / 1e6,
        "retransmits": result["end"]["sum_sent"]["retransmits"],
    }
