"""What a control process is told when it starts."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv6Network, ip_address
from pathlib import Path
from typing import Any

from netagent.model.errors import ConfigError

UNIX = "unix://"
SOCKET_PATH_MAX_BYTES = 107


@dataclass(frozen=True, slots=True)
class ControlConfig:
    """Configuration of `netagent control run`; checked when made (ConfigError: a line a problem).

    state_dir: holds the store; made when absent.
    listen: `unix:///PATH`, or `HOST:PORT` with a literal address ([::1]:7400); several are
        separated by commas.
    insecure: allows listening elsewhere than on loopback or a unix socket.
    prefix: the fleet's /64, used when the fleet is first made (a random unique local prefix
        otherwise); later it has to be the same.
    prepare_bound_s, settle_bound_s: how long hosts may hold up the commit and the end of a move.
    head_start_s: how long other hosts wait at most, with a commit, for the destination to have it.
        Less than a host's round trip to control and back, and packets are lost in moves.
    drain_s: how long a source still forwards once all hosts have learned of the commit.
    """

    state_dir: Path = Path("/var/lib/netagent/control")
    listen: str = "unix:///run/netagent/control.sock"
    insecure: bool = False
    prefix: IPv6Network | None = None
    prepare_bound_s: float = 5.0
    settle_bound_s: float = 10.0
    head_start_s: float = 0.25
    drain_s: float = 0.5

    def __post_init__(self) -> None:
        values = {"listen": self.listen, "insecure": self.insecure}
        if problems := self.find_problems(values):
            raise ConfigError("\n".join(problems))

    @staticmethod
    def find_problems(values: Mapping[str, Any]) -> list[str]:
        """Return `KEY: problem` for each value, by key, that breaks a rule; of any of the keys."""
        if "listen" not in values:
            return []
        is_insecure = bool(values.get("insecure"))
        found = (_check_listen(each, is_insecure) for each in split_listen(values["listen"]))
        return [f"listen: {problem}" for problem in found if problem]


def split_listen(listen: str) -> list[str]:
    """Return the single addresses of `listen`."""
    return [each.strip() for each in listen.split(",")]


def _check_listen(listen: str, is_insecure: bool) -> str:
    """Return what is wrong with one address, or nothing."""
    if listen.startswith("unix:"):
        path = Path(listen.removeprefix(UNIX))
        is_short = len(os.fsencode(path)) <= SOCKET_PATH_MAX_BYTES
        if listen.startswith(UNIX) and path.is_absolute() and is_short:
            return ""
        return (
            f"{listen} is not unix:///PATH with an absolute path of at most"
            f" {SOCKET_PATH_MAX_BYTES} bytes"
        )
    host, _, port = listen.rpartition(":")
    try:
        address = ip_address(host.removeprefix("[").removesuffix("]"))
        is_port = port.isascii() and port.isdecimal() and int(port) <= 0xFFFF
    except ValueError:
        is_port = False
    if not is_port:
        return f"{listen} is neither unix:///PATH nor ADDRESS:PORT with a literal address"
    if address.is_loopback or is_insecure:
        return ""
    return (
        f"{listen} is not loopback, and whoever reaches it would control the fleet without any"
        " authentication; use a unix socket or loopback, or allow it with --insecure"
    )
