"""`netagent policy get`, `history` and `list`: what is in force, and what was before."""

from __future__ import annotations

import sys
import time

import click

from netagent.api.control.v1 import policy_service_pb2 as pb
from netagent.api.control.v1.policy_service_pb2_grpc import PolicyServiceStub
from netagent.cli.channel import control_stub, read_pages, timeout_s
from netagent.cli.failures import printable
from netagent.cli.options import control_options, examples, shared
from netagent.cli.output import format_age, print_json, print_table
from netagent.cli.policy_control import naming_networks
from netagent.cli.views import policy_view


@click.command(
    epilog=examples(
        "netagent policy get shop > shop.yaml",
        "netagent policy get shop --version 2 | netagent policy apply -",
    )
)
@click.argument("network")
@click.option(
    "--version",
    type=click.IntRange(min=1),
    metavar="N",
    help="An older version; otherwise the one in force.",
)
@control_options
@click.pass_context
def get(ctx: click.Context, network: str, version: int | None) -> None:
    """Print the text of a network's policy, as it was applied.

    A network on which none was applied has the built-in policy, which has no text (exit code 4).
    """
    options = shared(ctx)
    request = pb.GetPolicyRequest(network=network, version=version)
    with naming_networks(options, network), control_stub(options, PolicyServiceStub) as stub:
        found = stub.GetPolicy(request, timeout=timeout_s(options)).policy
    if options.is_json:
        print_json({**policy_view(found), "text": found.text})
        return
    if not found.text:
        note = f"network {network}: version {found.version} is the built-in policy"
        click.echo(printable(f"{note}, which has no text"), err=True)
    click.echo(_shown(found.text), nl=False)


@click.command(epilog=examples("netagent policy history shop"))
@click.argument("network")
@control_options
@click.pass_context
def history(ctx: click.Context, network: str) -> None:
    """List the versions of a network's policy, the newest, which is in force, first.

    The latest 100 are kept.
    """
    options = shared(ctx)
    request = pb.ListPolicyVersionsRequest(network=network)
    with naming_networks(options, network), control_stub(options, PolicyServiceStub) as stub:
        found = stub.ListPolicyVersions(request, timeout=timeout_s(options)).policies
    if options.is_json:
        print_json({"network": network, "versions": [policy_view(each) for each in found]})
        return
    if not found:
        click.echo(f"network {printable(network)} has the built-in policy; none was applied yet")
        return
    rows = [
        (str(each.version), _age(each), "in force" if each is found[0] else "", _origin(each))
        for each in found
    ]
    print_table(("VERSION", "APPLIED", "STATE", "TEXT OF"), rows)


@click.command("list", epilog=examples("netagent policy list", "netagent policy list -o json"))
@control_options
@click.pass_context
def list_policies(ctx: click.Context) -> None:
    """List the policies in force by network; other networks have the built-in one."""
    options = shared(ctx)
    with control_stub(options, PolicyServiceStub) as stub:
        pages = read_pages(
            lambda token: stub.ListPolicies(
                pb.ListPoliciesRequest(page_token=token), timeout=timeout_s(options)
            )
        )
        found = [each for page in pages for each in page.policies]
    if options.is_json:
        print_json({"policies": [policy_view(each) for each in found]})
        return
    rows = [(each.network, str(each.version), _age(each), _origin(each)) for each in found]
    print_table(("NETWORK", "VERSION", "APPLIED", "TEXT OF"), rows)


def _shown(text: str) -> str:
    """Return the text as it is; for a terminal, so that it cannot steer that."""
    if not sys.stdout.isatty():
        return text
    return "".join(f"{printable(line)}\n" for line in text.splitlines())


def _age(policy: pb.Policy) -> str:
    return f"{format_age(time.time() - policy.applied_at.ToMilliseconds() / 1000)} ago"


def _origin(policy: pb.Policy) -> str:
    if not policy.HasField("rolled_back_to"):
        return ""
    origin = policy.rolled_back_to
    return f"version {origin}" if origin else "built-in"
