"""Flows and rule counters as messages of the local API; what a caller asked to see."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from netagent.agent.flow_log import FlowReport, NamedFlow
from netagent.api.agent.v1 import agent_service_pb2 as pb
from netagent.dataplane.abi_flows import EventKind
from netagent.dataplane.abi_policy import RuleCounter, RuleRow
from netagent.model.errors import InvalidError
from netagent.model.fleet import check_name
from netagent.policy.entries import Direction
from netagent.reconcile.view import View

_KINDS = {
    EventKind.DROP: pb.FLOW_KIND_DROP,
    EventKind.AUDIT: pb.FLOW_KIND_AUDIT,
    EventKind.FLOW: pb.FLOW_KIND_FLOW,
}


def parse_wanted(request: pb.WatchFlowsRequest) -> Callable[[NamedFlow], bool]:
    """Return whether a flow is among those asked for; InvalidError names the field."""
    parts = request.machine.split("/") if request.machine else []
    if len(parts) > 2:
        raise InvalidError("machine", f"{request.machine!r} is not NETWORK/NAME")
    for part in parts:
        check_name("machine", part)

    def is_wanted(flow: NamedFlow) -> bool:
        if request.dropped and flow.event.kind is not EventKind.DROP:
            return False
        return not parts or any(
            name == request.machine or (len(parts) == 1 and _machine(name) == parts[0])
            for name in (flow.source_name, flow.destination_name)
        )

    return is_wanted


def report_to_message(report: FlowReport) -> pb.WatchFlowsResponse:
    """Return one flow as the stream tells it."""
    return pb.WatchFlowsResponse(
        flow=_flow_to_message(report.flow), suppressed=report.suppressed, lost=report.lost
    )


def counters_to_message(
    counters: Mapping[tuple[RuleRow, bool], RuleCounter], view: View, network: str
) -> pb.ListRuleCountersResponse:
    """Return counters by network, rule and side. network: whose; empty: all."""
    found = []
    for (rule, is_receiver), counter in counters.items():
        name = view.network_name(rule.network)
        if network in ("", name):
            found.append(
                pb.RuleCounter(
                    network=name,
                    rule=view.rule_name(rule.network, rule.number),
                    at_receiver=is_receiver,
                    allowed_packets=counter.allowed.packets,
                    allowed_bytes=counter.allowed.bytes,
                    denied_packets=counter.denied.packets,
                    denied_bytes=counter.denied.bytes,
                    audited_packets=counter.audited.packets,
                    audited_bytes=counter.audited.bytes,
                )
            )
    found.sort(key=lambda one: (one.network, one.rule, one.at_receiver))
    return pb.ListRuleCountersResponse(counters=found)


def _machine(name: str) -> str:
    """Return NAME of NETWORK/NAME; a host's name is no machine's."""
    return name.partition("/")[2]


def _flow_to_message(flow: NamedFlow) -> pb.Flow:
    event = flow.event
    message = pb.Flow(
        kind=_KINDS[event.kind],
        verdict=event.verdict.label,
        program=event.program.name.lower(),
        source=pb.FlowParty(address=flow.source_address, name=flow.source_name),
        destination=pb.FlowParty(address=flow.destination_address, name=flow.destination_name),
        protocol=event.protocol,
        source_port=event.source_port,
        destination_port=event.destination_port,
        icmp_type=event.icmp_type,
        icmp_code=event.icmp_code,
        bytes=event.bytes,
    )
    message.time.FromNanoseconds(flow.time_ns)
    if event.network:
        message.network = flow.network
        message.version = event.version
        message.rule = flow.rule
        message.direction = Direction(event.direction).name.lower()
        if event.is_audited:
            message.audit_rule = flow.audit_rule
    return message
