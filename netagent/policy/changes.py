"""What a new policy would open and close, in terms of machines and ports.

Compared is what both ends say together. Where a policy gives or withdraws its consent and
the other network's policy denies all the same, nothing opens or closes, and that is said apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv6Network

from netagent.model.fleet import Identity
from netagent.policy.book import (
    Rulebook,
    all_allow,
    make_rulebook,
    protocols_of,
    segments,
    separate_named,
)
from netagent.policy.entries import (
    HOST,
    OTHER_PROTOCOLS,
    STRANGER,
    CompiledPolicy,
    Direction,
    PolicyClass,
)
from netagent.policy.fleet import FleetSnapshot
from netagent.policy.language import Policy, Traffic, Verdict
from netagent.policy.lookup import Key, find_class
from netagent.policy.naming import Subject, format_changed, name_subjects


class Effect(Enum):
    """What happens to some traffic."""

    CLOSES = "closes"
    OPENS = "opens"
    WITHDRAWS = "withdraws"
    CONSENTS = "consents"


@dataclass(frozen=True, slots=True)
class ChangeLine:
    """One line of a comparison. pairs: how many pairs of machines (and others) it is about."""

    effect: Effect
    source: str
    destination: str
    traffic: str
    pairs: int

    def __str__(self) -> str:
        note = _NOTES.get(self.effect, "")
        line = f"{self.effect.value:<9} {self.source} -> {self.destination}: {self.traffic}"
        return f"{line} ({note})" if note else line


_NOTES = {
    Effect.CONSENTS: "no effect: the other network's policy denies it",
    Effect.WITHDRAWS: "no effect: the other network's policy denied it already",
}

Change = tuple[Effect, tuple[Traffic, ...]]
"""Traffic of protocol None stands for every protocol that neither side of the comparison names."""


def compare_policies(
    before: Iterable[Policy], after: Iterable[Policy], fleet: FleetSnapshot
) -> list[ChangeLine]:
    """Return what changes over `fleet` when the policies `before` give way to `after`.

    Networks without a policy have the built-in one, before and after. What closes comes first.
    """
    old, new = list(before), list(after)
    fleet = separate_named(fleet, [*old, *new])
    return _Comparison(make_rulebook(old, fleet), make_rulebook(new, fleet)).lines()


class _Comparison:
    def __init__(self, before: Rulebook, after: Rulebook) -> None:
        self._before = before
        self._after = after
        self._known: dict[tuple[int, ...], tuple[Change, ...]] = {}

    def lines(self) -> list[ChangeLine]:
        found: dict[Change, dict[Subject, set[Subject]]] = {}
        for source, destination in self._pairs():
            for change in self._changes(source, destination):
                found.setdefault(change, {}).setdefault(source, set()).add(destination)
        order = list(Effect)
        lines = []
        for (effect, traffic), cells in found.items():
            for sources, destinations in _rectangles(cells):
                lines.append(
                    ChangeLine(
                        effect,
                        name_subjects(sources, self._after.fleet),
                        name_subjects(destinations, self._after.fleet),
                        format_changed(traffic),
                        sum(map(len, sources)) * sum(map(len, destinations)),
                    )
                )
        return sorted(
            lines,
            key=lambda one: (order.index(one.effect), one.source, one.destination, one.traffic),
        )

    def _pairs(self) -> Iterator[tuple[Subject, Subject]]:
        """Yield the pairs that may have changed, each once."""
        changed = [
            network
            for network in self._after.fleet.networks
            if _content(self._before.compiled[network]) != _content(self._after.compiled[network])
        ]
        done: set[str] = set()
        for network in changed:
            own = self._machines(network)
            yield from ((one, two) for one in own for two in own)
            peers = [Subject("", HOST, HOST), *self._outside(network)]
            for other in self._after.fleet.networks:
                if other != network and other not in done and self._is_concerned(network, other):
                    peers += self._machines(other)
            for one in own:
                for two in peers:
                    yield one, two
                    yield two, one
            done.add(network)

    def _machines(self, network: str) -> list[Subject]:
        found = self._after.fleet.identities_of(network)
        return [
            Subject(network, identity, identity, tuple(sorted(record.members)))
            for identity, record in sorted(found.items())
        ]

    def _outside(self, network: str) -> list[Subject]:
        before = self._before.compiled[network].prefixes
        after = self._after.compiled[network].prefixes
        prefixes = sorted(before.keys() | after.keys())
        found = [
            Subject("", _inherited(before, one), _inherited(after, one), (_less(one, prefixes),))
            for one in prefixes
        ]
        return [*found, Subject("", STRANGER, STRANGER, ("everywhere else outside",))]

    def _is_concerned(self, network: str, other: str) -> bool:
        """Whether machines of `other` may see a change: they are named, or strangers see one."""
        before, after = self._before.compiled[network], self._after.compiled[network]
        others = self._after.fleet.identities_of(other).keys()
        for compiled in (before, after):
            egress, ingress = (compiled.pairs[one] for one in (Direction.EGRESS, Direction.INGRESS))
            if ingress.keys() & others or any(row.keys() & others for row in egress.values()):
                return True
        return any(
            find_class(before, key).class_id != find_class(after, key).class_id
            for own in self._after.fleet.identities_of(network)
            for key in (
                Key(Direction.EGRESS, own, STRANGER),
                Key(Direction.INGRESS, STRANGER, own),
            )
        )

    def _changes(self, source: Subject, destination: Subject) -> tuple[Change, ...]:
        before = _classes(self._before, source, destination, is_after=False)
        after = _classes(self._after, source, destination, is_after=True)
        key = tuple(one.class_id for one in (*before, *after))
        if key not in self._known:
            self._known[key] = _compare(before, after)
        return self._known[key]


def _content(compiled: CompiledPolicy) -> object:
    return compiled.pairs, compiled.defaults, compiled.prefixes


def _less(prefix: IPv6Network, prefixes: Iterable[IPv6Network]) -> str:
    """Return a prefix in words, without the longer ones that are looked at by themselves."""
    within = [str(one) for one in prefixes if one != prefix and one.subnet_of(prefix)]
    if not within:
        return str(prefix)
    more = f" and {len(within) - 1} more" if len(within) > 1 else ""
    return f"{prefix} (less {within[0]}{more})"


def _inherited(prefixes: Mapping[IPv6Network, Identity], prefix: IPv6Network) -> Identity:
    above = [one for one in prefixes if prefix.subnet_of(one)]
    return prefixes[max(above, key=lambda one: one.prefixlen)] if above else STRANGER


def _classes(
    book: Rulebook, source: Subject, destination: Subject, is_after: bool
) -> tuple[PolicyClass, ...]:
    """Return the classes of the ends that are asked; one where both ends ask the same."""
    identities = source.identity(is_after), destination.identity(is_after)
    if source.network == destination.network:
        key = Key(Direction.INSIDE, *identities)
        return (find_class(book.compiled[source.network], key),)
    found = []
    if source.network:
        key = Key(Direction.EGRESS, *identities)
        found.append(find_class(book.compiled[source.network], key))
    if destination.network:
        key = Key(Direction.INGRESS, *identities)
        found.append(find_class(book.compiled[destination.network], key))
    return tuple(found)


def _compare(before: Sequence[PolicyClass], after: Sequence[PolicyClass]) -> tuple[Change, ...]:
    found: dict[Effect, list[Traffic]] = {}
    ends = len(before)
    for protocol in protocols_of((*before, *after)):
        for first, last, intervals in segments((*before, *after), protocol):
            was, will = all_allow(intervals[:ends]), all_allow(intervals[ends:])
            if was != will:
                effect = Effect.OPENS if will else Effect.CLOSES
            else:
                turned = [
                    new.verdict
                    for old, new in zip(intervals[:ends], intervals[ends:], strict=True)
                    if old.verdict is not new.verdict
                ]
                if not turned:
                    continue
                effect = Effect.CONSENTS if turned[0] is Verdict.ALLOW else Effect.WITHDRAWS
            found.setdefault(effect, [])
            _extend(found[effect], protocol, first, last)
    return tuple((effect, tuple(traffic)) for effect, traffic in found.items())


def _extend(traffic: list[Traffic], protocol: int, first: int, last: int) -> None:
    """Add a range, joined to the one before if they touch."""
    number = None if protocol == OTHER_PROTOCOLS else protocol
    if traffic and traffic[-1].protocol == number and traffic[-1].last + 1 == first:
        first = traffic.pop().first
    traffic.append(Traffic(number, first, last))


def _rectangles(
    cells: dict[Subject, set[Subject]],
) -> Iterator[tuple[list[Subject], list[Subject]]]:
    """Yield groups of sources by equal destinations, or of destinations, whichever are fewer."""
    by_source = _grouped(cells)
    turned: dict[Subject, set[Subject]] = {}
    for source, destinations in cells.items():
        for destination in destinations:
            turned.setdefault(destination, set()).add(source)
    by_destination = _grouped(turned)
    if len(by_source) <= len(by_destination):
        yield from by_source
    else:
        yield from ((sources, destinations) for destinations, sources in by_destination)


def _grouped(cells: dict[Subject, set[Subject]]) -> list[tuple[list[Subject], list[Subject]]]:
    groups: dict[frozenset[Subject], list[Subject]] = {}
    for one, others in cells.items():
        groups.setdefault(frozenset(others), []).append(one)
    return [(ones, sorted(others)) for others, ones in groups.items()]
