"""A small fleet and an engine on a simulated data path."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Network
from pathlib import Path

from simulated_dataplane import (
    SimulatedDatapath,
    SimulatedDataplane,
    SimulatedLinks,
    SimulatedMesh,
)

from netagent.agent.attached import AttachedMachine
from netagent.agent.config import AgentConfig
from netagent.agent.engine import Engine
from netagent.agent.facts import OwnHost
from netagent.agent.kernel import Kernel
from netagent.model.addresses import Fleet, StableId, make_id, make_locator
from netagent.model.fleet import Endpoint, Host, Identity, Location, Transition
from netagent.reconcile.batch import Batch, LocationChange, NamedLocation, TransitionChange

FLEET = Fleet("fleet-1", IPv6Network("fd00:1:2::/64"))
WEB = make_id(1, 1, 1)
DB = make_id(1, 1, 2)


def make_host(number: int) -> Host:
    return Host(
        name=f"h{number}",
        region=1,
        number=number,
        public_key=bytes([number]) * 32,
        endpoint=Endpoint(IPv4Address(f"10.0.0.{number}"), 51820),
        stable_id=make_id(0, 1, number),
        locator=make_locator(FLEET, 1, number),
    )


H1, H2, H3 = (make_host(number) for number in (1, 2, 3))
OWN = OwnHost(FLEET, H1)


def at(host: Host, epoch: int, name: str = "web") -> NamedLocation:
    return NamedLocation(name, Location(host.locator, Identity(2), epoch))


def located(rows: dict[StableId, NamedLocation], revision: int) -> Batch:
    return Batch(revision, locations=(LocationChange(1, "red", False, rows),))


def moving(
    stable_id: StableId, source: Host, destination: Host, epoch: int, revision: int
) -> Batch:
    row = Transition(source.locator, destination.locator, epoch)
    return Batch(revision, transitions=(TransitionChange(1, False, {stable_id: row}),))


def settled(stable_id: StableId, epoch: int, revision: int) -> Batch:
    return Batch(revision, transitions=(TransitionChange(1, False, {}, {stable_id: epoch}),))


def snapshot(rows: dict[StableId, NamedLocation], revision: int = 1) -> Batch:
    table = LocationChange(1, "red", True, rows)
    return Batch(revision, True, (H1, H2, H3), (), (table,))


def machine_in(netns: str | None, interface: str = "na-web") -> AttachedMachine:
    """Return red/web, attached by a namespace or, without one, by its interface."""
    return AttachedMachine(WEB, "red/web", interface, b"\x02" * 6, Path(netns) if netns else None)


@dataclass
class Rig:
    """An engine on a simulated data path; `restart` makes a new engine on the same one."""

    config: AgentConfig
    state: SimulatedDataplane = field(default_factory=SimulatedDataplane)
    now_ns: int = 1_000_000_000

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> Engine:
        self.kernel = Kernel(
            SimulatedDatapath(self.state),
            SimulatedLinks(self.state),
            SimulatedMesh(self.state),
            lambda: self.now_ns,
        )
        self.engine = Engine(self.config, self.kernel)
        self.engine.take_place(OWN)
        return self.engine

    def start(self, rows: dict[StableId, NamedLocation]) -> Engine:
        """Bring the engine up with a snapshot in which `rows` are."""
        self.engine.reconcile()
        self.engine.take_batch(snapshot(rows))
        self.state.journal.clear()
        return self.engine

    def attach(self, stable_id: StableId = WEB, name: str = "web") -> AttachedMachine:
        machine = AttachedMachine(
            stable_id, f"red/{name}", f"na-{name}", b"\x02\x6e\0\0\0\1", Path(f"/run/netns/{name}")
        )
        self.engine.attach(machine)
        self.state.journal.clear()
        return machine
