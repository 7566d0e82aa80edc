"""Reads what the data path reports, as it comes, and puts it into the flow log with names."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from netagent.agent.conditions import Code, Conditions
from netagent.agent.flow_log import FlowLog
from netagent.agent.flow_names import FlowNames
from netagent.agent.ports import EventsPort
from netagent.model.errors import DataplaneError

RETRY_S = 5.0


class FlowWatch:
    """One task runs `run`. Reading takes microseconds and never blocks: the loop's thread does it.

    names: what things are called now; asked for each handful of events.
    """

    def __init__(
        self,
        events: EventsPort,
        log: FlowLog,
        names: Callable[[], FlowNames],
        conditions: Conditions,
    ) -> None:
        self._events = events
        self._log = log
        self._names = names
        self._conditions = conditions

    async def run(self) -> None:
        """Read, for ever. What came while nobody read waits in the buffer."""
        loop = asyncio.get_running_loop()
        readable = asyncio.Event()
        loop.add_reader(self._events.fileno(), readable.set)
        try:
            while True:
                readable.clear()
                try:
                    self._take()
                except DataplaneError as error:
                    self._conditions.set(Code.FLOWS_UNREADABLE, str(error))
                    await asyncio.sleep(RETRY_S)
                    continue
                self._conditions.clear(Code.FLOWS_UNREADABLE)
                await readable.wait()
        finally:
            loop.remove_reader(self._events.fileno())

    def _take(self) -> None:
        losses = self._events.losses()
        names = self._names()
        self._log.add([names.name_flow(event) for event in self._events.take()], losses)
