"""What a control process is told when it starts."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv6Network
from pathlib import Path


@dataclass(frozen=True, slots=True)
class ControlConfig:
    """Configuration of `netagent control run`.

    state_dir: holds the store; made when absent.
    listen: `unix:///PATH`, or `HOST:PORT` with a literal address ([::1]:7400); several are
        separated by commas.
    insecure: allows listening elsewhere than on loopback or a unix socket.
    prefix: the fleet's /64, used when the fleet is first made (a random unique local prefix
        otherwise); later it has to be the same.
    prepare_bound_s, settle_bound_s: how long hosts may hold up the commit and the end of a move.
    drain_s: how long a source still forwards once all hosts have learned of the commit.
    """

    state_dir: Path = Path("/var/lib/netagent/control")
    listen: str = "unix:///run/netagent/control.sock"
    insecure: bool = False
    prefix: IPv6Network | None = None
    prepare_bound_s: float = 5.0
    settle_bound_s: float = 10.0
    drain_s: float = 0.5
