"""The agent's real local API on a thread, without a data path: tests say what it reported."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cli_fleet import DEADLINE_S, Cli, wait_until

from netagent.agent.attach import Attacher
from netagent.agent.flow_log import FlowLog, NamedFlow
from netagent.agent.flow_service import counters_to_message
from netagent.agent.local_api import serve_local_api
from netagent.agent.service import AgentService
from netagent.api.agent.v1 import agent_service_pb2 as pb
from netagent.dataplane.abi import Counter, Verdict
from netagent.dataplane.abi_flows import EventKind, EventLosses, EventRow, Program
from netagent.dataplane.abi_policy import RuleCounter, RuleRow
from netagent.model.addresses import StableId
from netagent.policy.compiler import compile_policy
from netagent.policy.fleet import FleetSnapshot
from netagent.policy.reading import load_policy
from netagent.reconcile.view import HeldPolicy, View

SHOP = """\
network: shop
rules:
  - {name: web, from: any, to: any, allow: [tcp/80]}
  - {name: apps, from: any, to: any, allow: [tcp/81]}
"""

TIME_NS = 1_800_000_000_123_456_789
"""2027-01-15, 08:00 UTC."""

DROP = NamedFlow(
    event=EventRow(
        time_ns=1,
        source_upper=0,
        source=StableId(0),
        destination_upper=0,
        destination=StableId(0),
        kind=EventKind.DROP,
        verdict=Verdict.DROP_DENIED_EGRESS,
        program=Program.FROM_MACHINE,
        bytes=94,
        network=1,
        version=3,
        rule=0,
        audit_rule=0,
        source_port=40_000,
        destination_port=22,
        direction=0,
        protocol=6,
        icmp_type=0,
        icmp_code=0,
        is_audited=False,
    ),
    time_ns=TIME_NS,
    source_address="fd00::1",
    source_name="shop/web",
    destination_address="fd00::2",
    destination_name="shop/db",
    network="shop",
    rule="",
    audit_rule="",
)
"""A TCP packet to port 22 that the default of a policy dropped."""


NO_LOSSES = EventLosses(0, 0, 0)


def seen(change: dict[str, Any] | None = None, **fields: Any) -> NamedFlow:
    """Return DROP with other fields. change: those of the event."""
    return replace(DROP, event=replace(DROP.event, **(change or {})), **fields)


@dataclass
class LocalAgent:
    """A running local API. cli: the command, told where it is."""

    cli: Cli
    _loop: asyncio.AbstractEventLoop
    _log: FlowLog
    _losses: EventLosses = NO_LOSSES

    def report(self, *flows: NamedFlow, suppressed: int = 0, lost: int = 0) -> None:
        """What the data path does."""
        before = self._losses
        self._losses = EventLosses(
            before.sent + len(flows), before.suppressed + suppressed, before.lost + lost
        )
        self._on_loop(lambda: self._log.add(list(flows), self._losses))

    def stop(self) -> None:
        """End those who follow, as an agent does that stops."""
        self._on_loop(self._log.close)

    def _on_loop(self, call: Callable[[], None]) -> None:
        async def run() -> None:
            call()

        asyncio.run_coroutine_threadsafe(run(), self._loop).result(DEADLINE_S)


@contextmanager
def local_agent(directory: Path) -> Iterator[LocalAgent]:
    """Serve the local API until the block ends."""
    loop, log, path = asyncio.new_event_loop(), FlowLog(), directory / "agent.sock"
    over = asyncio.Event()

    async def serve() -> None:
        unused = Attacher.__new__(Attacher)
        service = AgentService(unused, _never, _never, log, _read_counters)
        async with serve_local_api(path, service):
            await over.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    try:
        agent = LocalAgent(Cli("unix:///nonexistent", str(path)), loop, log)
        wait_until(path.exists)
        agent.report()
        yield agent
        agent.stop()
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join(DEADLINE_S)
        loop.close()


async def _never() -> Any:
    raise AssertionError("only flows and counters are asked for here")


async def _read_counters(network: str) -> pb.ListRuleCountersResponse:
    view = View()
    fleet = FleetSnapshot(None, {"shop": 1}, {}, {})
    compiled = compile_policy(load_policy(SHOP, "shop.yaml"), fleet, 3).entries
    view.policies[1] = HeldPolicy(compiled, b"content")
    numbers = {name: number for number, name in compiled.rules.items()}
    none = Counter(0, 0)
    counted = {
        (RuleRow(1, 0), False): RuleCounter(none, Counter(3, 282), Counter(1, 94)),
        (RuleRow(1, 0), True): RuleCounter(none, none, none),
        (RuleRow(1, numbers["web"]), False): RuleCounter(Counter(7, 4096), none, none),
        (RuleRow(1, numbers["apps"]), True): RuleCounter(Counter(1, 94), none, none),
    }
    return counters_to_message(counted, view, network)
