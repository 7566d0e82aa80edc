"""Brings policies into force: reviewed, compiled and found to fit first, then one transaction.

The order is that of docs/policy.md, "Machines by name": machines that the policy names have an
identity of their own before it is in force, and those that none names any more lose it after.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace

from netagent.control import keys
from netagent.control.logging import log_event
from netagent.control.named_identities import NamedIdentities
from netagent.control.policy_review import (
    Fleet,
    Request,
    Review,
    check_hosts,
    compile_ahead,
    review,
)
from netagent.control.policy_tables import InForce, PolicyTables
from netagent.control.records import (
    PolicyRecord,
    encode_number,
    encode_policy,
)
from netagent.control.validation import find_network
from netagent.control.view import View
from netagent.control.writer import Plan, Writer
from netagent.model.errors import ConflictError, InvalidError, NotFoundError
from netagent.policy.compiler import assign_numbers
from netagent.policy.entries import CompiledPolicy
from netagent.policy.language import Policy
from netagent.policy.references import named_machines
from netagent.store.contract import MAX_VALUE_BYTES, Delete, Operation, Put, Unchanged

TEXT_MAX_BYTES = 1 << 20

VERSIONS_MAX = 100
"""Versions of one policy that are kept."""


@dataclass(frozen=True, slots=True)
class Order:
    """What a caller wants. expected_version: that must be in force; None: whichever is."""

    request: Request
    is_dry_run: bool
    expected_version: int | None
    rolled_back_to: int | None = None


@dataclass(frozen=True, slots=True)
class Applied:
    """What came of it. revision: with which hosts enforce it."""

    record: PolicyRecord
    review: Review
    is_new: bool
    revision: int


class PolicyApplier:
    """Applies one policy at a time; other processes are held off by compare-and-swap."""

    def __init__(self, writer: Writer, tables: PolicyTables) -> None:
        self._writer = writer
        self._tables = tables
        self._identities = NamedIdentities(writer, tables)
        self._turn = asyncio.Lock()

    async def apply(self, order: Order) -> Applied:
        """Return what came of an order.

        Raises InvalidError (text too large), PolicyError, NotFoundError (network), ConflictError
        (version), ExhaustedError.
        """
        if order.is_dry_run:
            return await self._apply(order)
        async with self._turn:
            return await self._apply(order)

    async def _apply(self, order: Order) -> Applied:
        text = order.request.text
        size = len(text.encode())
        if size > TEXT_MAX_BYTES:
            raise InvalidError("text", f"{size:,} bytes; control keeps {TEXT_MAX_BYTES:,}")
        view = await self._writer.feed.catch_up()
        found = await asyncio.to_thread(review, order.request, self._fleet(view))
        policy = found.policy
        find_network(view, "network", policy.network)
        before = self._tables.in_force(policy.network)
        _check_version(order, before)
        record = PolicyRecord(
            network=policy.network,
            version=before.version + 1,
            text=text,
            numbers=assign_numbers(policy, before.numbers),
            applied_at_s=round(time.time(), 3),
            rolled_back_to=order.rolled_back_to,
        )
        if len(encode_policy(record)) > MAX_VALUE_BYTES:
            raise InvalidError("text", f"{size:,} bytes that cannot be compressed; say it shorter")
        if text == before.text:
            unchanged = before.record or replace(record, version=0)
            return Applied(unchanged, found, False, view.revision)
        if order.is_dry_run:
            await self._compile_ahead(view, policy, record, is_dry_run=True)
            return Applied(record, found, False, view.revision)
        return await self._bring_into_force(record, found, before)

    async def _bring_into_force(
        self, record: PolicyRecord, found: Review, before: InForce
    ) -> Applied:
        named = named_machines(found.policy)
        try:
            await self._identities.settle(named, found.policy)
            view = await self._writer.feed.catch_up()
            await self._compile_ahead(view, found.policy, record, is_dry_run=False)
            view = await self._writer.write(lambda view: self._plan(view, record, before))
            held = view.policies.get(record.network)
            revision = held.revision if held is not None else view.revision
            log_event(
                logging.INFO,
                "policy in force",
                network=record.network,
                version=record.version,
                rules=len(found.policy.rules),
                revision=revision,
            )
            return Applied(record, found, True, revision)
        finally:
            # Also when it did not come into force: then those that were separated go back.
            await self._identities.settle(named | named_machines(before.policy))

    def _fleet(self, view: View) -> Fleet:
        return Fleet(
            view.fleet.prefix,
            {name: network.value.number for name, network in view.networks.items()},
            tuple(stored.value.machine for _, stored in view.machines.items()),
            {name: one.policy for name, one in self._tables.every().items() if one.text},
        )

    async def _compile_ahead(
        self, view: View, policy: Policy, record: PolicyRecord, *, is_dry_run: bool
    ) -> None:
        """Check that every host has room, and leave the compilation for when it is in force."""
        number = view.networks[policy.network].value.number
        compilation = await asyncio.to_thread(
            compile_ahead, policy, self._tables.snapshot(), record.version, record.numbers
        )
        neighbours = {frozenset(view.interest.own(host)) for host in view.interest.owners(number)}
        await asyncio.to_thread(
            check_hosts,
            compilation.entries,
            [self._entries(networks - {number}) for networks in neighbours],
        )
        if not is_dry_run:
            self._tables.prepare(record.text, compilation)

    def _entries(self, networks: Iterable[int]) -> list[CompiledPolicy]:
        found = (self._tables.newest(network) for network in networks)
        return [one.compiled for one in found if one is not None]

    def _plan(self, view: View, record: PolicyRecord, before: InForce) -> Plan:
        name = record.network
        network = find_network(view, "network", name)
        if self._tables.in_force(name) is not before:
            version = self._tables.in_force(name).version
            raise ConflictError(
                f"the policy of network {name} has become version {version} meanwhile; call again"
            )
        number = network.value.number
        held = view.policies.get(name)
        operations: list[Operation] = [
            Put(keys.policy_key(name), encode_number(record.version)),
            Put(keys.policy_version_key(number, record.version), encode_policy(record)),
        ]
        old = record.version - VERSIONS_MAX
        if old in view.policy_versions.get(number, {}):
            operations.append(Delete(keys.policy_version_key(number, old)))
        return Plan(
            (
                Unchanged(keys.network_key(name), network.revision),
                Unchanged(keys.policy_key(name), held.revision if held is not None else 0),
            ),
            tuple(operations),
        )


def _check_version(order: Order, before: InForce) -> None:
    if order.expected_version not in (None, before.version):
        raise ConflictError(
            f"expected_version: version {before.version} of the policy of network"
            f" {before.policy.network} is in force, not {order.expected_version}; read it again"
        )


def find_version(view: View, network: str, version: int) -> PolicyRecord:
    """Return one version of a network's policy; NotFoundError."""
    number = find_network(view, "network", network).value.number
    record = view.policy_version(number, version)
    if record is None:
        raise NotFoundError(
            f"version: network {network} has no policy of version {version};"
            f" `netagent policy history {network}` lists them"
        )
    return record
