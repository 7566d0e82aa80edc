"""`netagent attach`, `detach` and `endpoint`: machines' interfaces on this host."""

from __future__ import annotations

import click

from netagent.api.agent.v1 import agent_service_pb2 as pb
from netagent.api.agent.v1.agent_service_pb2_grpc import AgentServiceStub
from netagent.cli.channel import agent_stub, timeout_s
from netagent.cli.failures import printable
from netagent.cli.options import agent_options, examples, shared
from netagent.cli.output import print_fields, print_json, print_table
from netagent.cli.views import Document, attached_view

ENDPOINT_HEADERS = ("MACHINE", "STATE", "ADDRESS", "INTERFACE", "MAC", "NETNS")

NETNS_DIRECTORY = "/run/netns/"


@click.command(
    epilog=examples(
        "netagent attach blue/web --netns /run/netns/web",
        "netagent attach blue/db --interface tap0 --mac 02:00:00:00:00:01",
    )
)
@click.argument("machine", metavar="MACHINE")
@click.option("--interface", default="", metavar="IF", help="An existing tap or veth of this host.")
@click.option(
    "--netns",
    default="",
    metavar="PATH",
    help="A network namespace, in which its interface is made; a bare name is in"
    f" {NETNS_DIRECTORY}.",
)
@click.option("--mac", default="", metavar="MAC", help="Its MAC, if it is not the machine's own.")
@agent_options
@click.pass_context
def attach(ctx: click.Context, machine: str, interface: str, netns: str, mac: str) -> None:
    """Say which interface of this host is a machine's, or make one in a network namespace.

    The machine may be located elsewhere: it then goes live here when it is moved here.
    """
    if bool(interface) == bool(netns):
        raise click.UsageError("Give either --interface or --netns.")
    request = pb.AttachRequest(machine=machine, mac=mac)
    if interface:
        request.interface = interface
    else:
        request.netns = netns if "/" in netns else NETNS_DIRECTORY + netns
    options = shared(ctx)
    with agent_stub(options, AgentServiceStub) as stub:
        made = attached_view(stub.Attach(request, timeout=timeout_s(options)).endpoint)
        if options.is_json:
            print_json(made)
            return
        print_fields({key: str(value or "") for key, value in made.items()})
        if made["state"] == "fenced":
            here = stub.GetStatus(pb.GetStatusRequest(), timeout=timeout_s(options)).host
            hint = f"move it here: netagent move {made['machine']} --to {here}"
            click.echo(printable(hint), err=True)


@click.command(epilog=examples("netagent detach blue/web"))
@click.argument("machine", metavar="MACHINE")
@agent_options
@click.pass_context
def detach(ctx: click.Context, machine: str) -> None:
    """Take a machine's interface back; one that `attach` made is removed."""
    options = shared(ctx)
    with agent_stub(options, AgentServiceStub) as stub:
        stub.Detach(pb.DetachRequest(machine=machine), timeout=timeout_s(options))
    if options.is_json:
        print_json({"detached": machine})
    else:
        click.echo(f"machine {machine} detached")


@click.group()
def endpoint() -> None:
    """List the machines attached to this host."""


@endpoint.command("list", epilog=examples("netagent endpoint list"))
@agent_options
@click.pass_context
def list_endpoints(ctx: click.Context) -> None:
    """List attached machines and what they may do now.

    live: located here. staged: on its way here, receives and does not send yet. fenced: located
    elsewhere, neither sends nor receives.
    """
    options = shared(ctx)
    with agent_stub(options, AgentServiceStub) as stub:
        found = stub.ListEndpoints(pb.ListEndpointsRequest(), timeout=timeout_s(options))
    views = [attached_view(each) for each in found.endpoints]
    if options.is_json:
        print_json({"endpoints": views})
    else:
        print_table(ENDPOINT_HEADERS, [endpoint_row(view) for view in views])


def endpoint_row(view: Document) -> tuple[str, ...]:
    """Return a row below ENDPOINT_HEADERS."""
    keys = (header.lower() for header in ENDPOINT_HEADERS)
    return tuple(str(view[key] or "") for key in keys)
