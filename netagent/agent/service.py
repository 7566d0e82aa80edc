"""AgentService: the local API, translated; decides nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import grpc.aio

from netagent.agent.attach import Attacher, parse_order
from netagent.agent.attached import EndpointState
from netagent.agent.conditions import Condition, Severity
from netagent.agent.errors import as_status
from netagent.agent.facts import EndpointStatus, EngineStatus, OwnHost
from netagent.agent.flow_log import FlowLog, FlowReport
from netagent.agent.flow_service import parse_wanted, report_to_message
from netagent.agent.policy_status import PolicyStatus
from netagent.agent.session import AGENT_VERSION
from netagent.api.agent.v1 import agent_service_pb2 as pb
from netagent.api.agent.v1 import agent_service_pb2_grpc
from netagent.api.types.v1 import types_pb2
from netagent.dataplane.abi import Misdirected
from netagent.dataplane.wireguard import PeerStatus
from netagent.model.addresses import Fleet, Locator, locator_network, stable_address
from netagent.model.fleet import Host

_Context = grpc.aio.ServicerContext[Any, Any]

_STATES = {
    EndpointState.LIVE: pb.ENDPOINT_STATE_LIVE,
    EndpointState.STAGED: pb.ENDPOINT_STATE_STAGED,
    EndpointState.FENCED: pb.ENDPOINT_STATE_FENCED,
}

_SEVERITIES = {
    Severity.WARNING: types_pb2.SEVERITY_WARNING,
    Severity.ERROR: types_pb2.SEVERITY_ERROR,
}


@dataclass(frozen=True, slots=True)
class AgentStatus:
    """All that GetStatus answers. hosts: by public key, to name the peers."""

    name: str
    engine: EngineStatus
    is_connected: bool
    applied_revision: int
    peers: tuple[PeerStatus, ...]
    hosts: dict[bytes, Host]
    conditions: tuple[Condition, ...]
    drift_mended: int
    policies: tuple[PolicyStatus, ...]
    policy_maps: dict[str, tuple[int, int]]


class AgentService(agent_service_pb2_grpc.AgentServiceServicer):
    """The service on an attacher and a source of status."""

    def __init__(
        self,
        attacher: Attacher,
        read_endpoints: Callable[[], Awaitable[tuple[OwnHost | None, tuple[EndpointStatus, ...]]]],
        read_status: Callable[[], Awaitable[AgentStatus]],
        flows: FlowLog,
        read_counters: Callable[[str], Awaitable[pb.ListRuleCountersResponse]],
    ) -> None:
        self._attacher = attacher
        self._read_endpoints = read_endpoints
        self._read_status = read_status
        self._flows = flows
        self._read_counters = read_counters

    async def Attach(  # noqa: D102
        self, request: pb.AttachRequest, context: _Context
    ) -> pb.AttachResponse:
        async with as_status(context):
            order = parse_order(request.machine, request.interface, request.netns, request.mac)
            own, endpoint = await self._attacher.attach(order)
            return pb.AttachResponse(endpoint=_endpoint_to_message(own.fleet, endpoint))
        raise AssertionError("abort does not return")

    async def Detach(  # noqa: D102
        self, request: pb.DetachRequest, context: _Context
    ) -> pb.DetachResponse:
        async with as_status(context):
            await self._attacher.detach(request.machine)
        return pb.DetachResponse()

    async def ListEndpoints(  # noqa: D102
        self, request: pb.ListEndpointsRequest, context: _Context
    ) -> pb.ListEndpointsResponse:
        async with as_status(context):
            own, endpoints = await self._read_endpoints()
            if own is None:
                return pb.ListEndpointsResponse()
            messages = [_endpoint_to_message(own.fleet, endpoint) for endpoint in endpoints]
            return pb.ListEndpointsResponse(endpoints=messages)
        raise AssertionError("abort does not return")

    async def GetStatus(  # noqa: D102
        self, request: pb.GetStatusRequest, context: _Context
    ) -> pb.GetStatusResponse:
        async with as_status(context):
            return _status_to_message(await self._read_status())
        raise AssertionError("abort does not return")

    async def WatchFlows(  # noqa: D102
        self, request: pb.WatchFlowsRequest, context: _Context
    ) -> AsyncIterator[pb.WatchFlowsResponse]:
        async with as_status(context):
            wanted = parse_wanted(request)
            with self._flows.follow(wanted) as follower:
                # So a caller knows from when on nothing escapes it, also while nothing happens.
                await context.send_initial_metadata(())
                for flow in self._flows.remembered(wanted):
                    yield report_to_message(FlowReport(flow))
                while request.follow and (report := await follower.next()) is not None:
                    yield report_to_message(report)

    async def ListRuleCounters(  # noqa: D102
        self, request: pb.ListRuleCountersRequest, context: _Context
    ) -> pb.ListRuleCountersResponse:
        async with as_status(context):
            return await self._read_counters(request.network)
        raise AssertionError("abort does not return")


def _endpoint_to_message(fleet: Fleet, endpoint: EndpointStatus) -> pb.AttachedEndpoint:
    machine = endpoint.attached
    return pb.AttachedEndpoint(
        machine=machine.machine,
        address=str(stable_address(fleet, machine.stable_id)),
        interface=machine.interface,
        ifindex=endpoint.ifindex,
        mac=machine.mac.hex(":"),
        netns=str(machine.netns or ""),
        state=_STATES[endpoint.state],
    )


def _status_to_message(status: AgentStatus) -> pb.GetStatusResponse:
    engine = status.engine
    message = pb.GetStatusResponse(
        host=status.name,
        version=AGENT_VERSION,
        connected=status.is_connected,
        applied_revision=status.applied_revision,
        wireguard=engine.wireguard,
        mtu_bytes=engine.mtu_bytes,
        peers=[
            _peer_to_message(peer, status.hosts.get(peer.public_key), engine.misdirected)
            for peer in status.peers
        ],
        conditions=[_condition_to_message(condition) for condition in status.conditions],
        counters=[
            pb.Counter(verdict=verdict.label, packets=counter.packets, bytes=counter.bytes)
            for verdict, counter in sorted(engine.counters.items())
            if counter.packets
        ],
        maps=[
            pb.MapUsage(name=name, entries=entries, capacity=capacity)
            for name, (entries, capacity) in sorted((engine.maps | status.policy_maps).items())
        ],
        policies=[
            pb.PolicyInForce(network=one.network, version=one.version, pairs=one.pairs)
            for one in status.policies
        ],
        drift_mended=status.drift_mended,
        kernel_writes=engine.kernel_writes,
    )
    if engine.own is not None:
        fleet, host = engine.own.fleet, engine.own.host
        message.address = str(stable_address(fleet, host.stable_id))
        message.locator = str(locator_network(host.locator))
        message.endpoints.extend(_endpoint_to_message(fleet, e) for e in engine.endpoints)
    return message


def _peer_to_message(
    peer: PeerStatus, host: Host | None, misdirected: Mapping[Locator, Misdirected]
) -> pb.Peer:
    wrong = misdirected.get(host.locator, Misdirected(0, 0)) if host else Misdirected(0, 0)
    message = pb.Peer(
        host=host.name if host else "",
        endpoint=str(peer.endpoint or ""),
        received_bytes=peer.received_bytes,
        sent_bytes=peer.sent_bytes,
        misdirected_forwarded=wrong.forwarded,
        misdirected_dropped=wrong.dropped,
    )
    if peer.last_handshake_s:
        message.last_handshake.FromSeconds(peer.last_handshake_s)
    return message


def _condition_to_message(condition: Condition) -> pb.Condition:
    message = pb.Condition(
        code=condition.code.value,
        severity=_SEVERITIES[condition.code.severity],
        detail=condition.detail,
    )
    message.since.FromMilliseconds(int(condition.since_s * 1000))
    return message
