"""What hosts report about a move, beyond having applied what they were told."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Carried:
    """The source has carried the machine's connections to the destination.

    entries: how many, since the move began. is_final: nothing more comes, the machine is fenced.
    """

    entries: int
    is_final: bool = False


@dataclass(frozen=True, slots=True)
class Refused:
    """The destination cannot take the machine."""

    reason: str


@dataclass(frozen=True, slots=True)
class Alive:
    """The machine has shown life on its interface at the destination."""


Report = Carried | Refused | Alive
