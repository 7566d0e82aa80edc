"""What migrations cost, as another machine saw it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from integration.bench.figures import spread
from integration.vm_migration.observer import Answers

IN_FLIGHT_S = 0.05
"""A ping that was sent so long before the guest stopped may reach it only then, on a busy host."""


@dataclass(frozen=True, slots=True)
class Span:
    """One migration. downtime_ms, total_ms: as QEMU says. Times are Unix time.

    stopped_s, resumed_s: of the guest. ready_s: the first packet for it was on its new tap.
    spoke_s: its own first packet was there.
    is_connected: whether its TCP connections work afterwards.
    """

    is_connected: bool
    began_s: float
    ended_s: float
    downtime_ms: float
    total_ms: float
    stopped_s: float
    resumed_s: float
    ready_s: float
    spoke_s: float

    @property
    def pause_ms(self) -> float:
        """How long the guest was stopped."""
        return (self.resumed_s - self.stopped_s) * 1e3

    @property
    def late_ms(self) -> float:
        """How long the guest was up before the network was ready; 0 when that was earlier."""
        return max(self.ready_s - self.resumed_s, 0) * 1e3

    @property
    def waking_ms(self) -> float:
        """How long the guest took to say something once it was up and the network was ready."""
        return (self.spoke_s - max(self.ready_s, self.resumed_s)) * 1e3

    def explains(self, sent_s: float) -> bool:
        """Whether a ping that was sent then may have met a guest that was stopped."""
        return self.stopped_s - IN_FLIGHT_S <= sent_s <= self.resumed_s


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of all migrations, the first one first. quiet_s: a span in which nothing happened."""

    spans: Sequence[Span]
    answers: Answers
    quiet_s: tuple[float, float]

    @property
    def lost_awake(self) -> int:
        """Pings lost that the guest was up to receive."""
        return sum(not any(span.explains(at) for span in self.spans) for at in self.answers.lost)

    def gap_ms(self, span: Span) -> float:
        """Return the longest time without an answer around a migration."""
        return self.answers.gap_ms(span.began_s, span.ended_s)

    def network_stall_ms(self, span: Span) -> float:
        """Return what of the longest time without an answer was neither pause nor waking."""
        return self.gap_ms(span) - span.pause_ms - span.waking_ms

    def as_json(self) -> dict[str, object]:
        """Return it for --json."""
        return {
            "pings": self.answers.sent,
            "lost": len(self.answers.lost),
            "lost_awake": self.lost_awake,
            "broken": sum(not span.is_connected for span in self.spans),
            "quiet_gap_ms": self.answers.gap_ms(*self.quiet_s),
            "downtime_ms": [span.downtime_ms for span in self.spans],
            "pause_ms": [span.pause_ms for span in self.spans],
            "ready_after_stop_ms": [(span.ready_s - span.stopped_s) * 1e3 for span in self.spans],
            "waking_ms": [span.waking_ms for span in self.spans],
            "network_stall_ms": [self.network_stall_ms(span) for span in self.spans],
            "total_ms": [span.total_ms for span in self.spans],
            "gap_ms": [self.gap_ms(span) for span in self.spans],
        }

    def show(self, name: str) -> None:
        """Print it."""
        first, *others = self.spans
        print(f"\n{name}: {len(self.spans)} migrations, {self.answers.sent} pings")
        print(f"  pings lost                             {len(self.answers.lost)}")
        print(f"    that the guest was up to receive     {self.lost_awake}")
        broken = sum(not span.is_connected for span in self.spans)
        print(f"  migrations that broke TCP              {broken}")
        print(f"  longest gap without a migration, ms    {self.answers.gap_ms(*self.quiet_s):.0f}")
        self._show("the first", [first])
        if others:
            self._show("the others", others)

    def _show(self, name: str, spans: Sequence[Span]) -> None:
        ready = [(span.ready_s - span.stopped_s) * 1e3 for span in spans]
        gaps = [self.gap_ms(span) for span in spans]
        rows = {
            "whole migration": [span.total_ms for span in spans],
            "QEMU's downtime": [span.downtime_ms for span in spans],
            "the guest's pause, STOP to RESUME": [span.pause_ms for span in spans],
            "STOP to first packet at its new tap": ready,
            "the same, beyond the pause": [span.late_ms for span in spans],
            "RESUME to the guest's first packet": [span.waking_ms for span in spans],
            "longest gap": gaps,
            "beyond downtime": [
                gap - span.downtime_ms for gap, span in zip(gaps, spans, strict=True)
            ],
            "beyond pause and first packet": [self.network_stall_ms(span) for span in spans],
        }
        print(f"  {name}, ms: median (minimum to maximum)")
        for row, values in rows.items():
            print(f"    {row:<36} {spread(values)}")
