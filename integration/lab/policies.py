"""Policies in a lab: applied through control, and in force on every host when this returns."""

from __future__ import annotations

from collections.abc import Iterable

import grpc

from integration.lab.host import RPC_TIMEOUT_S, Host
from integration.lab.lab import Lab
from integration.lab.pace import PACE
from integration.lab.wait import wait_until
from netagent.api.agent.v1 import agent_service_pb2 as agent_pb
from netagent.api.agent.v1.agent_service_pb2_grpc import AgentServiceStub
from netagent.api.control.v1 import policy_service_pb2 as policy_pb
from netagent.api.control.v1.policy_service_pb2_grpc import PolicyServiceStub


def apply_policy(lab: Lab, text: str) -> policy_pb.ApplyPolicyResponse:
    """Apply a policy; returns once all connected hosts enforce it."""
    request = policy_pb.ApplyPolicyRequest(text=text, file_name="policy.yaml")
    response = PolicyServiceStub(lab.channel).ApplyPolicy(request, timeout=PACE.allow(60))
    wait_applied(lab, response.revision)
    return response


def remove_policies(lab: Lab, networks: Iterable[str]) -> None:
    """Go back to the built-in policy, on all hosts."""
    revision = 0
    for network in networks:
        request = policy_pb.RollbackPolicyRequest(network=network, version=0)
        response = PolicyServiceStub(lab.channel).RollbackPolicy(request, timeout=PACE.allow(60))
        revision = max(revision, response.revision)
    wait_applied(lab, revision)


def wait_applied(lab: Lab, revision: int) -> None:
    """Wait until every connected host has applied a revision."""

    def is_applied() -> bool:
        return all(host.applied_revision >= revision for host in lab.list_hosts() if host.connected)

    wait_until(f"all hosts have applied revision {revision}", is_applied, timeout_s=30)


def explain(lab: Lab, source: str, destination: str, traffic: str) -> policy_pb.ExplainFlowResponse:
    """Ask the hosts of both ends about a flow."""
    fields = {"from": source, "to": destination, "traffic": traffic}
    request = policy_pb.ExplainFlowRequest(**fields)
    return PolicyServiceStub(lab.channel).ExplainFlow(request, timeout=PACE.allow(RPC_TIMEOUT_S))


def rule_counters(host: Host) -> dict[tuple[str, bool], agent_pb.RuleCounter]:
    """Return what each rule of a host has decided: by (rule or empty, at the receiver)."""
    with grpc.insecure_channel(f"unix://{host.socket}") as channel:
        request = agent_pb.ListRuleCountersRequest()
        found = AgentServiceStub(channel).ListRuleCounters(
            request, timeout=PACE.allow(RPC_TIMEOUT_S)
        )
    return {(one.rule, one.at_receiver): one for one in found.counters}


def flows(host: Host, *, is_dropped: bool = False, machine: str = "") -> list[agent_pb.Flow]:
    """Return the flows that a host's agent remembers, the oldest first."""
    with grpc.insecure_channel(f"unix://{host.socket}") as channel:
        request = agent_pb.WatchFlowsRequest(dropped=is_dropped, machine=machine)
        responses = AgentServiceStub(channel).WatchFlows(request, timeout=PACE.allow(RPC_TIMEOUT_S))
        return [response.flow for response in responses if response.HasField("flow")]
