"""The cells: who asks whom about what, and what has to come of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from integration.lab.prober import ECHO, ICMP6, SCTP, TCP, UDP, Outcome, Probe
from integration.matrix.effects import Direction, Effect, Side, subject_of
from integration.matrix.kinds import Kind
from integration.matrix.parties import Cast, Party, Where

PORTS = {TCP: (7001, 7002), UDP: (7002, 7003)}
SHAPES = {"listed": "tcp/7001, udp/7002, sctp/7003, icmp6/echo, icmp6/200", "any": "any"}
"""How a rule names protocols. Each listed port is of one protocol and probed with two."""

WITHOUT_PORTS = 0
"""Stands for a protocol number without ports that no cell before has used between the same two."""
_FIRST_WITHOUT_PORTS = 146
_LAST_WITHOUT_PORTS = 252


@dataclass(frozen=True, slots=True)
class Ask:
    """A packet to ask about. is_listed: whether shape `listed` names it."""

    protocol: int
    port: int
    is_listed: bool
    title: str


ASKS = (
    Ask(TCP, 7001, True, "tcp"),
    Ask(TCP, 7002, False, "tcp"),
    Ask(UDP, 7002, True, "udp"),
    Ask(UDP, 7003, False, "udp"),
    Ask(SCTP, 7003, True, "sctp"),
    Ask(SCTP, 7001, False, "sctp"),
    Ask(ICMP6, ECHO, True, "icmp6/echo"),
    Ask(ICMP6, 200, True, "icmp6/N"),
    Ask(ICMP6, 201, False, "icmp6/N"),
    Ask(WITHOUT_PORTS, 0, False, "without ports"),
)
AGAINST = tuple(ask for ask in ASKS if ask.is_listed or ask.protocol == WITHOUT_PORTS)
"""What is asked against a rule's direction: it must not work there."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One probe and its place in the matrix. direction: of the packet, seen from the subject."""

    effect: str
    shape: str
    kind: str
    direction: Direction
    is_along: bool
    where: Where
    party: str
    protocol: str
    probe: Probe
    is_open: bool

    def describe(self, outcome: Outcome) -> str:
        """Return the cell as a sentence, for a failure."""
        expected = "open" if self.is_open else "closed"
        way = "" if self.is_along else " against the rule's direction"
        rule = f" ({self.shape}), selector {self.kind}" if self.kind else ""
        return (
            f"{self.effect}{rule}, {self.direction.value}{way}, {self.party}, "
            f"{self.protocol}, port or type {self.probe.port}: "
            f"{outcome.value}, has to be {expected}"
        )


class Numbers:
    """Gives protocol numbers without ports: such a flow has nothing else to tell it from others."""

    def __init__(self) -> None:
        self._next = _FIRST_WITHOUT_PORTS

    def take(self) -> int:
        """Return the next one."""
        number = self._next
        self._next = number + 1 if number < _LAST_WITHOUT_PORTS else _FIRST_WITHOUT_PORTS
        return number


def cells_of_rules(cast: Cast, effect: Effect, shape: str, numbers: Numbers) -> Iterator[Cell]:
    """Yield the cells of one effect and shape: each kind, direction, party and protocol."""
    along, against = numbers.take(), numbers.take()
    for kind in cast.kinds:
        for direction in Direction:
            subject = cast.subjects[subject_of(kind, direction)]
            other = next(one for one in Direction if one is not direction)
            for party in cast.parties:
                for ask in ASKS:
                    matches = party.name in kind.matches and (ask.is_listed or shape == "any")
                    is_open = effect.is_open(matches, party.where.is_inside)
                    talk = _Talk(subject, party, direction, along)
                    yield talk.cell(effect.name, ask, is_open, shape, kind)
                for ask in AGAINST:
                    is_open = effect.is_open(False, party.where.is_inside)
                    talk = _Talk(subject, party, other, against)
                    yield talk.cell(effect.name, ask, is_open, shape, kind, is_along=False)


def cells_of_default(cast: Cast, effect: Effect, numbers: Numbers) -> Iterator[Cell]:
    """Yield the cells of a policy without rules, for one subject."""
    for talk in _talks(cast, cast.parties, numbers):
        for ask in ASKS:
            yield talk.cell(effect.name, ask, effect.is_open(False, talk.party.where.is_inside))


def cells_of_built_in(cast: Cast, numbers: Numbers) -> Iterator[Cell]:
    """Yield the cells of networks that have no policy: open inside and from hosts."""
    hosts = (Where.THIS_HOST, Where.OTHER_HOST)
    for talk in _talks(cast, cast.parties, numbers):
        is_from_host = talk.party.where in hosts and talk.direction is Direction.INGRESS
        for ask in ASKS:
            yield talk.cell("built-in", ask, talk.party.where.is_inside or is_from_host)


def cells_of_consent(cast: Cast, shop: Side, ops: Side, numbers: Numbers) -> Iterator[Cell]:
    """Yield the cells between the two networks, each of which takes a side."""
    others = (Where.OTHER_NETWORK_SAME_HOST, Where.OTHER_NETWORK_OTHER_HOST)
    parties = tuple(party for party in cast.parties if party.where in others)
    effect = f"shop {shop.name}, ops {ops.name}"
    for talk in _talks(cast, parties, numbers):
        for ask in ASKS:
            yield talk.cell(effect, ask, shop.passes and ops.passes)


@dataclass(frozen=True, slots=True)
class _Talk:
    """A subject and a party, and which of them begins. direction: as seen from the subject."""

    subject: str
    party: Party
    direction: Direction
    without_ports: int

    def cell(
        self,
        effect: str,
        ask: Ask,
        is_open: bool,
        shape: str = "",
        kind: Kind | None = None,
        *,
        is_along: bool = True,
    ) -> Cell:
        protocol = self.without_ports if ask.protocol == WITHOUT_PORTS else ask.protocol
        ends = (self.subject, self.party.address)
        if self.direction is Direction.INGRESS:
            ends = (self.party.address, self.subject)
        return Cell(
            effect,
            shape,
            kind.title if kind else "",
            self.direction,
            is_along,
            self.party.where,
            self.party.name,
            ask.title,
            Probe(*ends, protocol, ask.port),
            is_open,
        )


def _talks(cast: Cast, parties: tuple[Party, ...], numbers: Numbers) -> Iterator[_Talk]:
    """Yield one subject's talks with each party, both ways."""
    subject = next(iter(cast.subjects.values()))
    for direction in Direction:
        number = numbers.take()
        for party in parties:
            yield _Talk(subject, party, direction, number)
