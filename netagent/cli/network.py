"""`netagent network`: private networks."""

from __future__ import annotations

import click

from netagent.api.control.v1 import network_service_pb2 as pb
from netagent.api.control.v1.network_service_pb2_grpc import NetworkServiceStub
from netagent.api.types.v1 import types_pb2
from netagent.cli.channel import control_stub, read_pages, timeout_s
from netagent.cli.options import control_options, examples, shared
from netagent.cli.output import print_fields, print_json, print_table
from netagent.cli.views import network_view


@click.group()
def network() -> None:
    """Private networks."""


@network.command(epilog=examples("netagent network create blue"))
@click.argument("name")
@control_options
@click.pass_context
def create(ctx: click.Context, name: str) -> None:
    """Create a network."""
    options = shared(ctx)
    with control_stub(options, NetworkServiceStub) as stub:
        request = pb.CreateNetworkRequest(name=name)
        made = stub.CreateNetwork(request, timeout=timeout_s(options)).network
    _print_network(made, is_json=options.is_json)


@network.command(epilog=examples("netagent network get blue"))
@click.argument("name")
@control_options
@click.pass_context
def get(ctx: click.Context, name: str) -> None:
    """Show one network."""
    options = shared(ctx)
    with control_stub(options, NetworkServiceStub) as stub:
        found = stub.GetNetwork(pb.GetNetworkRequest(name=name), timeout=timeout_s(options)).network
    _print_network(found, is_json=options.is_json)


@network.command("list", epilog=examples("netagent network list"))
@control_options
@click.pass_context
def list_networks(ctx: click.Context) -> None:
    """List networks by name."""
    options = shared(ctx)
    with control_stub(options, NetworkServiceStub) as stub:
        pages = read_pages(
            lambda token: stub.ListNetworks(
                pb.ListNetworksRequest(page_token=token), timeout=timeout_s(options)
            )
        )
        networks = [each for page in pages for each in page.networks]
    if options.is_json:
        print_json({"networks": [network_view(each) for each in networks]})
        return
    print_table(
        ("NAME", "NUMBER", "MACHINES"),
        [(each.name, str(each.number), str(each.machine_count)) for each in networks],
    )


@network.command(epilog=examples("netagent network delete blue"))
@click.argument("name")
@click.option("--etag", default="", help="Only if the network still has this etag.")
@control_options
@click.pass_context
def delete(ctx: click.Context, name: str, etag: str) -> None:
    """Delete a network that has no machines."""
    options = shared(ctx)
    with control_stub(options, NetworkServiceStub) as stub:
        request = pb.DeleteNetworkRequest(name=name, etag=etag)
        stub.DeleteNetwork(request, timeout=timeout_s(options))
    if options.is_json:
        print_json({"deleted": name})
    else:
        click.echo(f"network {name} deleted")


def _print_network(found: types_pb2.Network, *, is_json: bool) -> None:
    view = network_view(found)
    if is_json:
        print_json(view)
    else:
        print_fields({key: str(value) for key, value in view.items()})
