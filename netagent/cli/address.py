"""`netagent address`: floating addresses, and which machine has them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from netagent.api.control.v1 import address_service_pb2 as pb
from netagent.api.control.v1.address_service_pb2_grpc import AddressServiceStub
from netagent.api.types.v1 import types_pb2
from netagent.cli.channel import control_stub, read_pages, timeout_s
from netagent.cli.failures import ExitCode, Failure, printable
from netagent.cli.options import control_options, examples, shared
from netagent.cli.output import print_fields, print_json, print_table
from netagent.cli.views import address_view

CHANGE_TIMEOUT_S = 60.0


@click.group()
def address() -> None:
    """Floating addresses: they go from machine to machine.

    An address is NETWORK/NAME, NAME alone while only one network has one of that name, or the
    address itself. A machine without its network is one of the address's network.
    """


@address.command(
    epilog=examples(
        "netagent address create blue/vip --to web-1",
        "ip -6 addr add ADDRESS/128 dev lo nodad     # in each machine that may come to have it",
    )
)
@click.argument("address", metavar="NETWORK/NAME")
@click.option("--to", default="", metavar="MACHINE", help="Who has it first; nobody if left out.")
@control_options
@click.pass_context
def create(ctx: click.Context, address: str, to: str) -> None:
    """Create a floating address."""
    network, slash, name = address.partition("/")
    if not (network and slash and name):
        raise click.BadParameter(
            f"{address!r} is not NETWORK/NAME, as blue/vip", param_hint="NETWORK/NAME"
        )
    options = shared(ctx)
    with control_stub(options, AddressServiceStub) as stub:
        request = pb.CreateAddressRequest(network=network, name=name, machine=to)
        made = stub.CreateAddress(request, timeout=timeout_s(options)).address
    _print_address(made, is_json=options.is_json)


@address.command(
    "list", epilog=examples("netagent address list --network blue", "netagent address list -o json")
)
@click.option("--network", default="", metavar="NETWORK", help="Only addresses of this network.")
@control_options
@click.pass_context
def list_addresses(ctx: click.Context, network: str) -> None:
    """List floating addresses by network and name."""
    options = shared(ctx)
    with control_stub(options, AddressServiceStub) as stub:
        pages = read_pages(
            lambda token: stub.ListAddresses(
                pb.ListAddressesRequest(page_token=token, network=network),
                timeout=timeout_s(options),
            )
        )
        found = [each for page in pages for each in page.addresses]
    if options.is_json:
        print_json({"addresses": [address_view(each) for each in found]})
        return
    print_table(
        ("NAME", "ADDRESS", "HOLDER", "HOST", "EPOCH"),
        [
            (f"{each.network}/{each.name}", each.address, each.holder, each.host, str(each.epoch))
            for each in found
        ],
    )


@address.command(
    epilog=examples(
        "netagent address assign blue/vip --to web-2",
        "netagent address assign blue/vip --to web-2 --from web-1   # only if web-1 has it",
    )
)
@click.argument("address")
@click.option("--to", required=True, metavar="MACHINE", help="Who gets it.")
@click.option("--from", "holder", default="", metavar="MACHINE", help="Only if this one has it.")
@click.option("--etag", default="", help="Only if the address still has this etag.")
@control_options
@click.pass_context
def assign(ctx: click.Context, address: str, to: str, holder: str, etag: str) -> None:
    """Give an address to a machine, whoever has had it.

    Returns when all connected hosts have applied it. The former holder is not asked and need not be
    alive: its packets under the address are dropped from then on.
    """
    request = pb.AssignAddressRequest(
        address=address, machine=to, expected_holder=holder, etag=etag
    )
    _change(ctx, lambda stub, limit_s: stub.AssignAddress(request, timeout=limit_s))


@address.command(epilog=examples("netagent address release blue/vip"))
@click.argument("address")
@click.option("--from", "holder", default="", metavar="MACHINE", help="Only if this one has it.")
@click.option("--etag", default="", help="Only if the address still has this etag.")
@control_options
@click.pass_context
def release(ctx: click.Context, address: str, holder: str, etag: str) -> None:
    """Take an address from its holder; nobody has it then."""
    request = pb.ReleaseAddressRequest(address=address, expected_holder=holder, etag=etag)
    _change(ctx, lambda stub, limit_s: stub.ReleaseAddress(request, timeout=limit_s))


@address.command(epilog=examples("netagent address delete blue/vip"))
@click.argument("address")
@click.option("--etag", default="", help="Only if the address still has this etag.")
@control_options
@click.pass_context
def delete(ctx: click.Context, address: str, etag: str) -> None:
    """Delete a floating address, whoever has it; it is not given out again soon."""
    options = shared(ctx)
    with control_stub(options, AddressServiceStub) as stub:
        request = pb.DeleteAddressRequest(address=address, etag=etag)
        stub.DeleteAddress(request, timeout=timeout_s(options))
    if options.is_json:
        print_json({"deleted": address})
    else:
        click.echo(f"floating address {address} deleted")


def _change(ctx: click.Context, call: Callable[[Any, float], Any]) -> None:
    """Call control, and print what came of it; Failure names hosts that lag."""
    options = shared(ctx)
    with control_stub(options, AddressServiceStub) as stub:
        response = call(stub, timeout_s(options, CHANGE_TIMEOUT_S))
    elapsed_s = response.elapsed.ToNanoseconds() / 1e9
    lagging, away = list(response.lagging_hosts), list(response.away_hosts)
    if options.is_json:
        document = address_view(response.address) | {
            "elapsed_s": round(elapsed_s, 6),
            "lagging_hosts": lagging,
            "away_hosts": away,
        }
        print_json(document)
    else:
        holder = response.address.holder or "nobody"
        place = f" on host {response.address.host}" if response.address.host else ""
        name = f"{response.address.network}/{response.address.name}"
        click.echo(printable(f"{elapsed_s:8.3f} s  {name} is {holder}'s{place}"))
        if away:
            click.echo(f"{'':12}not connected: {printable(', '.join(away))} (they catch up)")
    if lagging:
        raise Failure(
            f"not applied in time by: {', '.join(lagging)}; they catch up when they can, and"
            " `netagent status` there says what is wrong",
            ExitCode.UNREACHABLE,
        )


def _print_address(found: types_pb2.FloatingAddress, *, is_json: bool) -> None:
    view = address_view(found)
    if is_json:
        print_json(view)
    else:
        print_fields({key: str(value or "") for key, value in view.items() if key != "network"})
