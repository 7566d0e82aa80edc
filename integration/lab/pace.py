"""How fast this run's lab is, as its backend says before it starts one.

Limits in tests are those of namespaces on real processors. Hosts in software emulation are many
times as slow: what they are asked for is less, and they are waited for longer.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Pace:
    """slowness: what time limits are multiplied, and throughputs divided by.

    stream_rate: of a TCP stream that only has to live, as iperf3 takes it. probe_rate: packets/s.
    """

    slowness: float = 1.0
    stream_rate: str = "50M"
    probe_rate: int = 1000


PACE = Pace()
"""The one of this process."""


def set_pace(slowness: float, stream_rate: str, probe_rate: int) -> None:
    """Say how fast labs of this process are."""
    PACE.slowness, PACE.stream_rate, PACE.probe_rate = slowness, stream_rate, probe_rate
