"""How fast this run's lab is, as its backend says before it starts one.

Limits in tests are those of namespaces on real processors. Hosts in software emulation are many
times as slow: what they are asked for is less, and they are waited for longer.
"""

from __future__ import annotations

from dataclasses import dataclass

EMULATED_SLOWNESS = 20.0
SLOWEST_S = 240.0
"""A slow lab gets no more than this, unless the deadline itself is later."""


@dataclass
class Pace:
    """slowness: what time limits are multiplied, and throughputs divided by.

    stream_rate: of a TCP stream that only has to live, as iperf3 takes it. probe_rate: packets/s.
    silence_s: no answer for so long is none; a slow lab on a busy machine takes seconds for one.
    """

    slowness: float = 1.0
    stream_rate: str = "50M"
    probe_rate: int = 1000
    silence_s: float = 1.0

    @property
    def can_measure(self) -> bool:
        """Whether a throughput says more than how busy the emulator is."""
        return self.slowness < EMULATED_SLOWNESS

    def allow(self, timeout_s: float) -> float:
        """Return the limit, in seconds, of what takes less than `timeout_s` among namespaces."""
        return max(timeout_s, min(timeout_s * self.slowness, SLOWEST_S))


PACE = Pace()
"""The one of this process."""


def set_pace(slowness: float, stream_rate: str, probe_rate: int, silence_s: float) -> None:
    """Say how fast labs of this process are."""
    PACE.slowness, PACE.stream_rate, PACE.probe_rate = slowness, stream_rate, probe_rate
    PACE.silence_s = silence_s
