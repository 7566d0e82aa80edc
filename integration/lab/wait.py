"""Waiting for what must become true, with a deadline; the only place where the lab sleeps."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from integration.lab.pace import PACE

T = TypeVar("T")

POLL_S = 0.02


def wait_until(what: str, condition: Callable[[], T], timeout_s: float = 20.0) -> T:
    """Return the first true value of `condition`; AssertionError with the last one in the end.

    Slower labs have more time (pace.py). An AssertionError that `condition` raises counts as not
    yet.
    """
    timeout_s = PACE.allow(timeout_s)
    deadline = time.monotonic() + timeout_s
    while True:
        problem: object
        try:
            value = condition()
            if value:
                return value
            problem = value
        except AssertionError as error:
            problem = error
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s:g} s: {what}; last: {problem}")
        time.sleep(POLL_S)
