"""The virtual machines of a test run: booted once, and as good as new for each test.

One lab of the usual shape lives through the run. A test that may do what it likes to a lab gets it
after a reset; tests that leave everything as they found it get it as it is, filled once.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import grpc

from integration.lab.vm.lab import VmLab


class Pool:
    """The labs of a run. make: what makes one of a shape. kernels: of the hosts, in turn."""

    def __init__(self, make: Callable[..., VmLab], kernels: Sequence[str]) -> None:
        self._make = make
        self._kernels = kernels
        self._lab: VmLab | None = None
        self._filled_by: Callable[[Any], None] | None = None

    def take(self, fill: Callable[[Any], None], *, is_left_as_found: bool) -> VmLab:
        """Return a lab of three hosts that is as `fill` leaves a new one."""
        if self._lab is not None and self._filled_by is fill:
            return self._lab
        lab = self._renew()
        fill(lab)
        self._filled_by = fill if is_left_as_found else None
        return lab

    @contextlib.contextmanager
    def open(self, **options: Any) -> Iterator[VmLab]:
        """Make a lab of another shape, for the block."""
        with self._make(**{"kernels": self._kernels, **options}) as lab:
            yield lab

    def spoil(self) -> None:
        """Say that a test failed: whatever it did to the lab, the next gets a new or reset one."""
        self._filled_by = None

    def stop(self) -> None:
        """End what lives."""
        if self._lab is not None:
            self._lab.stop()
            self._lab = None

    def _renew(self) -> VmLab:
        self._filled_by = None
        if self._lab is not None:
            for renew in (self._lab.empty, self._lab.reset):
                try:
                    renew()
                    return self._lab
                except (AssertionError, grpc.RpcError) as error:
                    print(f"{renew.__name__}: {error}", file=sys.stderr)
            self._lab.show_logs()
            self.stop()
        if self._lab is None:
            lab = self._make(hosts=3, kernels=self._kernels)
            lab.begin()
            self._lab = lab
        return self._lab
