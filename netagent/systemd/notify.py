"""sd_notify: tells systemd that a daemon is ready, alive or stopping. Silent without systemd.

One datagram a message to the socket that NOTIFY_SOCKET names. Source: sd_notify(3),
sd_watchdog_enabled(3).
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

log = logging.getLogger(__name__)

INTERVALS_PER_TIMEOUT = 3
"""A message may come late by two thirds of the watchdog's time."""


@dataclass(frozen=True, slots=True)
class Supervisor:
    """Who started this process. address: None when nobody wants to hear.

    watchdog_s: how long may pass between two signs of life; None: no watchdog.
    """

    address: str | None = None
    watchdog_s: float | None = None

    def ready(self) -> None:
        """Say that the daemon serves."""
        self._send("READY=1")

    def stopping(self) -> None:
        """Say that the daemon has begun to stop."""
        self._send("STOPPING=1")

    async def watch(self, answers: Callable[[], Awaitable[object]]) -> None:
        """Give signs of life until cancelled, each after `answers` has returned.

        A daemon whose event loop stands still, or whose `answers` waits for ever, gives none, and
        systemd starts another. Returns at once without a watchdog.
        """
        if self.address is None or self.watchdog_s is None:
            return
        while True:
            await answers()
            self._send("WATCHDOG=1")
            await asyncio.sleep(self.watchdog_s / INTERVALS_PER_TIMEOUT)

    def _send(self, message: str) -> None:
        if self.address is None:
            return
        # A leading @ stands for the abstract namespace, whose names begin with a null byte.
        path = f"\0{self.address[1:]}" if self.address.startswith("@") else self.address
        kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        try:
            with socket.socket(socket.AF_UNIX, kind) as sender:
                sender.sendto(message.encode(), path)
        except OSError as error:
            log.warning("systemd not told message=%s error=%s", message, error.strerror)


def find_supervisor(environment: Mapping[str, str], pid: int | None = None) -> Supervisor:
    """Return what the environment says of systemd. pid: this process, unless given.

    A watchdog that was meant for another process (WATCHDOG_PID) is none.
    """
    address = environment.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return Supervisor()
    period_us = environment.get("WATCHDOG_USEC", "")
    is_ours = environment.get("WATCHDOG_PID", "") in ("", str(pid or os.getpid()))
    if not (is_ours and period_us.isascii() and period_us.isdecimal() and int(period_us)):
        return Supervisor(address)
    return Supervisor(address, int(period_us) / 1e6)
