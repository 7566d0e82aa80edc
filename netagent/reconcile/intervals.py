"""Where intervals of policy classes lie in the kernel's array: ranges side by side, gaps reused.

Without state of its own: the ranges in use say what is free, so that nothing can be lost or given
away twice whatever was found in the kernel. Pure.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from netagent.model.errors import ExhaustedError

K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True, slots=True)
class IntervalRange:
    """`struct interval_range`, 8 bytes. first: index in policy_interval. count: at least 1."""

    first: int
    count: int


def find_gaps(used: Iterable[IntervalRange], size: int) -> list[IntervalRange]:
    """Return what no range covers of an array of `size` entries, ascending; they may overlap."""
    gaps = []
    at = 0
    for first, end in sorted((one.first, one.first + one.count) for one in used):
        if first > at:
            gaps.append(IntervalRange(at, min(first, size) - at))
        at = max(at, end)
        if at >= size:
            return gaps
    return [*gaps, IntervalRange(at, size - at)]


def place(
    needs: Mapping[K, int], used: Iterable[IntervalRange], size: int
) -> dict[K, IntervalRange]:
    """Return a range for each need, apart from each other and from those in use.

    needs: entries, each at least 1. In one piece where there is a gap for all of them, so that they
    are written at once; else each into the first gap that takes it, the largest first.
    Raises ExhaustedError when they do not fit.
    """
    if not needs:
        return {}
    gaps = find_gaps(used, size)
    total = sum(needs.values())
    whole = next((gap for gap in gaps if gap.count >= total), None)
    if whole is not None:
        return _line_up(needs, whole.first)
    placed = {}
    for key, count in sorted(needs.items(), key=lambda one: -one[1]):
        at = next((at for at, gap in enumerate(gaps) if gap.count >= count), None)
        if at is None:
            free = sum(gap.count for gap in gaps)
            raise ExhaustedError(
                f"no room for {count:,} intervals side by side: {free:,} of {size:,} are free"
            )
        gap = gaps[at]
        placed[key] = IntervalRange(gap.first, count)
        if gap.count == count:
            del gaps[at]
        else:
            gaps[at] = IntervalRange(gap.first + count, gap.count - count)
    return placed


def _line_up(needs: Mapping[K, int], first: int) -> dict[K, IntervalRange]:
    placed = {}
    for key, count in needs.items():
        placed[key] = IntervalRange(first, count)
        first += count
    return placed
