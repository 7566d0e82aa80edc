"""Watches the interfaces of machines that move here and whose life there commits the move."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from ipaddress import IPv6Address
from typing import Protocol

from netagent.agent.attached import AttachedMachine
from netagent.model.addresses import StableId
from netagent.model.errors import DataplaneError
from netagent.reconcile.moving import Arrival

log = logging.getLogger(__name__)

_Key = tuple[StableId, int]


class LifePort(Protocol):
    """netagent.dataplane.life.LifeSocket documents the methods."""

    def fileno(self) -> int: ...  # noqa: D102
    def has_heard(self) -> bool: ...  # noqa: D102
    def close(self) -> None: ...  # noqa: D102


class LifeWatch:
    """Runs on the loop of whoever calls `take`.

    listen: opens an ear for (interface, MAC, address). address_of: of a machine. report: told once
    of each arrival that shows life.
    """

    def __init__(
        self,
        listen: Callable[[str, bytes, IPv6Address], LifePort],
        address_of: Callable[[StableId], IPv6Address],
        report: Callable[[Arrival], None],
    ) -> None:
        self._listen = listen
        self._address_of = address_of
        self._report = report
        self._ears: dict[_Key, LifePort] = {}

    def take(self, awaited: Mapping[Arrival, AttachedMachine]) -> None:
        """Watch for these and no others."""
        for key in self._ears.keys() - {arrival.key for arrival in awaited}:
            self._close(key)
        for arrival, machine in awaited.items():
            if arrival.key not in self._ears:
                self._open(arrival, machine)

    def close(self) -> None:
        """Watch for nobody."""
        for key in tuple(self._ears):
            self._close(key)

    def _open(self, arrival: Arrival, machine: AttachedMachine) -> None:
        address = self._address_of(machine.stable_id)
        try:
            ear = self._listen(machine.interface, machine.mac, address)
        except DataplaneError as error:
            log.warning("cannot watch for life machine=%s detail=%r", machine.machine, str(error))
            return
        self._ears[arrival.key] = ear
        loop = asyncio.get_running_loop()
        loop.add_reader(ear.fileno(), self._hear, arrival, machine)

    def _hear(self, arrival: Arrival, machine: AttachedMachine) -> None:
        if self._ears[arrival.key].has_heard():
            log.info("machine shows life machine=%s epoch=%d", machine.machine, arrival.epoch)
            # First the report: closing a packet socket waits for the kernel.
            self._report(arrival)
            self._close(arrival.key)

    def _close(self, key: _Key) -> None:
        ear = self._ears.pop(key)
        asyncio.get_running_loop().remove_reader(ear.fileno())
        ear.close()
