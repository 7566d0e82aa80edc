"""What a daemon tells systemd, read from the socket as systemd would."""

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from netagent.systemd.notify import Supervisor, find_supervisor

DEADLINE_S = 10


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as opened:
        opened.bind(str(tmp_path / "notify"))
        opened.settimeout(DEADLINE_S)
        yield opened


@pytest.fixture
def abstract() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as opened:
        opened.bind("")  # the kernel picks a name
        opened.settimeout(DEADLINE_S)
        yield opened


def test_a_daemon_says_that_it_is_ready_and_that_it_stops(listener: socket.socket) -> None:
    supervisor = find_supervisor({"NOTIFY_SOCKET": listener.getsockname()})

    supervisor.ready()
    supervisor.stopping()

    assert [listener.recv(100), listener.recv(100)] == [b"READY=1", b"STOPPING=1"]


def test_an_abstract_socket_is_reached(abstract: socket.socket) -> None:
    name = abstract.getsockname()[1:].decode()

    find_supervisor({"NOTIFY_SOCKET": f"@{name}"}).ready()

    assert abstract.recv(100) == b"READY=1"


@pytest.mark.parametrize(
    ("environment", "watchdog_s"),
    [
        pytest.param({}, None, id="none-asked-for"),
        pytest.param({"WATCHDOG_USEC": "60000000"}, 60.0, id="whoever-it-is"),
        pytest.param({"WATCHDOG_USEC": "1500000", "WATCHDOG_PID": "7"}, 1.5, id="this-process"),
        pytest.param({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "8"}, None, id="another"),
        pytest.param({"WATCHDOG_USEC": "0"}, None, id="zero"),
        pytest.param({"WATCHDOG_USEC": "soon"}, None, id="no-number"),
    ],
)
def test_the_watchdog_is_the_one_meant_for_us(
    environment: dict[str, str], watchdog_s: float | None
) -> None:
    found = find_supervisor({"NOTIFY_SOCKET": "/run/notify", **environment}, pid=7)

    assert found.watchdog_s == watchdog_s


@pytest.mark.parametrize("address", ["", "vsock:2:1234", "relative"])
async def test_without_systemd_nothing_is_said(address: str) -> None:
    supervisor = find_supervisor({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1000"})

    supervisor.ready()
    await asyncio.wait_for(supervisor.watch(lambda: asyncio.sleep(0)), DEADLINE_S)

    assert supervisor == Supervisor()


def test_a_socket_that_is_gone_is_said_and_survived(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Supervisor(str(tmp_path / "gone")).ready()

    assert "systemd not told message=READY=1" in caplog.text


async def test_signs_of_life_follow_each_answer_and_end_with_them(listener: socket.socket) -> None:
    answered = asyncio.Semaphore(2)
    supervisor = Supervisor(listener.getsockname(), watchdog_s=0.003)

    watching = asyncio.create_task(supervisor.watch(answered.acquire))
    heard = [await asyncio.to_thread(listener.recv, 100) for _ in range(2)]
    listener.settimeout(0.1)
    with pytest.raises(TimeoutError):
        await asyncio.to_thread(listener.recv, 100)
    watching.cancel()

    assert heard == [b"WATCHDOG=1", b"WATCHDOG=1"]
