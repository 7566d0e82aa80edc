"""`netagent machine`: machines and their stable addresses."""

from __future__ import annotations

from collections.abc import Iterable

import click

from netagent.api.control.v1 import machine_service_pb2 as pb
from netagent.api.control.v1.machine_service_pb2_grpc import MachineServiceStub
from netagent.api.types.v1 import types_pb2
from netagent.cli.channel import control_stub, read_pages, timeout_s
from netagent.cli.labels import apply_label_changes, parse_label_changes, parse_labels
from netagent.cli.options import control_options, examples, shared
from netagent.cli.output import format_labels, print_fields, print_json, print_table
from netagent.cli.views import machine_view


@click.group()
def machine() -> None:
    """Machines and their stable addresses.

    A machine is NETWORK/NAME; NAME alone will do while only one network has such a machine.
    """


@machine.command(
    epilog=examples(
        "netagent machine create blue/web --host a",
        "netagent machine create blue/web --host a --label app=web --label tier=front",
    )
)
@click.argument("machine", metavar="NETWORK/NAME")
@click.option("--host", required=True, metavar="HOST", help="Where the machine starts.")
@click.option("--label", "labels", multiple=True, metavar="KEY=VALUE", help="May be repeated.")
@control_options
@click.pass_context
def create(ctx: click.Context, machine: str, host: str, labels: tuple[str, ...]) -> None:
    """Create a machine; it keeps its address for life."""
    network, slash, name = machine.partition("/")
    if not (network and slash and name):
        raise click.BadParameter(
            f"{machine!r} is not NETWORK/NAME, as blue/web", param_hint="NETWORK/NAME"
        )
    request = pb.CreateMachineRequest(
        network=network, name=name, host=host, labels=parse_labels(labels)
    )
    options = shared(ctx)
    with control_stub(options, MachineServiceStub) as stub:
        made = stub.CreateMachine(request, timeout=timeout_s(options)).machine
    _print_machine(made, is_json=options.is_json)


@machine.command(epilog=examples("netagent machine get blue/web", "netagent machine get web"))
@click.argument("machine", metavar="MACHINE")
@control_options
@click.pass_context
def get(ctx: click.Context, machine: str) -> None:
    """Show one machine."""
    options = shared(ctx)
    with control_stub(options, MachineServiceStub) as stub:
        request = pb.GetMachineRequest(machine=machine)
        found = stub.GetMachine(request, timeout=timeout_s(options)).machine
    _print_machine(found, is_json=options.is_json)


@machine.command(
    "list", epilog=examples("netagent machine list --network blue", "netagent machine list -o json")
)
@click.option("--network", default="", metavar="NETWORK", help="Only machines of this network.")
@click.option("--host", default="", metavar="HOST", help="Only machines located on this host.")
@control_options
@click.pass_context
def list_machines(ctx: click.Context, network: str, host: str) -> None:
    """List machines by network and name."""
    options = shared(ctx)
    with control_stub(options, MachineServiceStub) as stub:
        pages = read_pages(
            lambda token: stub.ListMachines(
                pb.ListMachinesRequest(page_token=token, network=network, host=host),
                timeout=timeout_s(options),
            )
        )
        machines = [each for page in pages for each in page.machines]
    if options.is_json:
        print_json({"machines": [machine_view(each) for each in machines]})
        return
    print_table(("MACHINE", "ADDRESS", "HOST", "EPOCH", "LABELS"), list(_rows(machines)))


@machine.command(
    epilog=examples(
        "netagent machine label blue/web tier=front",
        "netagent machine label blue/web tier-",
        "netagent machine label blue/web --replace app=web",
    )
)
@click.argument("machine", metavar="MACHINE")
@click.argument("changes", nargs=-1, metavar="KEY=VALUE|KEY-...")
@click.option("--replace", is_flag=True, help="What is given is the whole new set.")
@click.option("--etag", default="", help="Only if the machine still has this etag.")
@control_options
@click.pass_context
def label(
    ctx: click.Context, machine: str, changes: tuple[str, ...], replace: bool, etag: str
) -> None:
    """Set labels (KEY=VALUE) and take them away (KEY-); others stay, unless --replace."""
    if not changes and not replace:
        raise click.UsageError("Give KEY=VALUE to set or KEY- to take away.")
    wanted = parse_label_changes(changes)
    options = shared(ctx)
    with control_stub(options, MachineServiceStub) as stub:
        labels = apply_label_changes({}, wanted)
        if not replace:
            request = pb.GetMachineRequest(machine=machine)
            found = stub.GetMachine(request, timeout=timeout_s(options)).machine
            labels = apply_label_changes(found.labels, wanted)
            # What we read is what we change: another's change in between must not be lost.
            etag = etag or found.etag
        update = pb.UpdateMachineLabelsRequest(machine=machine, labels=labels, etag=etag)
        changed = stub.UpdateMachineLabels(update, timeout=timeout_s(options)).machine
    _print_machine(changed, is_json=options.is_json)


@machine.command(epilog=examples("netagent machine delete blue/web"))
@click.argument("machine", metavar="MACHINE")
@click.option("--etag", default="", help="Only if the machine still has this etag.")
@control_options
@click.pass_context
def delete(ctx: click.Context, machine: str, etag: str) -> None:
    """Delete a machine; its address is not given out again soon."""
    options = shared(ctx)
    with control_stub(options, MachineServiceStub) as stub:
        request = pb.DeleteMachineRequest(machine=machine, etag=etag)
        stub.DeleteMachine(request, timeout=timeout_s(options))
    if options.is_json:
        print_json({"deleted": machine})
    else:
        click.echo(f"machine {machine} deleted")


def _rows(machines: Iterable[types_pb2.Machine]) -> Iterable[tuple[str, ...]]:
    for each in machines:
        name = f"{each.network}/{each.name}"
        yield name, each.address, each.host, str(each.epoch), format_labels(each.labels)


def _print_machine(found: types_pb2.Machine, *, is_json: bool) -> None:
    view = machine_view(found)
    if is_json:
        print_json(view)
        return
    view["labels"] = format_labels(found.labels)
    view["host"] = found.host
    view["floating_addresses"] = ",".join(found.floating_addresses)
    print_fields({key: str(view[key]) for key in view if key not in ("network", "name")})
