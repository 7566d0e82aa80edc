"""Waits until every connected host has applied a revision, and names those that lag."""

from __future__ import annotations

import time
from dataclasses import dataclass

import click

from netagent.api.control.v1 import host_service_pb2 as pb
from netagent.api.control.v1.host_service_pb2_grpc import HostServiceStub
from netagent.api.types.v1 import types_pb2
from netagent.cli.channel import control_stub, read_pages, timeout_s
from netagent.cli.failures import ExitCode, Failure, printable
from netagent.cli.options import Shared
from netagent.cli.output import count_noun, print_json
from netagent.cli.progress import Spinner

POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class Standing:
    """Names of hosts, by how far they are."""

    applied: list[str]
    lagging: list[str]
    away: list[str]


def wait_for_hosts(options: Shared, revision: int, limit_s: float) -> None:
    """Wait, and print how it ended.

    limit_s: longest time, in seconds. Hosts that are not connected are named and not waited for.
    Failure (exit code 3) names the hosts that lag when the time is over.
    """
    began_s = time.monotonic()
    try:
        standing = _poll(options, revision, began_s + limit_s)
    except KeyboardInterrupt:
        message = "interrupted; the policy is in force, and hosts that lag catch up"
        raise Failure(f"{message}; see `netagent host list`", ExitCode.INTERRUPTED) from None
    _report(options, revision, standing, time.monotonic() - began_s)
    if standing.lagging:
        raise Failure(
            f"not applied within {limit_s:g} s by: {', '.join(standing.lagging)}; the policy is in"
            " force and they catch up when they can; `netagent status` there says what is wrong",
            ExitCode.UNREACHABLE,
        )


def stand(hosts: list[types_pb2.Host], revision: int) -> Standing:
    """Return how far hosts are on their way to a revision."""
    connected = [each for each in hosts if each.connected]
    return Standing(
        [each.name for each in connected if each.applied_revision >= revision],
        [each.name for each in connected if each.applied_revision < revision],
        [each.name for each in hosts if not each.connected],
    )


def _poll(options: Shared, revision: int, deadline_s: float) -> Standing:
    """Return where hosts stand once none lags, or at the deadline (monotonic seconds)."""
    with control_stub(options, HostServiceStub) as stub, Spinner() as spinner:
        while True:
            standing = _ask(stub, options, revision)
            if not standing.lagging or time.monotonic() >= deadline_s:
                return standing
            spinner.show(_describe_lag(standing))
            time.sleep(POLL_S)


def _ask(stub: HostServiceStub, options: Shared, revision: int) -> Standing:
    pages = read_pages(
        lambda token: stub.ListHosts(
            pb.ListHostsRequest(page_token=token), timeout=timeout_s(options)
        )
    )
    return stand([each for page in pages for each in page.hosts], revision)


def _describe_lag(standing: Standing) -> str:
    done, rest = len(standing.applied), standing.lagging
    named = ", ".join(rest[:3]) + (f" and {len(rest) - 3} more" if len(rest) > 3 else "")
    return f"{done} of {done + len(rest)} hosts have applied it; waiting for {named}"


def _report(options: Shared, revision: int, standing: Standing, elapsed_s: float) -> None:
    if options.is_json:
        document = {
            "revision": revision,
            "elapsed_s": round(elapsed_s, 3),
            "applied_hosts": standing.applied,
            "lagging_hosts": standing.lagging,
            "away_hosts": standing.away,
        }
        print_json(document, is_line=True)
        return
    count = count_noun(len(standing.applied), "host")
    of = f" of {len(standing.applied) + len(standing.lagging)}" if standing.lagging else ""
    click.echo(f"{elapsed_s:8.3f} s  applied by {count}{of}")
    if standing.away:
        names = printable(", ".join(standing.away))
        click.echo(f"{'':12}not connected: {names} (they catch up when they come back)")
