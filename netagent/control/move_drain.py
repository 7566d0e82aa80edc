"""What a drain has to know of the fleet: who is where, who is on the way, who can take machines."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from netagent.api.control.v1 import move_service_pb2 as pb
from netagent.control.records import MoveRecord
from netagent.control.validation import find_host
from netagent.control.view import View
from netagent.model.errors import InvalidError
from netagent.model.fleet import Machine, MovePhase, check_labels
from netagent.moves.drain import DrainPlan, DrainRules, plan_drain


@dataclass(frozen=True, slots=True)
class HostDrain:
    """A plan, and the moves from the host that have not committed, oldest first."""

    plan: DrainPlan
    under_way: tuple[MoveRecord, ...]


def plan_host_drain(
    view: View, request: pb.PlanDrainRequest, is_connected: Callable[[str], bool]
) -> HostDrain:
    """Plan the drain that a request asks for. InvalidError, NotFoundError: a host, or a label."""
    host = find_host(view, "host", request.host).value.name
    rules = DrainRules(
        destinations=_read_destinations(view, host, request, is_connected),
        capacity=request.capacity or None,
        select=check_labels(request.select),
        keep_apart=sorted(set(request.keep_apart)),
    )
    leaving, under_way = [], []
    for path in sorted(view.paths_at.get(host, ())):
        record = view.machines[path].value
        if record.machine.host != host:
            continue
        if record.move_id is None:
            leaving.append(record.machine)
        elif view.moves[record.move_id].value.move.phase is not MovePhase.SETTLED:
            under_way.append(view.moves[record.move_id].value)
    under_way.sort(key=lambda record: record.move.move_id)
    plan = plan_drain(leaving, _at_destinations(view, rules), rules)
    return HostDrain(plan, tuple(under_way))


def _read_destinations(
    view: View, host: str, request: pb.PlanDrainRequest, is_connected: Callable[[str], bool]
) -> list[str]:
    if not request.destinations:
        return [name for name, _ in view.hosts.items() if name != host and is_connected(name)]
    for name in request.destinations:
        find_host(view, "destinations", name)
        if name == host:
            raise InvalidError("destinations", f"{name} is the host that is to be emptied")
    return sorted(name for name in set(request.destinations) if is_connected(name))


def _at_destinations(view: View, rules: DrainRules) -> Iterator[Machine]:
    """Yield the machines tied to a destination: those there, and those on the way there."""
    for host in rules.destinations:
        for path in view.paths_at.get(host, ()):
            record = view.machines[path].value
            is_leaving = record.machine.host != host and (
                record.move_id is None or view.moves[record.move_id].value.move.destination != host
            )
            if not is_leaving:
                yield replace(record.machine, host=host)
