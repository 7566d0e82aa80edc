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
    ClassId,
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

_NOBODY: Mapping[Identity, ClassId] = {}

Ends = tuple[ClassId, ...]
"""The classes of the ends that are asked, the sender's first."""

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
        self._classes: dict[ClassId, PolicyClass] = {}
        for book in (before, after):
            for compiled in book.compiled.values():
                self._classes.update(compiled.classes)
        self._known: dict[tuple[Ends, Ends], tuple[Change, ...]] = {}

    def lines(self) -> list[ChangeLine]:
        # Subjects are numbered: there may be a million pairs of them.
        numbers: dict[Subject, int] = {}
        found: dict[Change, dict[int, set[int]]] = {}
        for source, destinations in self._rows():
            turned: dict[tuple[Ends, Ends], list[int]] = {}
            was, will = _Row(self._before, source, False), _Row(self._after, source, True)
            for destination in destinations:
                ends = was.find(destination), will.find(destination)
                # Classes are named by content: what is called alike has not changed.
                if ends[0] != ends[1]:
                    number = numbers.setdefault(destination, len(numbers))
                    turned.setdefault(ends, []).append(number)
            number = numbers.setdefault(source, len(numbers))
            for ends, group in turned.items():
                for change in self._changes(*ends):
                    found.setdefault(change, {}).setdefault(number, set()).update(group)
        subjects = list(numbers)
        order = list(Effect)
        lines = []
        for (effect, traffic), cells in found.items():
            for one, other in _rectangles(cells):
                sources, destinations = ([subjects[i] for i in side] for side in (one, other))
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

    def _rows(self) -> Iterator[tuple[Subject, list[Subject]]]:
        """Yield sources with the destinations to which something may have changed."""
        changed = [
            network
            for network in self._after.fleet.networks
            if _content(self._before.compiled[network]) != _content(self._after.compiled[network])
        ]
        done: set[str] = set()
        for network in changed:
            own = self._machines(network)
            peers = [Subject("", HOST, HOST), *self._outside(network)]
            for other in self._peer_networks(network):
                if other not in done:
                    peers += self._machines(other)
            yield from ((one, [*own, *peers]) for one in own)
            yield from ((one, own) for one in peers)
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

    def _peer_networks(self, network: str) -> list[str]:
        """Return the networks that may see a change: they are named, or strangers see one."""
        before, after = self._before.compiled[network], self._after.compiled[network]
        others = [one for one in self._after.fleet.networks if one != network]
        if any(
            find_class(before, key).class_id != find_class(after, key).class_id
            for own in self._after.fleet.identities_of(network)
            for key in (
                Key(Direction.EGRESS, own, STRANGER),
                Key(Direction.INGRESS, STRANGER, own),
            )
        ):
            return others
        named: set[Identity] = set()
        for compiled in (before, after):
            named.update(compiled.pairs[Direction.INGRESS])
            named.update(*compiled.pairs[Direction.EGRESS].values())
        identities_of = self._after.fleet.identities_of
        return [one for one in others if not named.isdisjoint(identities_of(one))]

    def _changes(self, before: Ends, after: Ends) -> tuple[Change, ...]:
        key = before, after
        if key not in self._known:
            classes = ([self._classes[one] for one in ends] for ends in key)
            self._known[key] = _compare(*classes)
        return self._known[key]


class _Row:
    """What the ends that are asked say about one source, before or after."""

    def __init__(self, book: Rulebook, source: Subject, is_after: bool) -> None:
        self._compiled = book.compiled
        self._network = source.network
        self._is_after = is_after
        self._identity = source.identity(is_after)
        own = book.compiled.get(source.network)
        if own is not None:
            self._inside = own.pairs[Direction.INSIDE].get(self._identity, {})
            self._inside_default = own.defaults[Direction.INSIDE]
            self._egress = own.pairs[Direction.EGRESS].get(self._identity, {})
            default = own.defaults[Direction.EGRESS]
            self._egress_default = self._egress.get(STRANGER, default)

    def find(self, destination: Subject) -> Ends:
        """Return the class of each end that is asked; one where both ends ask the same."""
        identity = destination.after if self._is_after else destination.before
        network = destination.network
        if network == self._network:
            return (self._inside.get(identity, self._inside_default),)
        ends: Ends = ()
        if self._network:
            ends = (self._egress.get(identity, self._egress_default),)
        if network:
            receiver = self._compiled[network]
            rows = receiver.pairs[Direction.INGRESS]
            found = rows.get(self._identity, _NOBODY).get(identity)
            if found is None:
                found = rows.get(STRANGER, _NOBODY).get(identity)
            ends += (receiver.defaults[Direction.INGRESS] if found is None else found,)
        return ends


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


def _rectangles(cells: dict[int, set[int]]) -> Iterator[tuple[list[int], list[int]]]:
    """Yield groups of sources by equal destinations, or of destinations, whichever are fewer."""
    by_source = _grouped(cells)
    turned: dict[int, set[int]] = {}
    for source, destinations in cells.items():
        for destination in destinations:
            turned.setdefault(destination, set()).add(source)
    by_destination = _grouped(turned)
    if len(by_source) <= len(by_destination):
        yield from by_source
    else:
        yield from ((sources, destinations) for destinations, sources in by_destination)


def _grouped(cells: dict[int, set[int]]) -> list[tuple[list[int], list[int]]]:
    groups: dict[frozenset[int], list[int]] = {}
    for one, others in cells.items():
        groups.setdefault(frozenset(others), []).append(one)
    return [(ones, sorted(others)) for others, ones in groups.items()]
