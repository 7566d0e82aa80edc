"""Work inside another network namespace.

setns(2) changes the calling thread only, and pyroute2's sockets stay in the namespace in which they
were opened, so the work runs in a thread of its own that ends with it.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from netagent.model.errors import DataplaneError

T = TypeVar("T")

_CLONE_NEWNET = 0x40000000


@contextmanager
def open_netns(path: Path) -> Iterator[int]:
    """Give a descriptor of the namespace at `path`; DataplaneError when nothing can be opened."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise _failed(path, str(error), error.errno or 0) from error
    try:
        yield fd
    finally:
        os.close(fd)


def run_in_netns(path: Path, work: Callable[[], T]) -> T:
    """Return what `work` returns in the network namespace at `path`, or raise what it raises.

    Raises DataplaneError when `path` is not a network namespace.
    """
    results: list[T] = []
    errors: list[BaseException] = []

    def enter(fd: int) -> None:
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            if libc.setns(fd, _CLONE_NEWNET) != 0:
                code = ctypes.get_errno()
                raise _failed(path, os.strerror(code), code)
            results.append(work())
        except BaseException as error:
            errors.append(error)

    with open_netns(path) as fd:
        thread = threading.Thread(target=enter, args=(fd,), name=f"netns {path}")
        thread.start()
        thread.join()
    if errors:
        raise errors[0]
    return results[0]


def _failed(path: Path, detail: str, code: int) -> DataplaneError:
    return DataplaneError("enter", f"network namespace {path}", detail, code)
