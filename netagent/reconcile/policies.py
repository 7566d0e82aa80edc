"""What a batch makes of the policies held: the part of delta.py that is about policies.

They have no epochs: control alone has them, and sends what is newer later.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from netagent.model.errors import InvalidError
from netagent.policy.delta import PolicyChange, apply_delta, empty_policy, plan_delta
from netagent.policy.entries import CompiledPolicy
from netagent.reconcile.batch import Batch
from netagent.reconcile.view import HeldPolicy, View


def plan_policies(view: View, batch: Batch) -> dict[int, HeldPolicy]:
    """Return the policies that `batch` changes, by network number.

    They share with what is held all that stays: writing and keeping them costs what changes.
    Raises InvalidError when a policy is changed before it was sent whole, or would not be one, or
    when a class has two contents. Pure.
    """
    after: dict[int, HeldPolicy] = {}
    for change in batch.policies:
        held = after.get(change.number) or view.policies.get(change.number)
        compiled = _apply(held.compiled if held else None, change)
        others = (one for number, one in (view.policies | after).items() if number != change.number)
        _check_classes(compiled, (one.compiled for one in others))
        after[change.number] = HeldPolicy(compiled, change.content)
    return {number: held for number, held in after.items() if view.policies.get(number) != held}


def find_dropped_policies(view: View, batch: Batch) -> frozenset[int]:
    """Return the networks whose policies `batch` takes away."""
    named = {change.number for change in batch.policies}
    gone = view.policies.keys() if batch.is_snapshot else set(batch.dropped_policies)
    return frozenset((gone & view.policies.keys()) - named)


def _apply(held: CompiledPolicy | None, change: PolicyChange) -> CompiledPolicy:
    if held is not None:
        held = replace(held, network=change.network)
    if not change.is_whole:
        if held is None:
            raise InvalidError(
                f"policies[{change.number}].whole",
                f"the policy of network {change.network} is not held, so it has to come whole",
            )
        return apply_delta(held, change.delta)
    compiled = apply_delta(empty_policy(change.network, change.number), change.delta)
    if held is None:
        return compiled
    _check_classes(compiled, [held])
    return apply_delta(held, plan_delta(held, compiled))


def _check_classes(compiled: CompiledPolicy, others: Iterable[CompiledPolicy]) -> None:
    """Compare contents: the kernel has one place for a class, whoever refers to it."""
    for other in others:
        for class_id in compiled.classes.keys() & other.classes.keys():
            if compiled.classes[class_id] != other.classes[class_id]:
                raise InvalidError(
                    f"policies[{compiled.number}].classes",
                    f"class {class_id:016x} has another content than in network {other.network}",
                )
