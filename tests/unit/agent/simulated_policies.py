"""The maps of policies in memory, with the behaviour of netagent.dataplane.policy_maps."""

from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv6Address

from netagent.dataplane.abi import Counter
from netagent.dataplane.abi_policy import RuleCounter, RuleRow
from netagent.dataplane.policy_lookup import PolicyAnswer
from netagent.model.errors import DataplaneError
from netagent.model.fleet import Identity
from netagent.policy.entries import CompiledPolicy, Direction
from netagent.policy.lookup import Key, find_class, find_interval
from netagent.policy.outside import outside_identity
from netagent.reconcile.held_policies import (
    EndPolicy,
    HeldNetwork,
    HeldPolicies,
    PolicyPlan,
    ResetCounters,
    Room,
    SetIntervals,
    TurnTo,
)
from netagent.reconcile.policy_plan import plan_drop, plan_policy

ROOM = Room(
    networks=100,
    pairs=524_288,
    prefixes=131_072,
    class_protocols=65_536,
    intervals=1_048_576,
    rules=100,
)
NOTHING = Counter(0, 0)


class PolicyState:
    """What the kernel holds; survives an agent that restarts."""

    def __init__(self, journal: list[tuple[str, object]]) -> None:
        self.journal = journal
        self.held = HeldPolicies()
        self.generation = 0
        self.refuses = False
        self.is_unreadable = False
        self.room = ROOM
        self.counters: dict[tuple[RuleRow, bool], RuleCounter] = {}

    def in_force(self, number: int) -> CompiledPolicy | None:
        """What programs go by of a network."""
        network = self.held.networks.get(number, HeldNetwork())
        if network.active is None:
            return None
        slot = network.slots[network.active.slot]
        return CompiledPolicy(
            network="",
            number=number,
            version=network.active.version,
            pairs=slot.pairs,
            defaults=network.active.defaults,
            classes={one: placed.content for one, placed in self.held.classes.items()},
            prefixes=slot.prefixes,
            rules={},
        )

    def damage(self, number: int, change: Callable[[HeldNetwork], HeldNetwork]) -> None:
        """What happens when somebody else writes to the maps."""
        network = change(self.held.networks[number])
        self.held = replace(self.held, networks={**self.held.networks, number: network})

    def lose_class(self, class_id: int) -> None:
        kept = {one: placed for one, placed in self.held.classes.items() if one != class_id}
        self.held = replace(self.held, classes=kept)


class SimulatedPolicies:
    def __init__(self, state: PolicyState) -> None:
        self._state = state
        self._believed: HeldPolicies | None = None

    @property
    def room(self) -> Room:
        return self._state.room

    def observe(self) -> HeldPolicies:
        if self._state.is_unreadable:
            raise DataplaneError("read", "map policy_pair", "refused", 1)
        return replace(self._state.held, retired=frozenset())

    def held(self) -> HeldPolicies:
        if self._believed is None:
            self._believed = self.observe()
        return self._believed

    def forget(self) -> None:
        self._believed = None

    def apply(self, compiled: CompiledPolicy) -> int:
        return self._carry_out(plan_policy(self.held(), compiled, self.room), compiled.number)

    def drop(self, network: int) -> int:
        return self._carry_out(plan_drop(self.held(), network), network)

    def generation(self) -> int:
        return self._state.generation

    def raise_generation(self) -> int:
        self._state.generation += 1
        self._state.journal.append(("generation.raise", self._state.generation))
        return self._state.generation

    def ask(
        self,
        network: int,
        direction: Direction,
        source: Identity | IPv6Address,
        destination: Identity | IPv6Address,
        protocol: int,
        port: int,
    ) -> PolicyAnswer | None:
        compiled = self._state.in_force(network)
        if compiled is None:
            return None
        ends = [
            outside_identity(compiled.prefixes, one) if isinstance(one, IPv6Address) else one
            for one in (source, destination)
        ]
        try:
            found = find_class(compiled, Key(direction, *ends))
        except KeyError as error:
            raise DataplaneError("look up", f"class {error}", "it is not there") from error
        interval = find_interval(found, protocol, port)
        return PolicyAnswer(
            interval.verdict,
            interval.rule,
            interval.audit_rule,
            compiled.version,
            *ends,
            found.class_id,
        )

    def rule_counters(self) -> dict[tuple[RuleRow, bool], RuleCounter]:
        rules = [
            RuleRow(number, rule)
            for number, network in sorted(self._state.held.networks.items())
            for rule in sorted(network.rules)
        ]
        empty = RuleCounter(NOTHING, NOTHING, NOTHING)
        return {
            (rule, is_receiver): self._state.counters.get((rule, is_receiver), empty)
            for rule in rules
            for is_receiver in (False, True)
        }

    def _carry_out(self, plan: PolicyPlan, number: int) -> int:
        if self._state.refuses and plan.operations:
            self._believed = None
            raise DataplaneError("update", "map policy_pair", "no memory", 12)
        self._believed = self._state.held = plan.after
        self._state.generation += sum(isinstance(one, TurnTo) for one in plan.operations)
        for operation in plan.operations:
            match operation:
                case TurnTo(active=active):
                    self._state.journal.append(("policy.turn", (number, active.version)))
                case EndPolicy():
                    self._state.journal.append(("policy.end", number))
        return sum(map(_count_rows, plan.operations))


def _count_rows(operation: object) -> int:
    match operation:
        case TurnTo() | EndPolicy():
            return 1
        case ResetCounters():
            return 0
        case SetIntervals(tables=tables):
            return sum(range_.count for range_, _ in tables)
    (rows,) = [
        getattr(operation, name)
        for name in ("rows", "pairs", "prefixes", "indices", "numbers")
        if hasattr(operation, name)
    ]
    return len(rows)
