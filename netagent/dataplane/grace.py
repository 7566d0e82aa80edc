"""How to know that no program is still reading what it found before a write.

Programs run within an RCU read-side section; membarrier(2) with MEMBARRIER_CMD_GLOBAL returns after
all those that had begun have ended (8 to 20 ms on an idle machine). It is not there on kernels with
nohz_full processors, where a sleep longer than any program runs takes its place.
"""

from __future__ import annotations

import ctypes as c
import os
import time

_MEMBARRIER = {"x86_64": 324, "aarch64": 283}
_GLOBAL = 1

FALLBACK_S = 0.1


def wait_for_programs() -> None:
    """Return when every BPF program that is running now has ended. Blocks for some 15 ms."""
    number = _MEMBARRIER.get(os.uname().machine)
    if number is None or c.CDLL(None).syscall(c.c_long(number), _GLOBAL, 0, 0) != 0:
        time.sleep(FALLBACK_S)
