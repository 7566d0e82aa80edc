"""First packets of flows, drawn from generated policies: who speaks to whom, at which port."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv6Address
from itertools import count
from random import Random

from fleet_of_three import (
    ASH,
    BIRCH,
    FLEET,
    HOST,
    HOST_IDS,
    LOCATORS,
    MESH,
    ONE,
    Clocks,
    empty_world,
    interface,
)
from oracle.packet import ICMPV6, SCTP, TCP, UDP
from oracle.policies import EntriesJudge, RulesJudge
from oracle.world import Arrival, World
from policy_books import Policies
from policy_worlds import interesting_addresses, interesting_ports

from netagent.dataplane.abi_policy import RuleRow
from netagent.model.addresses import GATEWAY_MAC, StableId, machine_mac, make_id
from netagent.model.fleet import IDENTITY_HOST, Location
from netagent.policy.book import Rulebook
from netagent.policy.evaluate import matches
from netagent.policy.language import Party, Rule, Selector
from netagent.policy.traffic import ICMP6_NEVER_CROSS

_AFAR = 1000
"""Added to the number of a machine's double on another host."""

_SYN = 0x02
_GENERATION = 3
_EPHEMERAL = count()


@dataclass(frozen=True, slots=True)
class Parties:
    """Every machine of a fleet twice: here at ash, and with the same labels afar at birch."""

    here: Mapping[str, StableId]
    afar: Mapping[str, StableId]

    @classmethod
    def of(cls, book: Rulebook) -> Parties:
        here, afar = {}, {}
        for number, (path, member) in enumerate(sorted(book.fleet.members.items()), start=1):
            network = book.fleet.networks[member.network]
            here[path] = make_id(network, 1, number)
            afar[path] = make_id(network, 1, number + _AFAR)
        return cls(here, afar)

    def id_of(self, party: Party, is_here: bool) -> StableId | None:
        """Return the id of a machine or host, None for an address outside."""
        if party.machine is not None:
            return (self.here if is_here else self.afar)[party.machine]
        return HOST_IDS[ASH if is_here else BIRCH] if party.is_host else None


def judged_twice(
    book: Rulebook,
    compiled: Policies,
    parties: Parties,
    clocks: Clocks,
    rule_indices: Mapping[RuleRow, int],
) -> tuple[World, World]:
    """Return ash's world, once with rules evaluated on labels, once with entries looked up.

    compiled: the book's, by network number.
    """
    policies = {book.fleet.networks[name]: policy for name, policy in book.policies.items()}
    machines = {
        stable_id: path for path, stable_id in (*parties.here.items(), *parties.afar.items())
    }
    locations = {}
    for ids, place in ((parties.here, ASH), (parties.afar, BIRCH)):
        for path, stable_id in ids.items():
            identity = book.fleet.members[path].identity
            locations[stable_id] = Location(LOCATORS[place], identity, 1)
        locations[HOST_IDS[place]] = Location(LOCATORS[place], IDENTITY_HOST, 1)
    endpoints = {stable_id: interface(stable_id, ONE) for stable_id in parties.here.values()}
    by_entries = replace(
        empty_world(ASH, clocks),
        locations=locations,
        endpoints=endpoints | {HOST_IDS[ASH]: interface(HOST_IDS[ASH], HOST)},
        judge=EntriesJudge(compiled),
        generation=_GENERATION,
        rule_indices=rule_indices,
    )
    judge = RulesJudge(policies, compiled, book.fleet, machines)
    return replace(by_entries, judge=judge), by_entries


