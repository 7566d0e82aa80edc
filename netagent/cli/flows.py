"""`netagent flows`: what this host's data path dropped, audited and let through, with names."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

import click
import grpc

from netagent.api.agent.v1 import agent_service_pb2 as pb
from netagent.api.agent.v1.agent_service_pb2_grpc import AgentServiceStub
from netagent.cli.channel import agent_stub, is_of_deadline, timeout_s
from netagent.cli.failures import ExitCode, Failure
from netagent.cli.flow_lines import HEADERS, FlowLines, flow_row
from netagent.cli.options import Shared, agent_options, examples, shared
from netagent.cli.output import print_json
from netagent.cli.views import flow_view


@click.command(
    epilog=examples(
        "netagent flows --follow --dropped",
        "netagent flows --machine shop/web-1",
        "netagent flows --dropped --output json | jq -r .verdict | sort | uniq -c",
    )
)
@click.option("--follow", "-f", is_flag=True, help="Go on with what comes, until Ctrl-C.")
@click.option("--dropped", is_flag=True, help="Only drops.")
@click.option("--machine", default="", metavar="MACHINE", help="Only flows from or to it.")
@agent_options
@click.pass_context
def flows(ctx: click.Context, follow: bool, dropped: bool, machine: str) -> None:
    """Show the latest flows of the host that you are on: drops, audits, and new flows.

    KIND is drop, flow (a new flow was let through) or audit (something in audit mode would have
    decided otherwise). VERDICT is one of docs/architecture.md. DECIDED BY is the rule, or the
    default, of the policy that decided; `-` where none did.

    The agent remembers the latest 10,000. The data path reports at most some 500 a second for each
    processor; what is missing is counted on standard error, and with --output json on lines of
    their own, of kind losses. With --follow, --timeout is how long to follow.
    """
    options = shared(ctx)
    request = pb.WatchFlowsRequest(follow=follow, dropped=dropped, machine=machine)
    limit_s = options.timeout_s if follow else timeout_s(options)
    with agent_stub(options, AgentServiceStub) as stub:
        responses = stub.WatchFlows(request, timeout=limit_s)
        try:
            if follow:
                _follow(options, responses)
            else:
                _show(options, list(responses))
        except KeyboardInterrupt:
            responses.cancel()
            return
        except grpc.RpcError as error:
            if follow and is_of_deadline(error):
                return
            raise
    if follow:
        raise Failure("the agent has stopped, and with it the flows", ExitCode.UNREACHABLE)


def _show(options: Shared, responses: list[pb.WatchFlowsResponse]) -> None:
    now = datetime.now().astimezone()
    views = [flow_view(each.flow) for each in responses]
    if options.is_json:
        for view in views:
            print_json(view, is_line=True)
        return
    if not views:
        click.echo("no flow is remembered here that was asked for", err=True)
        return
    rows = [flow_row(each.flow, view, now) for each, view in zip(responses, views, strict=True)]
    lines = FlowLines()
    lines.fit(rows)
    for row in (HEADERS, *rows):
        lines.print(row)


def _follow(options: Shared, responses: Iterable[pb.WatchFlowsResponse]) -> None:
    lines = FlowLines()
    if not options.is_json:
        lines.print(HEADERS)
    for response in responses:
        _say_losses(options, response)
        view = flow_view(response.flow)
        if options.is_json:
            print_json(view, is_line=True)
        else:
            lines.print(flow_row(response.flow, view, datetime.now().astimezone()))


def _say_losses(options: Shared, response: pb.WatchFlowsResponse) -> None:
    suppressed, lost = response.suppressed, response.lost
    if not (suppressed or lost):
        return
    if options.is_json:
        losses = {"kind": "losses", "suppressed": suppressed, "lost": lost}
        print_json(losses, is_line=True)
        return
    reasons = [
        *([f"{suppressed} more than the data path reports"] if suppressed else []),
        *([f"{lost} more than could be read in time"] if lost else []),
    ]
    click.echo(f"missing here: {', '.join(reasons)}", err=True)
