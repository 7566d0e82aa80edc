"""Packets one after the other through one host, each held against the oracle as it is answered."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from agreement import run_and_compare
from example_packets import ASH_ID, example_world, from_wire, ip, sent_by
from fleet_of_three import (
    BIRCH,
    BLUE_WEB,
    HOST,
    ONE,
    OUTSIDE,
    RED_WEB,
    SECOND_NS,
    THREE,
    TWO,
    address,
)
from host_under_test import HostUnderTest, Result, read_clocks
from oracle.policies import EntriesJudge
from oracle.world import Arrival, Side, Tally, World
from policy_books import Policies
from scapy.layers.inet import TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.packet import Packet, Raw

from netagent.dataplane.abi import Verdict
from netagent.dataplane.abi_flows import FlowRow, FlowStateRow
from netagent.model.addresses import StableId
from netagent.model.fleet import Identity

INTERFACE_OF = {RED_WEB: ONE, BLUE_WEB: THREE, ASH_ID: HOST}


def tcp(port: int, flags: str = "S", source_port: int = 50000) -> Packet:
    """Return a segment, the first of a connection unless flags say otherwise."""
    return TCP(sport=source_port, dport=port, flags=flags)


def tcp_back(port: int, flags: str = "A") -> Packet:
    """Return a segment that answers `tcp(port)`."""
    return TCP(sport=port, dport=50000, flags=flags)


def udp(port: int) -> Packet:
    return UDP(sport=50000, dport=port) / Raw(b"question")


def udp_back(port: int) -> Packet:
    """Return a datagram that answers `udp(port)`."""
    return UDP(sport=port, dport=50000) / Raw(b"answer")


class Conversation:
    """What ash has in force and remembers; time passes only when it is told to."""

    def __init__(self, host: HostUnderTest, policies: Policies) -> None:
        self._host = host
        empty: dict[str, Any] = {"flows": {}, "fragments": {}}
        self.world: World = replace(example_world(read_clocks(), policies), **empty)
        self.result: Result | None = None

    def send(
        self, source: StableId, destination: StableId | str, above: Packet | bytes, **fields: int
    ) -> Verdict | None:
        """Send as a machine of this host, or as the host itself, and return the verdict."""
        header = ip(source, destination, **fields)
        packet = bytes(header) + above if isinstance(above, bytes) else header / above
        program = "from_host" if source == ASH_ID else "from_machine"
        return self.run(program, sent_by(source, packet, INTERFACE_OF.get(source, TWO)))

    def receive(
        self, source: StableId, destination: StableId, above: Packet, sender: str = BIRCH
    ) -> Verdict | None:
        """Take from the mesh what another host has sent, and return the verdict."""
        return self.run("from_mesh", from_wire(sender, source, destination, above))

    def visit(
        self, destination: StableId, above: Packet, source: object = OUTSIDE
    ) -> Verdict | None:
        """Take what the host's stack forwards from outside, and return the verdict."""
        header = IPv6(src=source, dst=str(address(destination)))
        return self.run("from_host", sent_by(ASH_ID, header / above, HOST))

    def run(self, program: str, arrival: Arrival) -> Verdict | None:
        """Run a packet, compare all that follows with the oracle's opinion, and remember it."""
        now_ns = read_clocks().coarse_ns
        self.world = self._host.fill(replace(self.world, seen_ns=now_ns))
        expected, self.result = run_and_compare(self._host, self.world, program, arrival)
        self.world = replace(self.world, flows=self.result.flows, fragments=self.result.fragments)
        return expected.verdict

    def wait(self, seconds: float) -> None:
        """Have all that is remembered be that much older."""
        age_ns = int(seconds * SECOND_NS)
        older: dict[str, Any] = {
            name: {key: replace(row, seen_ns=row.seen_ns - age_ns) for key, row in rows.items()}
            for name, rows in (("flows", self.world.flows), ("fragments", self.world.fragments))
        }
        self.world = replace(self.world, **older)

    def enforce(self, policies: Policies) -> None:
        """Bring other policies in force, and raise the generation as an agent does."""
        generation = self.world.generation + 1
        self.world = replace(self.world, judge=EntriesJudge(policies), generation=generation)

    def relabel(self, stable_id: StableId, identity: Identity) -> None:
        """Give a machine another identity, and raise the generation."""
        location = replace(self.world.locations[stable_id], identity=identity)
        locations = {**self.world.locations, stable_id: location}
        generation = self.world.generation + 1
        self.world = replace(self.world, locations=locations, generation=generation)

    def change(self, **fields: Any) -> None:
        """Change something else of what the host knows."""
        self.world = replace(self.world, **fields)

    @property
    def flows(self) -> dict[FlowRow, FlowStateRow]:
        return dict(self.world.flows)

    def forget_all(self) -> None:
        """Lose all flows, as when others have pushed them out."""
        self.world = replace(self.world, flows={})

    def counted(self) -> dict[tuple[str, Side], set[Tally]]:
        """Return what the last packet counted for: NETWORK/RULE and the end that was asked."""
        assert self.result is not None
        assert isinstance(self.world.judge, EntriesJudge)
        policies = self.world.judge.policies
        names = {
            index: f"{policies[rule.network].network}/"
            f"{policies[rule.network].rules.get(rule.number, 'default')}"
            for rule, index in self.world.rule_indices.items()
        }
        found: dict[tuple[str, Side], set[Tally]] = {}
        for index, side, tally in self.result.rules:
            found.setdefault((names[index], side), set()).add(tally)
        return found
