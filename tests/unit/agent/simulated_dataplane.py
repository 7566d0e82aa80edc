"""A data path in memory with the behaviour of netagent.dataplane, for tests without root.

test_agent_dataplane_contract.py holds it and the real one to the same behaviour.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from ipaddress import IPv6Address, IPv6Network
from pathlib import Path

from simulated_events import EventState, SimulatedEvents
from simulated_policies import PolicyState, SimulatedPolicies

from netagent.dataplane.abi import Constants, Counter, Misdirected, Verdict
from netagent.dataplane.datapath import Attachment
from netagent.dataplane.link import Link
from netagent.dataplane.link_use import LinkUse
from netagent.dataplane.wireguard import PeerConfig, PeerStatus
from netagent.model.addresses import GATEWAY_MAC, Locator, StableId
from netagent.model.errors import DataplaneError
from netagent.model.flows import CarriedFlow


class SimulatedTable:
    def __init__(self, journal: list[tuple[str, object]], name: str, capacity: int) -> None:
        self._journal = journal
        self.name = name
        self.capacity = capacity
        self.rows: dict = {}
        self.refuses = False
        self.before_get: Callable[[], object] = lambda: None

    def get(self, key):
        self.before_get()
        return self.rows.get(key)

    def items(self):
        return dict(self.rows)

    def update(self, rows: Mapping) -> None:
        if not rows:
            return
        if self.refuses:
            raise DataplaneError("update", f"map {self.name}", "no memory", 12)
        if len(self.rows.keys() | rows.keys()) > self.capacity:
            raise DataplaneError("update", f"map {self.name}", "no room", 7)
        self._journal.append((f"{self.name}.update", dict(rows)))
        self.rows.update(rows)

    def delete(self, keys: Iterable) -> None:
        for key in keys:
            self._journal.append((f"{self.name}.delete", key))
            self.rows.pop(key, None)


class SimulatedDataplane:
    """What the kernel holds; survives an agent that restarts. `journal` has every change."""

    def __init__(self, *, location_capacity: int = 1000) -> None:
        self.journal: list[tuple[str, object]] = []
        self.location = SimulatedTable(self.journal, "location", location_capacity)
        self.transition = SimulatedTable(self.journal, "transition", 100)
        self.endpoint = SimulatedTable(self.journal, "endpoint", 100)
        self.connections = SimulatedConnections()
        self.policies = PolicyState(self.journal)
        self.events = EventState()
        self.links: dict[str, Link] = {"u0": Link("u0", 1, b"\x02" * 6, 1500, True)}
        self.uses: dict[str, LinkUse] = {}
        self.loaded: Constants | None = None
        self.attached: dict[int, tuple[Attachment, Constants]] = {}
        self.peers: tuple[PeerConfig, ...] = ()
        self.active: dict[Path, str] = {}
        self.down_inside: set[str] = set()
        self.prepared: set[str] = set()
        self.failing: DataplaneError | None = None
        self._next_ifindex = 10

    def changes(self) -> list[str]:
        return [name for name, _ in self.journal]

    def make_link(self, name: str, mac: bytes = GATEWAY_MAC) -> Link:
        link = Link(name, self._next_ifindex, mac, 1408, True)
        self._next_ifindex += 1
        self.links[name] = link
        return link

    def remove_link(self, name: str) -> None:
        """What happens when somebody else removes it: its filters go with it."""
        link = self.links.pop(name)
        self.attached.pop(link.ifindex, None)


class SimulatedConnections:
    """Flows by key, that have not aged; `refuses`: whether the kernel fails."""

    def __init__(self) -> None:
        self.flows: dict[bytes, CarriedFlow] = {}
        self.refuses = False

    def flows_of(self, *ids: StableId) -> list[CarriedFlow]:
        if self.refuses:
            raise DataplaneError("read", "map conntrack", "no memory", 12)
        return [flow for flow in self.flows.values() if any(map(flow.has_end, ids))]

    def take_over(self, flows: Iterable[CarriedFlow]) -> int:
        before = len(self.flows)
        for flow in flows:
            self.flows.setdefault(flow.key, flow)
        return len(self.flows) - before


class SimulatedDatapath:
    def __init__(self, state: SimulatedDataplane) -> None:
        self._state = state
        self.connections = state.connections
        self.location = state.location
        self.transition = state.transition
        self.endpoint = state.endpoint
        self.policies = SimulatedPolicies(state.policies)
        self.events = SimulatedEvents(state.events)

    def await_programs(self) -> None:
        self._state.journal.append(("await_programs", None))

    def load(self, constants: Constants) -> None:
        self._state.loaded = constants

    def attach(self, ifindex: int, attachment: Attachment) -> bool:
        if self._state.failing:
            raise self._state.failing
        if ifindex not in {link.ifindex for link in self._state.links.values()}:
            raise DataplaneError("attach a program to", f"interface {ifindex}", "gone", 19)
        wanted = attachment, self._state.loaded
        if self._state.attached.get(ifindex) == wanted:
            return False
        self._state.journal.append(("attach", (ifindex, attachment)))
        self._state.attached[ifindex] = wanted
        return True

    def detach(self, ifindex: int) -> bool:
        self._state.journal.append(("detach", ifindex))
        return self._state.attached.pop(ifindex, None) is not None

    def prune(self) -> list[str]:
        return []

    def counters(self) -> dict[Verdict, Counter]:
        return {Verdict.PASS_TO_MESH: Counter(3, 300), Verdict.DROP_NO_POLICY: Counter(0, 0)}

    def misdirected(self) -> dict[Locator, Misdirected]:
        return {}

    def close(self) -> None:
        self.events.close()


class SimulatedLinks:
    def __init__(self, state: SimulatedDataplane) -> None:
        self._state = state

    def find(self, name: str) -> Link | None:
        return self._state.links.get(name)

    def ensure_host_interface(
        self, name: str, address: IPv6Address, prefix: IPv6Network, mtu_bytes: int
    ) -> tuple[Link, Link]:
        if name not in self._state.links:
            self._state.make_link(f"{name}-gw")
            self._state.make_link(name, b"\x0a" * 6)
            self._state.journal.append(("link.make", name))
        return self._state.links[name], self._state.links[f"{name}-gw"]

    def make_machine_interface(
        self,
        name: str,
        netns: Path,
        address: IPv6Address,
        mac: bytes,
        mtu_bytes: int,
        before_up: Callable[[int], None] = lambda ifindex: None,
    ) -> Link:
        if self.find(name) is None:
            if str(netns).endswith("gone"):
                raise DataplaneError("enter", f"namespace {netns}", "no such file", 2)
            made = self._state.make_link(name)
            self._state.journal.append(("link.make", name))
            before_up(made.ifindex)
        self.mend_machine_interface(name, netns, address, mac, mtu_bytes)
        return self._state.links[name]

    def mend_machine_interface(
        self, name: str, netns: Path, address: IPv6Address, mac: bytes, mtu_bytes: int
    ) -> bool:
        if name not in self._state.down_inside:
            return False
        self._state.down_inside.discard(name)
        self._state.journal.append(("mend", name))
        return True

    def is_way_out(self, name: str, netns: Path) -> bool:
        return self._state.active.get(netns) == name

    def leads_elsewhere(self, name: str, netns: Path) -> bool:
        return self._state.active.get(netns, name) != name

    def prepare_machine_route(self, name: str, netns: Path) -> None:
        self._state.prepared.add(name)

    def release_machine_route(self, name: str) -> None:
        self._state.prepared.discard(name)

    def activate_machine_interface(self, name: str, netns: Path) -> bool:
        self._state.prepared.discard(name)
        if name not in self._state.links:
            raise DataplaneError("find", f"interface {name}", "there is none of that name", 19)
        if name in self._state.down_inside:
            raise DataplaneError("lead", "the machine's default route", "unreachable", 101)
        if self._state.active.get(netns) == name:
            return False
        self._state.active[netns] = name
        self._state.journal.append(("activate", name))
        return True

    def prepare_existing_interface(
        self, name: str, before_up: Callable[[int], None] = lambda ifindex: None
    ) -> Link:
        if name not in self._state.links:
            raise DataplaneError("find", f"interface {name}", "there is none of that name", 19)
        before_up(self._state.links[name].ifindex)
        link = replace(self._state.links[name], mac=GATEWAY_MAC, is_up=True)
        self._state.links[name] = link
        return link

    def observe_use(self, name: str) -> LinkUse:
        return self._state.uses.get(name, LinkUse("tun", True, False, None, (), False))

    def give_back(self, name: str, mac: bytes, *, is_up: bool) -> bool:
        link = self._state.links.get(name)
        if link is None or (link.mac, link.is_up) == (mac, is_up):
            return False
        self._state.links[name] = replace(link, mac=mac, is_up=is_up)
        self._state.journal.append(("give_back", name))
        return True

    def remove(self, name: str) -> bool:
        if name not in self._state.links:
            return False
        self._state.remove_link(name)
        self._state.journal.append(("link.remove", name))
        return True

    def underlay_mtu(self, address: object) -> int:
        return self._state.links["u0"].mtu_bytes

    def close(self) -> None:
        pass


class SimulatedMesh:
    def __init__(self, state: SimulatedDataplane, interface: str = "netagent0") -> None:
        self._state = state
        self._interface = interface
        self._applied: tuple[PeerConfig, ...] | None = None

    def ensure(self, listen_port: int, mtu_bytes: int) -> str:
        if self._state.failing:
            raise self._state.failing
        if self._interface not in self._state.links:
            self._state.make_link(self._interface, b"")
            self._state.peers = ()
            self._state.journal.append(("mesh.make", self._interface))
            self._applied = None
        return "wireguard-go"

    def apply(self, peers: Iterable[PeerConfig]) -> bool:
        wanted = tuple(sorted(peers, key=lambda peer: peer.public_key))
        if wanted == self._applied:
            return False
        self._state.journal.append(("mesh.apply", wanted))
        self._state.peers = self._applied = wanted
        return True

    def observe(self) -> list[PeerStatus]:
        return [
            PeerStatus(peer.public_key, peer.endpoint, (peer.allowed,), 0, 0, 0)
            for peer in self._state.peers
        ]

    def is_applied(self, peers: Iterable[PeerConfig]) -> bool:
        return set(peers) == set(self._state.peers)

    def forget(self) -> None:
        self._applied = None

    def ifindex(self) -> int | None:
        link = self._state.links.get(self._interface)
        return link.ifindex if link else None
