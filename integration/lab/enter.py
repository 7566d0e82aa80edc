"""Sockets that belong to another network namespace than their process."""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator

from integration.lab.namespace import Namespace

_CLONE_NEWNET = 0x40000000
_LIBC = ctypes.CDLL(None, use_errno=True)


@contextlib.contextmanager
def inside(namespace: Namespace) -> Iterator[None]:
    """Make this thread's new sockets belong to a namespace, for the block."""
    with open("/proc/thread-self/ns/net") as own, namespace.netns.open() as other:
        if _LIBC.setns(other.fileno(), _CLONE_NEWNET) != 0:
            raise OSError(
                ctypes.get_errno(),
                f"cannot enter {namespace.name}: {os.strerror(ctypes.get_errno())}",
            )
        try:
            yield
        finally:
            _LIBC.setns(own.fileno(), _CLONE_NEWNET)
