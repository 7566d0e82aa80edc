"""Gives machines that policies name an identity of their own, and takes it back afterwards.

docs/policy.md, "Machines by name". Level-triggered: whatever was cut off half way is put right by
the next call, or when control starts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from netagent.control import keys
from netagent.control.allocation import Wanted, allocate_identities
from netagent.control.policy_tables import PolicyTables
from netagent.control.records import encode_machine
from netagent.control.view import View
from netagent.control.writer import Plan, Writer
from netagent.model.addresses import network_of
from netagent.policy.language import Policy
from netagent.policy.references import named_machines
from netagent.store.contract import MAX_OPERATIONS, Put, Unchanged

MACHINES_AT_ONCE = (MAX_OPERATIONS - 1) // 2
"""Each needs two compares and at most two writes, and all together the cursor."""


class NamedIdentities:
    """Writes machines' identities, according to the policies in force."""

    def __init__(self, writer: Writer, tables: PolicyTables) -> None:
        self._writer = writer
        self._tables = tables

    async def settle_all(self) -> None:
        """Settle every machine that a policy names or that still has an identity of its own."""
        view = await self._writer.feed.catch_up()
        await self.settle({*self._tables.named(), *view.identities.owners()})

    async def settle(self, paths: Iterable[str], coming: Policy | None = None) -> None:
        """Give machines an identity of their own where they are named, else that of their labels.

        paths: NETWORK/NAME; those without a machine are skipped. coming: a policy that names
        machines as if it were in force.
        """
        named = named_machines(coming) if coming is not None else frozenset[str]()
        ordered = sorted(paths)
        for start in range(0, len(ordered), MACHINES_AT_ONCE):
            chunk = ordered[start : start + MACHINES_AT_ONCE]

            def plan(view: View, chunk: Sequence[str] = chunk) -> Plan:
                return self._plan(view, chunk, named)

            await self._writer.write(plan, scopes=("identities",))

    def _plan(self, view: View, paths: Iterable[str], named: frozenset[str]) -> Plan:
        stored = [view.machines[path] for path in paths if path in view.machines]
        machines = [one.value.machine for one in stored]
        identities = allocate_identities(
            view,
            [
                Wanted(
                    network_of(one.stable_id),
                    one.labels,
                    one.name if one.path in named or self._tables.is_named(one.path) else None,
                )
                for one in machines
            ],
        )
        changed = [
            (keys.machine_key(one.path), held, replace(one, identity=identity))
            for one, held, identity in zip(machines, stored, identities.numbers, strict=True)
            if one.identity != identity
        ]
        if not changed:
            return Plan((), ())
        return Plan(
            (*identities.compares, *(Unchanged(key, held.revision) for key, held, _ in changed)),
            (
                *identities.operations,
                *(
                    Put(key, encode_machine(replace(held.value, machine=machine)))
                    for key, held, machine in changed
                ),
            ),
        )
