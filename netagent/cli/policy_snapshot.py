"""`netagent policy snapshot`: the fleet that control has, as a file that `--fleet` reads."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv6Network

import click

from netagent.api.types.v1 import types_pb2
from netagent.cli.failures import Failure
from netagent.cli.options import Shared, control_options, examples, shared
from netagent.cli.output import print_json
from netagent.cli.policy_control import read_machines, read_networks, read_prefix
from netagent.policy.document import MAX_BYTES

Machines = dict[str, dict[str, dict[str, str]]]
"""Network to machine to labels; every level sorted."""


@click.command(
    epilog=examples(
        "netagent policy snapshot > fleet.yaml",
        "netagent policy check shop.yaml --fleet <(netagent policy snapshot)",
    )
)
@control_options
@click.pass_context
def snapshot(ctx: click.Context) -> None:
    """Print the fleet's prefix, networks, machines and labels, as `--fleet` reads them.

    Nothing is printed before all of it is there. With --output json the same is printed as JSON,
    which --fleet reads as well. The prefix is left out while there is neither host nor machine.
    """
    options = shared(ctx)
    prefix, machines = _read_fleet(options)
    if options.is_json:
        head = {} if prefix is None else {"prefix": str(prefix)}
        print_json({**head, "networks": machines})
        return
    text = format_fleet(prefix, machines)
    if len(text.encode()) > MAX_BYTES:
        raise Failure(
            f"the fleet needs {len(text):,} bytes, more than --fleet reads, {MAX_BYTES:,}"
        )
    click.echo(text, nl=False)


def _read_fleet(options: Shared) -> tuple[IPv6Network | None, Machines]:
    prefix = read_prefix(options)
    networks = [each.name for each in read_networks(options)]
    return prefix, _sort(networks, read_machines(options))


def _sort(networks: Iterable[str], machines: Iterable[types_pb2.Machine]) -> Machines:
    # A network may have been made between the two lists; its machine brings it along.
    found: Machines = {name: {} for name in networks}
    for machine in machines:
        labels = dict(sorted(machine.labels.items()))
        found.setdefault(machine.network, {})[machine.name] = labels
    return {network: dict(sorted(found[network].items())) for network in sorted(found)}


def format_fleet(prefix: IPv6Network | None, machines: Machines) -> str:
    """Return a fleet file: one line for each machine.

    Names and labels are those that control accepts, so that only what YAML takes for nothing needs
    quotes.
    """
    lines = [] if prefix is None else [f"prefix: {prefix}"]
    lines.append("networks:" if machines else "networks: {}")
    for network, members in machines.items():
        lines.append(f"  {network}:" if members else f"  {network}: {{}}")
        for name, labels in members.items():
            pairs = (f"{key}: {_quoted(value)}" for key, value in labels.items())
            lines.append(f"    {name}: {{{', '.join(pairs)}}}")
    return "\n".join(lines) + "\n"


def _quoted(value: str) -> str:
    return f'"{value}"' if value.lower() in ("", "null") else value
