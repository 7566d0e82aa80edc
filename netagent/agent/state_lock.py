"""One agent per state directory: an advisory lock that the kernel takes back when we die."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from netagent.model.errors import StateError


@contextmanager
def hold_state_lock(path: Path) -> Iterator[None]:
    """Hold the lock for the block; StateError when an agent holds it."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StateError(f"an agent runs with {path.parent}: stop it first") from error
        yield
    finally:
        os.close(fd)
