"""Policies for tests, and short ways to apply and ask them."""

from __future__ import annotations

from typing import Any

from control_fleet import Agent, Stubs

from netagent.api.control.v1 import network_service_pb2 as networks_pb
from netagent.api.control.v1 import policy_service_pb2 as pb
from netagent.model.fleet import Identity
from netagent.policy.entries import Direction
from netagent.policy.language import Verdict
from netagent.policy.lookup import Key, evaluate_compiled

TCP = 6
WEB_TO_DB = """\
network: blue
rules:
  - name: web-to-db
    from: {labels: {app: web}}
    to: {labels: {app: db}}
    allow: [tcp/5432]
"""
NAMES_ONE = """\
network: blue
default: allow
rules:
  - {name: no-web-1, from: {machine: web-1}, to: any, deny: [any]}
"""
BLUE_OPENS = """\
network: blue
rules:
  - {name: out, from: {labels: {}}, to: {network: red}, allow: [tcp/80]}
"""
RED_OPENS = """\
network: red
rules:
  - {name: in, from: {network: blue}, to: {labels: {}}, allow: [tcp/80]}
"""


async def populate(stubs: Stubs) -> None:
    """Hosts h1 and h2; blue with web-1 and web-2 at h1 and db-1 at h2; red with one at h2."""
    for number in (1, 2):
        await stubs.host(number)
    await stubs.network("blue")
    await stubs.network("red")
    await stubs.machine("blue/web-1", "h1", app="web")
    await stubs.machine("blue/web-2", "h1", app="web")
    await stubs.machine("blue/db-1", "h2", app="db")
    await stubs.machine("red/one", "h2")


async def apply(stubs: Stubs, text: str, **fields: Any) -> pb.ApplyPolicyResponse:
    request = pb.ApplyPolicyRequest(text=text, file_name="blue.yaml", **fields)
    response: pb.ApplyPolicyResponse = await stubs.policies.ApplyPolicy(request)
    return response


async def rollback(
    stubs: Stubs, network: str, version: int, **fields: Any
) -> pb.RollbackPolicyResponse:
    request = pb.RollbackPolicyRequest(network=network, version=version, **fields)
    response: pb.RollbackPolicyResponse = await stubs.policies.RollbackPolicy(request)
    return response


async def identity(stubs: Stubs, path: str) -> Identity:
    return Identity((await stubs.get(path)).identity)


async def verdict(agent: Agent, stubs: Stubs, source: str, destination: str, port: int) -> Verdict:
    """Return what the entries that an agent holds say, as its kernel would find it."""
    machine = await stubs.get(source)
    number = (
        await stubs.networks.GetNetwork(networks_pb.GetNetworkRequest(name=machine.network))
    ).network.number
    identities = await identity(stubs, source), await identity(stubs, destination)
    key = Key(Direction.INSIDE, *identities)
    return evaluate_compiled(agent.policies[number], key, TCP, port).verdict


async def versions(stubs: Stubs, network: str) -> list[int]:
    request = pb.ListPolicyVersionsRequest(network=network)
    return [one.version for one in (await stubs.policies.ListPolicyVersions(request)).policies]


async def explain(stubs: Stubs, source: str, to: str, traffic: str) -> pb.ExplainFlowResponse:
    request = pb.ExplainFlowRequest(**{"from": source, "to": to, "traffic": traffic})
    response: pb.ExplainFlowResponse = await stubs.policies.ExplainFlow(request)
    return response


def policy_parts(agent: Agent, after: int) -> list[Any]:
    """Return the policy tables of the batches after the first so many."""
    return [one for batch in agent.batches[after:] for part in batch for one in part.policies]
