"""The compiled policy of every network, in step with the view.

Listens to the view, before the hub does: when a revision has been taken in, the policies that it
touches are compiled anew, as far as they have changed, and the hub hears which. So a batch holds a
machine's new identity together with the entries that know it.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from netagent.control.published import Published, name_content
from netagent.control.reach import Consent, consent_of, find_reach
from netagent.control.records import PolicyRecord, StoreFormatError
from netagent.control.view import View
from netagent.model.addresses import StableId
from netagent.model.errors import PolicyError
from netagent.policy.compiler import Compilation, assign_numbers, compile_policy
from netagent.policy.fleet import FleetSnapshot
from netagent.policy.language import LabelSelector, MachineSelector, Policy, built_in_policy
from netagent.policy.reading import load_policy
from netagent.policy.references import named_machines, selectors_of

LINGER_S = 2.0
"""How long entries outlive the last machine of their identity: hosts turn to the new entries of a
batch a moment before they turn to its locations."""

RECENT_MAX = 8
"""States of one network's entries that are kept, so that agents get differences."""


@dataclass(frozen=True, slots=True)
class InForce:
    """A network's policy as it is. record: None where none was ever applied."""

    policy: Policy
    record: PolicyRecord | None

    @property
    def version(self) -> int:
        """The version in force; 0 for the built-in policy that was always there."""
        return self.record.version if self.record is not None else 0

    @property
    def text(self) -> str:
        """YAML; empty for the built-in policy."""
        return self.record.text if self.record is not None else ""

    @property
    def numbers(self) -> Mapping[str, int]:
        """Numbers of the rules, by name."""
        if self.record is not None:
            return self.record.numbers
        return assign_numbers(self.policy, {})


class PolicyTables:
    """Compiles. on_change: told the number of each network whose entries are others."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._in_force: dict[str, InForce] = {}
        self._compilations: dict[str, Compilation] = {}
        self._recent: dict[int, deque[Published]] = {}
        self._users: dict[str, set[str]] = {}
        """Network to the networks whose policies name it."""
        self._consents: dict[str, Consent] = {}
        self._named: Counter[str] = Counter()
        self._prepared: dict[str, tuple[str, Compilation]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self.on_change: list[Callable[[int], None]] = []
        # Nobody is connected yet whose locations would still have an identity that has left.
        self._forget()
        self._take_in()
        view.listeners.append(self)

    def in_force(self, network: str) -> InForce:
        """Return a network's policy; KeyError for one that is not there."""
        return self._in_force[network]

    def every(self) -> dict[str, InForce]:
        """Return all networks' policies by name."""
        return dict(self._in_force)

    def newest(self, number: int) -> Published | None:
        """Return a network's entries as they are."""
        recent = self._recent.get(number)
        return recent[-1] if recent else None

    def find(self, number: int, content: bytes) -> Published | None:
        """Return the entries that an agent says it holds, if they are remembered."""
        return next((one for one in self._recent.get(number, ()) if one.content == content), None)

    def is_named(self, path: str) -> bool:
        """Whether a policy in force names the machine NETWORK/NAME."""
        return self._named[path] > 0

    def named(self) -> list[str]:
        """Return the paths of all machines that policies in force name, sorted."""
        return sorted(path for path, count in self._named.items() if count)

    def snapshot(self) -> FleetSnapshot:
        """Return the fleet as policies are compiled over it: identities, and no machines."""
        view = self._view
        return FleetSnapshot(
            view.fleet.prefix,
            {name: network.value.number for name, network in view.networks.items()},
            {},
            {name: view.identities.records(name) for name, _ in view.networks.items()},
        )

    def prepare(self, text: str, compilation: Compilation) -> None:
        """Hand over a compilation that will soon be wanted, made where it stopped nobody.

        text: what its policy was read from.
        """
        self._prepared[compilation.policy.network] = text, compilation

    def host_changed(self, name: str) -> None:
        """See Listener; hosts are one identity."""

    def row_changed(self, network: int, stable_id: StableId) -> None:
        """See Listener; what counts is which identities there are."""

    def interest_changed(self, host: str, network: int) -> None:
        """See Listener."""

    def move_changed(self, move_id: str) -> None:
        """See Listener; a move changes no identity."""

    def revision_reached(self, revision: int) -> None:
        """See Listener."""
        self._take_in()
        if self._view.identities.left and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(LINGER_S, self._let_go)

    def close(self) -> None:
        """Stop waiting for anything."""
        if self._timer is not None:
            self._timer.cancel()

    def _let_go(self) -> None:
        self._timer = None
        self._forget()
        self._view.announce()

    def _forget(self) -> None:
        identities = self._view.identities
        left, identities.left = identities.left, set()
        identities.forget(left)

    def _take_in(self) -> None:
        view = self._view
        policies, view.changed_policies = view.changed_policies, set()
        identities, view.identities.changed = view.identities.changed, set()
        if not (policies or identities):
            return
        for network in sorted(policies):
            self._read(network)
        stale = policies.union(identities, *(self._users.get(one, ()) for one in identities))
        fleet = self.snapshot()
        for network in sorted(stale & self._in_force.keys()):
            self._compile(network, fleet)
        if policies:
            view.set_reach(find_reach(self._consents, fleet.networks))

    def _read(self, network: str) -> None:
        """Take the policy of a network as the view has it now."""
        before = self._in_force.pop(network, None)
        if before is not None:
            self._consents.pop(network, None)
            self._named.subtract(named_machines(before.policy))
            for other in _networks_of(before.policy):
                self._users[other].discard(network)
        if network not in self._view.networks:
            compilation = self._compilations.pop(network, None)
            if compilation is not None:
                self._recent.pop(compilation.entries.number, None)
            return
        record = self._view.policy(network)
        text = record.text if record is not None else ""
        prepared_text, prepared = self._prepared.pop(network, ("", None))
        if prepared is not None and prepared_text == text:
            policy = prepared.policy
            self._compilations[network] = prepared
        elif record is not None and text:
            policy = _parse(record)
        else:
            policy = built_in_policy(network)
        self._in_force[network] = InForce(policy, record)
        self._named.update(named_machines(policy))
        for other in _networks_of(policy):
            self._users.setdefault(other, set()).add(network)
        consent = consent_of(policy)
        if consent.is_any:
            self._consents[network] = consent

    def _compile(self, network: str, fleet: FleetSnapshot) -> None:
        force = self._in_force[network]
        previous = self._compilations.get(network)
        number = fleet.networks[network]
        digest = self._view.identities.digest
        identities = [(one, digest(one)) for one in sorted(_networks_of(force.policy))]
        content = name_content(number, force.version, force.text, force.numbers, identities)
        newest = self.newest(number)
        if newest is not None and newest.content == content:
            return
        compilation = compile_policy(force.policy, fleet, force.version, previous, force.numbers)
        self._compilations[network] = compilation
        recent = self._recent.setdefault(number, deque(maxlen=RECENT_MAX))
        recent.append(Published(content, compilation.entries))
        for tell in self.on_change:
            tell(number)


def _networks_of(policy: Policy) -> set[str]:
    """Return the networks whose identities a policy is compiled over."""
    named = (
        one for one in selectors_of(policy) if isinstance(one, LabelSelector | MachineSelector)
    )
    return {policy.network, *(one.network for one in named)}


def _parse(record: PolicyRecord) -> Policy:
    name = f"policy {record.network} version {record.version}"
    try:
        return load_policy(record.text, name)
    except PolicyError as error:
        raise StoreFormatError(f"the store's {name} cannot be read: {error}") from error
