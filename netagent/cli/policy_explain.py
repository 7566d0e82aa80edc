"""`netagent policy explain`: the verdict at each end about one packet, and who decided."""

from __future__ import annotations

from pathlib import Path

import click

from netagent.cli.failures import ExitCode, Failure
from netagent.cli.options import Shared, control_options, examples, shared
from netagent.cli.output import print_json
from netagent.cli.policy_files import FILE, fleet_option, load_fleet, load_policies
from netagent.model.errors import InvalidError
from netagent.policy.book import Rulebook, make_rulebook
from netagent.policy.explain import Explanation, Opinion
from netagent.policy.explain import explain as explain_packet
from netagent.policy.fleet import FleetSnapshot
from netagent.policy.language import Party
from netagent.policy.nodes import nearest
from netagent.policy.schema import parse_party
from netagent.policy.traffic import ICMP6, TrafficTextError, format_point, parse_traffic


@click.command(
    epilog=examples(
        "netagent policy explain shop/web-1 shop/db-1 tcp/5432",
        "netagent policy explain 2600::1 web-1 tcp/443",
        "netagent policy explain web-1 host icmp6/echo",
        "netagent policy explain web-1 db-1 tcp/5432 --policy shop-next.yaml",
        "netagent policy explain web-1 db-1 tcp/5432 --policy shop.yaml --fleet fleet.yaml",
    )
)
@click.argument("source", metavar="FROM")
@click.argument("destination", metavar="TO")
@click.argument("traffic", metavar="PROTO/PORT")
@click.option(
    "--policy",
    "files",
    multiple=True,
    type=FILE,
    metavar="FILE",
    help="As if this policy were in force; may be repeated, for other networks.",
)
@fleet_option
@control_options
@click.pass_context
def explain(
    ctx: click.Context,
    source: str,
    destination: str,
    traffic: str,
    files: tuple[Path, ...],
    fleet_file: Path | None,
) -> None:
    """Say what each end decides about the first packet of a flow, and by which rule.

    FROM and TO are machines (NETWORK/NAME, or NAME while only one network has it), `host`, or IPv6
    addresses outside the fleet. PROTO/PORT is tcp/443, udp/53, sctp/3868 or icmp6/echo.

    Without files, the hosts of both ends are asked what their kernels hold now; an end that does
    not answer is said to. With --policy nobody is asked: it is what the machines of control and
    the policies in force there would give with these files in their place. With --fleet too, only
    files are read, and a network without one has the built-in policy. A file has version 0.

    Exit codes: 0 whatever the verdict, 1 a file has errors or a machine is on no host, 2 a file
    cannot be read or an argument is wrong, 3 control cannot be reached, or the verdict hangs on an
    end that did not answer, 4 there is no such machine.
    """
    point = _parse_point(traffic)
    options = shared(ctx)
    if not files:
        if fleet_file is not None:
            raise click.UsageError("--fleet is for files: give --policy too.")
        from netagent.cli.policy_explain_live import explain_live

        explain_live(options, source, destination, format_point(*point))
        return
    book = _read_book(options, files, fleet_file)
    ends = _find_party(source, "FROM", book.fleet), _find_party(destination, "TO", book.fleet)
    found = explain_packet(book, *ends, *point)
    if options.is_json:
        print_json(_view(found))
    else:
        click.echo("\n".join(found.lines()))


def _read_book(options: Shared, files: tuple[Path, ...], fleet_file: Path | None) -> Rulebook:
    if fleet_file is not None:
        fleet = load_fleet(fleet_file)
        return make_rulebook(load_policies(files, fleet), fleet)
    from netagent.cli.policy_control import read_in_force

    found = read_in_force(options)
    given = load_policies(files, found.fleet)
    ours = {one.network for one in given}
    versions = {name: number for name, number in found.versions.items() if name not in ours}
    return make_rulebook(found.replaced_by(given), found.fleet, versions)


def _parse_point(text: str) -> tuple[int, int]:
    """Return protocol and port (ICMPv6: `type << 8`) of one packet; click.BadParameter."""
    hint = "PROTO/PORT"
    try:
        items = parse_traffic(text)
    except TrafficTextError as error:
        problem = f"{error.message}; {error.hint}" if error.hint else error.message
        raise click.BadParameter(problem, param_hint=hint) from error
    item = items[0]
    last = item.first | 0xFF if item.protocol == ICMP6 else item.first
    if len(items) > 1 or item.protocol is None or item.last != last:
        raise click.BadParameter(
            f"{text!r} is more than one packet; name one, as tcp/443 or icmp6/echo",
            param_hint=hint,
        )
    return item.protocol, item.first


def _find_party(text: str, what: str, fleet: FleetSnapshot) -> Party:
    """Return who is meant; click.BadParameter, or Failure for a machine that is not there."""
    # `host` is the hosts' own, also where a machine is called so: that one is NETWORK/host.
    owners = [one.network for one in fleet.members.values() if one.name == text and text != "host"]
    if len(owners) > 1:
        paths = ", ".join(f"{network}/{text}" for network in sorted(owners))
        raise click.BadParameter(f"{text!r} may be {paths}; name one of them", param_hint=what)
    try:
        party = parse_party(text, owners[0] if owners else "")
    except (InvalidError, ValueError) as error:
        raise click.BadParameter(
            f"{text!r} is neither a machine, nor host, nor an IPv6 address: {error}",
            param_hint=what,
        ) from error
    if party.address is not None and fleet.prefix is not None and party.address in fleet.prefix:
        raise click.BadParameter(
            f"{text} is within the fleet's prefix {fleet.prefix}; name the machine, or write host",
            param_hint=what,
        )
    if party.machine is not None and party.machine not in fleet.members:
        path = party.machine.lstrip("/")
        near = nearest(path, (*fleet.members, *(one.name for one in fleet.members.values())))
        message = f"{what}: the fleet has no machine {path}"
        raise Failure(f"{message}; {near}" if near else message, ExitCode.NOT_FOUND)
    return party


def _view(found: Explanation) -> dict[str, object]:
    return {
        "from": str(found.source),
        "to": str(found.destination),
        "traffic": format_point(found.protocol, found.port),
        "verdict": found.verdict.name.lower(),
        "opinions": [opinion_view(one) for one in found.opinions],
    }


def opinion_view(opinion: Opinion, host: str | None = None) -> dict[str, object]:
    """Return the document of what one end says. host: that was asked; None when none was."""
    decision = opinion.decision
    return {
        "at": opinion.at,
        "host": host,
        "network": opinion.network or None,
        "version": opinion.version,
        "verdict": decision.verdict.name.lower(),
        "rule": decision.rule,
        "audited": decision.is_audited,
        "audit_rule": decision.audit_rule,
        "problem": None,
    }
