"""The machines that are attached to this host, as the agent remembers them."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from netagent.agent.config import INTERFACE_NAME_MAX
from netagent.model.addresses import Locator, StableId
from netagent.model.fleet import Location, Transition

INTERFACE_PREFIX = "na-"


@dataclass(frozen=True, slots=True)
class FormerLink:
    """What an interface was before it was attached. mac: 6 bytes, wire order."""

    mac: bytes
    is_up: bool


@dataclass(frozen=True, slots=True)
class AttachedMachine:
    """One attachment, kept over restarts.

    machine: NETWORK/NAME. interface: the host's side. mac: 6 bytes, wire order, the machine's.
    netns: the namespace in which the agent made the machine's interface; None when the interface
    was there before and is not the agent's to remove. former: what such an interface was; None when
    that was never recorded.
    """

    stable_id: StableId
    machine: str
    interface: str
    mac: bytes
    netns: Path | None = None
    former: FormerLink | None = None


class EndpointState(Enum):
    """What an attached machine may do now; derived from the tables, as the programs do."""

    LIVE = "live"
    STAGED = "staged"
    FENCED = "fenced"


def endpoint_state(
    location: Location | None, transition: Transition | None, own_locator: Locator
) -> EndpointState:
    """Return the state of a machine that is attached to the host of `own_locator`."""
    if location is not None and location.locator == own_locator:
        return EndpointState.LIVE
    if transition is not None and transition.destination == own_locator:
        return EndpointState.STAGED
    return EndpointState.FENCED


def interface_name(stable_id: StableId, machine: str, is_taken: Callable[[str], bool]) -> str:
    """Return the name of a machine's host-side interface: at most 15 bytes.

    `na-` and the machine's name where that fits and is free; else `na` and the id in base 32, which
    is free for certain.
    """
    readable = INTERFACE_PREFIX + machine.rpartition("/")[2]
    if len(readable) <= INTERFACE_NAME_MAX and not is_taken(readable):
        return readable
    digits = base64.b32encode(stable_id.to_bytes(8, "big")).decode().rstrip("=").lower()
    return "na" + digits
