"""`netagent host`: the servers of the fleet."""

from __future__ import annotations

import base64
import binascii

import click

from netagent.api.control.v1 import host_service_pb2 as pb
from netagent.api.control.v1.host_service_pb2_grpc import HostServiceStub
from netagent.api.types.v1 import types_pb2
from netagent.cli.channel import control_stub, read_pages, timeout_s
from netagent.cli.drain import drain
from netagent.cli.options import control_options, examples, shared
from netagent.cli.output import print_fields, print_json, print_table
from netagent.cli.views import endpoint_text, host_view
from netagent.settings.fields import PARSE_ERRORS, parse_endpoint


@click.group()
def host() -> None:
    """Servers of the fleet."""


@host.command(
    epilog=examples(
        "netagent host register a --public-key $(wg pubkey < key) --endpoint 192.0.2.1:51820"
    )
)
@click.argument("name")
@click.option("--public-key", required=True, metavar="BASE64", help="WireGuard's, as `wg` has it.")
@click.option(
    "--endpoint", required=True, metavar="ADDRESS:PORT", help="Where its WireGuard listens."
)
@click.option("--region", type=click.IntRange(0, 4095), default=1, show_default=True)
@control_options
@click.pass_context
def register(ctx: click.Context, name: str, public_key: str, endpoint: str, region: int) -> None:
    """Make a host known; agents do this for themselves."""
    try:
        where = parse_endpoint(endpoint)
    except PARSE_ERRORS as error:
        raise click.BadParameter(
            f"{endpoint!r} is not ADDRESS:PORT, as 192.0.2.1:51820 or [2001:db8::1]:51820",
            param_hint="--endpoint",
        ) from error
    try:
        key = base64.b64decode(public_key, validate=True)
    except binascii.Error as error:
        raise click.BadParameter("is not base64", param_hint="--public-key") from error
    request = pb.RegisterHostRequest(
        name=name,
        region=region,
        public_key=key,
        endpoint=types_pb2.Endpoint(address=str(where.address), port=where.port),
    )
    options = shared(ctx)
    with control_stub(options, HostServiceStub) as stub:
        made = stub.RegisterHost(request, timeout=timeout_s(options)).host
    _print_host(made, is_json=options.is_json)


@host.command(epilog=examples("netagent host get a"))
@click.argument("name")
@control_options
@click.pass_context
def get(ctx: click.Context, name: str) -> None:
    """Show one host."""
    options = shared(ctx)
    with control_stub(options, HostServiceStub) as stub:
        found = stub.GetHost(pb.GetHostRequest(name=name), timeout=timeout_s(options)).host
    _print_host(found, is_json=options.is_json)


@host.command("list", epilog=examples("netagent host list", "netagent host list -o json"))
@control_options
@click.pass_context
def list_hosts(ctx: click.Context) -> None:
    """List hosts by name."""
    options = shared(ctx)
    with control_stub(options, HostServiceStub) as stub:
        pages = read_pages(
            lambda token: stub.ListHosts(
                pb.ListHostsRequest(page_token=token), timeout=timeout_s(options)
            )
        )
        hosts = [each for page in pages for each in page.hosts]
    if options.is_json:
        print_json({"hosts": [host_view(each) for each in hosts]})
        return
    print_table(
        ("NAME", "REGION", "ENDPOINT", "ADDRESS", "AGENT", "REVISION"),
        [
            (
                each.name,
                str(each.region),
                endpoint_text(each.endpoint),
                each.address,
                "connected" if each.connected else "away",
                str(each.applied_revision or ""),
            )
            for each in hosts
        ],
    )


@host.command(epilog=examples("netagent host remove a"))
@click.argument("name")
@click.option("--etag", default="", help="Only if the host still has this etag.")
@control_options
@click.pass_context
def remove(ctx: click.Context, name: str, etag: str) -> None:
    """Remove a host that has no machines."""
    options = shared(ctx)
    with control_stub(options, HostServiceStub) as stub:
        stub.RemoveHost(pb.RemoveHostRequest(name=name, etag=etag), timeout=timeout_s(options))
    if options.is_json:
        print_json({"removed": name})
    else:
        click.echo(f"host {name} removed")


host.add_command(drain)


def _print_host(found: types_pb2.Host, *, is_json: bool) -> None:
    view = host_view(found)
    if is_json:
        print_json(view)
        return
    view["connected"] = "yes" if found.connected else "no"
    print_fields({key: str(value) for key, value in view.items()})
