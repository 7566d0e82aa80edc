"""Fills the matrix: a lab of two hosts, one apply for each effect and shape, all cells at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from integration.lab.lab import Lab
from integration.lab.policies import apply_policy, remove_policies, rule_counters
from integration.lab.prober import ECHO, ICMP6, Outcome, Probe, Prober
from integration.lab.wait import wait_until
from integration.matrix.cells import (
    PORTS,
    SHAPES,
    Cell,
    Numbers,
    cells_of_built_in,
    cells_of_consent,
    cells_of_default,
    cells_of_rules,
)
from integration.matrix.effects import (
    DEFAULTS,
    EFFECTS,
    SIDES,
    Direction,
    Effect,
    rule_name,
    write_policy,
)
from integration.matrix.kinds import KINDS
from integration.matrix.parties import make_cast, make_cast_of_machines

HOSTS = 2
OPEN = SIDES[0]
SAMPLE = ("equal", "network-labels", "group")
"""Kinds by name: a label, another network, and several selectors at once."""
SAMPLED = ("allow", "deny")


@dataclass(frozen=True, slots=True)
class Result:
    """A cell and what came of its probe."""

    cell: Cell
    outcome: Outcome

    @property
    def is_as_expected(self) -> bool:
        """Whether the packet and its answer passed, or not even the packet did."""
        return self.outcome is (Outcome.ANSWERED if self.cell.is_open else Outcome.SILENT)

    def __str__(self) -> str:
        return self.cell.describe(self.outcome)


class Matrix:
    """A run of the matrix on a lab of HOSTS hosts without machines.

    is_sample: for `run_sample` alone, with few machines, and neither hosts nor the outside.
    silent_rules: rules under test whose counter stayed at 0, though they had packets to count.
    """

    def __init__(self, lab: Lab, *, is_sample: bool = False) -> None:
        self._lab = lab
        self._numbers = Numbers()
        if is_sample:
            sample = tuple(kind for kind in KINDS if kind.name in SAMPLE)
            self._cast = make_cast_of_machines(lab, sample)
        else:
            self._cast = make_cast(lab, KINDS)
        self.silent_rules: list[str] = []

    def run(self) -> Iterator[Result]:
        """Yield every cell's result, in the order of the applies."""
        with Prober(self._cast.places, PORTS) as self._prober:
            self._warm_up()
            yield from self._run_without_rules()
            yield from self._run_consent()
            apply_policy(self._lab, OPEN.policy_of("ops"))
            for effect in EFFECTS:
                for shape in SHAPES:
                    yield from self._run_rules(effect, shape)

    def run_sample(self) -> Iterator[Result]:
        """Yield the results of what is built in, and of a few effects with listed protocols."""
        with Prober(self._cast.places, PORTS) as self._prober:
            self._warm_up()
            remove_policies(self._lab, ("shop", "ops"))
            yield from self._probe(cells_of_built_in(self._cast, self._numbers))
            apply_policy(self._lab, OPEN.policy_of("ops"))
            for effect in EFFECTS:
                if effect.name in SAMPLED:
                    yield from self._run_rules(effect, "listed")

    def _run_rules(self, effect: Effect, shape: str) -> Iterator[Result]:
        apply_policy(self._lab, write_policy(effect, shape, SHAPES[shape], self._cast.kinds))
        yield from self._probe(cells_of_rules(self._cast, effect, shape, self._numbers))
        self.silent_rules += self._find_silent_rules(effect, shape)

    def _run_without_rules(self) -> Iterator[Result]:
        remove_policies(self._lab, ("shop", "ops"))
        yield from self._probe(cells_of_built_in(self._cast, self._numbers))
        apply_policy(self._lab, OPEN.policy_of("ops"))
        for effect in DEFAULTS:
            apply_policy(self._lab, write_policy(effect, "none", ""))
            yield from self._probe(cells_of_default(self._cast, effect, self._numbers))

    def _run_consent(self) -> Iterator[Result]:
        for ops in SIDES:
            apply_policy(self._lab, ops.policy_of("ops"))
            for shop in SIDES:
                apply_policy(self._lab, shop.policy_of("shop"))
                yield from self._probe(cells_of_consent(self._cast, shop, ops, self._numbers))

    def _probe(self, cells: Iterable[Cell]) -> Iterator[Result]:
        listed = list(cells)
        outcomes = self._prober.probe(cell.probe for cell in listed)
        return (Result(cell, outcomes[cell.probe]) for cell in listed)

    def _find_silent_rules(self, effect: Effect, shape: str) -> list[str]:
        packets: Counter[str] = Counter()
        for host in self._lab.hosts.values():
            for (rule, _), row in rule_counters(host).items():
                packets[rule] += getattr(row, f"{effect.counts}_packets")
        names = (rule_name(effect, shape, kind, d) for kind in self._cast.kinds for d in Direction)
        return [name for name in names if not packets[name]]

    def _warm_up(self) -> None:
        """Open everything and wait until it is: WireGuard's handshakes, neighbours, routes."""
        for network in ("shop", "ops"):
            apply_policy(self._lab, OPEN.policy_of(network))
        ends = [party.address for party in self._cast.parties]
        pairs = [(subject, end) for subject in self._cast.subjects.values() for end in ends]
        probes = [Probe(*pair, ICMP6, ECHO) for pair in pairs]
        probes += [Probe(end, subject, ICMP6, ECHO) for subject, end in pairs]

        def all_answer() -> bool:
            return set(self._prober.probe(probes).values()) == {Outcome.ANSWERED}

        wait_until("everybody answers", all_answer)
