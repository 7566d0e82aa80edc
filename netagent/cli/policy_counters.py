"""`netagent policy counters`: what each rule has decided on this host."""

from __future__ import annotations

import click

from netagent.api.agent.v1 import agent_service_pb2 as pb
from netagent.api.agent.v1.agent_service_pb2_grpc import AgentServiceStub
from netagent.cli.channel import agent_stub, timeout_s
from netagent.cli.failures import ExitCode, Failure
from netagent.cli.options import Shared, agent_options, examples, shared
from netagent.cli.output import format_bytes, print_json, print_table
from netagent.cli.views import Document, counter_view
from netagent.policy.nodes import nearest

_VERDICTS = ("allowed", "denied", "audited")


@click.command(
    epilog=examples("netagent policy counters", "netagent policy counters shop --output json")
)
@click.argument("network", required=False, default="")
@agent_options
@click.pass_context
def counters(ctx: click.Context, network: str) -> None:
    """Show packets and bytes that each rule has allowed and denied, on the host that you are on.

    SIDE is whose policy was asked: the sender's, or the receiver's; within one network the same
    policy is asked at both hosts, and once where both machines are on one. AUDITED is what
    something in audit mode would have decided otherwise. A rule keeps its figures for as long as
    its name stays.
    """
    options = shared(ctx)
    found = [counter_view(each) for each in _list(options, network)]
    if network and not found:
        known = {each.network for each in _list(options, "")}
        hint = nearest(network, known) if known else "no machine is on this host"
        message = f"this host has no machine of network {network}, and so no policy of it"
        raise Failure(f"{message}; {hint}" if hint else message, ExitCode.NOT_FOUND)
    if options.is_json:
        print_json({"counters": found})
        return
    # The default is what remains, and stands below the rules.
    found.sort(key=lambda one: (one["network"], one["rule"] is None))
    print_table(("NETWORK", "RULE", "SIDE", "ALLOWED", "DENIED", "AUDITED"), list(map(_row, found)))


def _list(options: Shared, network: str) -> list[pb.RuleCounter]:
    with agent_stub(options, AgentServiceStub) as stub:
        request = pb.ListRuleCountersRequest(network=network)
        return list(stub.ListRuleCounters(request, timeout=timeout_s(options)).counters)


def _row(view: Document) -> tuple[str, ...]:
    rule = "(default)" if view["rule"] is None else view["rule"]
    return view["network"], rule, view["side"], *(_amount(view, each) for each in _VERDICTS)


def _amount(view: Document, verdict: str) -> str:
    packets = view[f"{verdict}_packets"]
    return f"{packets} ({format_bytes(view[f'{verdict}_bytes'])})" if packets else ""