@dataclass(frozen=True, slots=True)
class Corners:
    """Whom and what the rules of some policies tell apart."""

    book: Rulebook
    machines: tuple[Party, ...]
    others: tuple[Party, ...]
    points: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, book: Rulebook) -> Corners:
        points = {(protocol, 0) for protocol in (SCTP, 50, 59)}
        addresses: set[IPv6Address] = set()
        for policy in book.policies.values():
            points |= set(interesting_ports(policy))
            addresses |= set(interesting_addresses(policy))
        outside = [Party(address=address) for address in sorted(addresses)]
        return cls(
            book,
            tuple(Party(machine=path) for path in sorted(book.fleet.members)),
            (Party(is_host=True), *outside),
            tuple(sorted(point for point in points if _crosses(*point))),
        )

    def draw(self, random: Random) -> tuple[Party, Party, int, int]:
        """Draw a question, mostly one that a rule is about.

        One of the two is a machine, or no policy would be asked.
        """
        rules = [rule for policy in self.book.policies.values() for rule in policy.rules]
        if rules and random.randint(0, 3):
            found = self._draw_about(random, random.choice(rules))
            if found is not None:
                return found
        kind = random.choice((self.machines, self.machines, self.others))
        ends = [random.choice(self.machines), random.choice(kind)]
        random.shuffle(ends)
        return ends[0], ends[1], *random.choice(self.points)

    def _draw_about(self, random: Random, rule: Rule) -> tuple[Party, Party, int, int] | None:
        """Draw ends that a rule matches, and a port at the edges of its traffic."""
        ends = []
        for selectors in (rule.source, rule.destination):
            everybody = [*self.machines, *self.others]
            chosen = [p for p in everybody if any(_matches(one, p, self.book) for one in selectors)]
            if not chosen:
                return None
            ends.append(random.choice(chosen))
        if not any(end.machine for end in ends):
            return None
        traffic = random.choice(rule.traffic)
        if traffic.protocol is None:
            return ends[0], ends[1], *random.choice(self.points)
        edges = (traffic.first - 1, traffic.first, traffic.first, traffic.last, traffic.last + 1)
        points = [(traffic.protocol, port) for port in edges if 0 <= port <= 0xFFFF]
        return ends[0], ends[1], *random.choice([one for one in points if _crosses(*one)])


def _matches(selector: Selector, party: Party, book: Rulebook) -> bool:
    return matches(selector, party, book.fleet)


def _crosses(protocol: int, port: int) -> bool:
    return protocol != ICMPV6 or port >> 8 not in ICMP6_NEVER_CROSS


def draw_first_packet(
    random: Random, parties: Parties, source: Party, destination: Party, protocol: int, port: int
) -> tuple[str, Arrival]:
    """Draw where the two are, and return the program and what arrives there."""
    places = [(True, True), (True, False), (False, True)]
    if source.address is not None or destination.address is not None:
        places = places[:1]
    is_source_here, is_destination_here = random.choice(places)
    source_id = parties.id_of(source, is_source_here)
    uppers = (FLEET.prefix_int, FLEET.prefix_int)
    if not is_source_here:
        uppers = LOCATORS[BIRCH], LOCATORS[ASH]
    addresses = [
        _address(party.address, parties.id_of(party, is_here), upper)
        for party, is_here, upper in (
            (source, is_source_here, uppers[0]),
            (destination, is_destination_here, uppers[1]),
        )
    ]
    transport = _transport(protocol, port)
    header = struct.pack(">IHBB", 6 << 28, len(transport), protocol, 64)
    packet = header + addresses[0] + addresses[1] + transport
    if not is_source_here:
        return "from_mesh", Arrival(packet, MESH)
    is_machine = source.machine is not None
    mac = machine_mac(source_id if source_id is not None else HOST_IDS[ASH])
    frame = GATEWAY_MAC + mac + b"\x86\xdd"
    program = "from_machine" if is_machine else "from_host"
    return program, Arrival(frame + packet, ONE if is_machine else HOST)


def _address(outside: IPv6Address | None, stable_id: StableId | None, upper: int) -> bytes:
    if outside is not None:
        return outside.packed
    assert stable_id is not None
    return struct.pack(">QQ", upper, stable_id)


def _transport(protocol: int, port: int) -> bytes:
    source_port = 1024 + next(_EPHEMERAL) % 60000
    if protocol == TCP:
        return struct.pack(">HHIIBB6x", source_port, port, 1, 0, 5 << 4, _SYN)
    if protocol in (UDP, SCTP):
        return struct.pack(">HH8x", source_port, port)
    if protocol == ICMPV6:
        return struct.pack(">HHHH", port, 0, source_port, 1)
    return bytes(8)
