"""A figure as its spread, and how it is shown."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class Spread:
    """Minimum, median and maximum of several runs."""

    min: float
    median: float
    max: float

    def as_json(self) -> dict[str, float]:
        """Return it for --json, rounded to four digits."""
        return {key: float(f"{value:.4g}") for key, value in asdict(self).items()}

    def __str__(self) -> str:
        return f"{self.median:.4g} ({self.min:.4g} to {self.max:.4g})"


def spread(values: Iterable[float]) -> Spread:
    """Return the spread of at least one value."""
    values = sorted(values)
    return Spread(values[0], median(values), values[-1])


def ratios(ours: Iterable[float], theirs: Iterable[float]) -> Spread:
    """Return the spread of ours/theirs, run by run: neighbours in time share the noise."""
    return spread(a / b for a, b in zip(ours, theirs, strict=True))
