"""PolicyService: access policies."""

from __future__ import annotations

from typing import Any, TypeVar

import grpc.aio

from netagent.api.control.v1 import policy_service_pb2 as pb
from netagent.api.control.v1 import policy_service_pb2_grpc
from netagent.control.explain import EndOpinion, explain_flow
from netagent.control.paging import check_page_size, read_page_token, take_page
from netagent.control.policy_apply import Applied, Order, PolicyApplier, find_version
from netagent.control.policy_review import Request
from netagent.control.policy_tables import PolicyTables
from netagent.control.records import PolicyRecord
from netagent.control.sync_hub import SyncHub
from netagent.control.validation import find_network
from netagent.control.writer import Writer
from netagent.model.errors import InvalidError, NotFoundError
from netagent.policy.changes import ChangeLine, Effect

LINES_MAX = 5_000
"""Most warnings, and most changes, of one answer: it has to be taken by clients."""

_Context = grpc.aio.ServicerContext[Any, Any]
_Response = TypeVar("_Response", pb.ApplyPolicyResponse, pb.RollbackPolicyResponse)

_EFFECTS = {
    Effect.OPENS: pb.AccessChange.EFFECT_OPENS,
    Effect.CLOSES: pb.AccessChange.EFFECT_CLOSES,
    Effect.CONSENTS: pb.AccessChange.EFFECT_CONSENTS,
    Effect.WITHDRAWS: pb.AccessChange.EFFECT_WITHDRAWS,
}


class PolicyService(policy_service_pb2_grpc.PolicyServiceServicer):
    """The service on a writer, the compiled policies and the agents' streams."""

    def __init__(self, writer: Writer, tables: PolicyTables, hub: SyncHub) -> None:
        self._writer = writer
        self._tables = tables
        self._hub = hub
        self._applier = PolicyApplier(writer, tables)

    async def ApplyPolicy(  # noqa: D102
        self, request: pb.ApplyPolicyRequest, context: _Context
    ) -> pb.ApplyPolicyResponse:
        if not request.text.strip():
            raise InvalidError("text", "is empty; write at least `network: NAME`")
        order = Order(
            Request(request.text, request.file_name or "policy"),
            request.dry_run,
            request.expected_version if request.HasField("expected_version") else None,
        )
        return _fill(pb.ApplyPolicyResponse(), await self._applier.apply(order))

    async def RollbackPolicy(  # noqa: D102
        self, request: pb.RollbackPolicyRequest, context: _Context
    ) -> pb.RollbackPolicyResponse:
        view = await self._writer.feed.catch_up()
        name = request.network
        find_network(view, "network", name)
        text = find_version(view, name, request.version).text if request.version else ""
        order = Order(
            Request(text, f"{name} version {request.version}", name),
            request.dry_run,
            request.expected_version if request.HasField("expected_version") else None,
            rolled_back_to=request.version,
        )
        return _fill(pb.RollbackPolicyResponse(), await self._applier.apply(order))

    async def GetPolicy(  # noqa: D102
        self, request: pb.GetPolicyRequest, context: _Context
    ) -> pb.GetPolicyResponse:
        view = await self._writer.feed.catch_up()
        find_network(view, "network", request.network)
        if request.HasField("version"):
            record = find_version(view, request.network, request.version)
        else:
            held = view.policy(request.network)
            if held is None:
                raise NotFoundError(
                    f"network: {request.network} has the built-in policy; none was applied yet"
                )
            record = held
        return pb.GetPolicyResponse(policy=_message(record))

    async def ListPolicies(  # noqa: D102
        self, request: pb.ListPoliciesRequest, context: _Context
    ) -> pb.ListPoliciesResponse:
        size = check_page_size(request.page_size)
        after = read_page_token(request.page_token, "policies")
        view = await self._writer.feed.catch_up()
        entries = (
            (network, record)
            for network, _ in view.policies.after(after)
            if (record := view.policy(network)) is not None and record.text
        )
        records, token = take_page(entries, size, "policies")
        policies = [_message(record, with_text=False) for record in records]
        return pb.ListPoliciesResponse(policies=policies, next_page_token=token)

    async def ListPolicyVersions(  # noqa: D102
        self, request: pb.ListPolicyVersionsRequest, context: _Context
    ) -> pb.ListPolicyVersionsResponse:
        view = await self._writer.feed.catch_up()
        network = find_network(view, "network", request.network).value
        versions = sorted(view.policy_versions.get(network.number, ()), reverse=True)
        records = (view.policy_version(network.number, version) for version in versions)
        found = [_message(one, with_text=False) for one in records if one is not None]
        return pb.ListPolicyVersionsResponse(policies=found)

    async def ExplainFlow(  # noqa: D102
        self, request: pb.ExplainFlowRequest, context: _Context
    ) -> pb.ExplainFlowResponse:
        view = await self._writer.feed.catch_up()
        source, destination = getattr(request, "from"), request.to
        found = await explain_flow(view, self._hub, source, destination, request.traffic)
        opinions = [one.opinion for one in found if one.opinion is not None]
        return pb.ExplainFlowResponse(
            complete=len(opinions) == len(found),
            allowed=bool(opinions) and all(one.allowed for one in opinions),
            opinions=[_opinion_message(one) for one in found],
        )


def _fill(response: _Response, applied: Applied) -> _Response:
    response.policy.CopyFrom(_message(applied.record))
    response.applied = applied.is_new
    response.warnings.extend(applied.review.warnings[:LINES_MAX])
    response.changes.extend(_change_message(line) for line in applied.review.changes[:LINES_MAX])
    for what, lines in (("warnings", applied.review.warnings), ("changes", applied.review.changes)):
        if len(lines) > LINES_MAX:
            response.warnings.append(
                f"only the first {LINES_MAX:,} of {len(lines):,} {what} are said"
            )
    response.revision = applied.revision
    return response


def _message(record: PolicyRecord, *, with_text: bool = True) -> pb.Policy:
    message = pb.Policy(
        network=record.network,
        version=record.version,
        text=record.text if with_text else "",
        rolled_back_to=record.rolled_back_to,
    )
    message.applied_at.FromMilliseconds(round(record.applied_at_s * 1000))
    return message


def _change_message(line: ChangeLine) -> pb.AccessChange:
    parties = {"from": line.source, "to": line.destination}
    return pb.AccessChange(effect=_EFFECTS[line.effect], traffic=line.traffic, **parties)


def _opinion_message(one: EndOpinion) -> pb.EndOpinion:
    return pb.EndOpinion(at=one.at, host=one.host, opinion=one.opinion, problem=one.problem)
