"""`netagent policy apply` and `rollback`: what brings a policy into force."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from netagent.api.control.v1 import policy_service_pb2 as pb
from netagent.api.control.v1.policy_service_pb2_grpc import PolicyServiceStub
from netagent.cli.channel import control_stub, timeout_s
from netagent.cli.failures import ExitCode, Failure
from netagent.cli.host_wait import wait_for_hosts
from netagent.cli.options import Shared, control_options, examples, shared
from netagent.cli.policy_control import naming_networks
from netagent.cli.policy_files import FILE, STDIN_NAME, read_files
from netagent.cli.policy_outcome import (
    APPLY_TIMEOUT_S,
    Outcome,
    explaining_refusal,
    print_outcome,
)
from netagent.policy.reading import try_load


def _apply_options(command: Any) -> Any:
    """Add the options that both commands have."""
    options: tuple[Callable[[Any], Any], ...] = (
        click.option("--dry-run", is_flag=True, help="Check and compare; put nothing in force."),
        click.option(
            "--expect-version",
            "expected",
            type=click.IntRange(min=0),
            metavar="N",
            help="Only if version N is in force now; 0: only if none was ever applied.",
        ),
        click.option("--wait", is_flag=True, help="Wait until all connected hosts enforce it."),
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.command(
    epilog=examples(
        "netagent policy apply shop.yaml --dry-run",
        "netagent policy apply shop.yaml --expect-version 3 --wait",
        "netagent policy apply ops.yaml shop.yaml --wait --timeout 30",
        "netagent policy get shop --version 2 | netagent policy apply -",
    )
)
@click.argument("files", nargs=-1, required=True, type=FILE, metavar="FILE...")
@_apply_options
@control_options
@click.pass_context
def apply(
    ctx: click.Context, files: tuple[Path, ...], dry_run: bool, expected: int | None, wait: bool
) -> None:
    """Put policies into force: checked, tested, and enforced on every host.

    Says what opens and what closes, and which version is in force. `-` is standard input. The same
    text again changes nothing. What is wrong with a file is said as FILE:LINE:COLUMN; it then
    changes nothing at all.

    Several files are applied in the order given, each by itself; the first that fails ends it, and
    those before it stay in force. `netagent policy check` and `diff` look at them together.

    Connections that a new policy forbids are cut. --wait polls the hosts, for --timeout (60 s).

    Exit codes: 1 the policy has errors, fails its tests or does not fit on a host, 2 a file cannot
    be read, 3 control or (with --wait) a host did not answer in time, 4 there is no such network,
    5 another version than --expect-version is in force.
    """
    _check_usage(dry_run=dry_run, wait=wait)
    if expected is not None and len(files) > 1:
        raise click.UsageError("--expect-version is about one policy: give one FILE.")
    options = shared(ctx)
    sources = [(name, _decode(name, content)) for name, content in read_files(files)]
    done: list[str] = []
    revision = 0
    for name, text in sources:
        request = pb.ApplyPolicyRequest(
            text=text, file_name=name, dry_run=dry_run, expected_version=expected
        )
        try:
            found = _apply_one(options, request)
        except Failure as error:
            raise _among_others(error, [each for each, _ in sources], done) from error
        print_outcome(found, is_dry_run=dry_run, is_json=options.is_json)
        done.append(f"{name} (network {found.policy.network}, version {found.policy.version})")
        revision = max(revision, found.revision)
    if wait:
        wait_for_hosts(options, revision, timeout_s(options, APPLY_TIMEOUT_S))


@click.command(
    epilog=examples(
        "netagent policy history shop   # which versions there are",
        "netagent policy rollback shop 2 --dry-run",
        "netagent policy rollback shop 2 --wait",
        "netagent policy rollback shop 0   # to the built-in policy",
    )
)
@click.argument("network")
@click.argument("version", type=click.IntRange(min=0), metavar="VERSION")
@_apply_options
@control_options
@click.pass_context
def rollback(
    ctx: click.Context, network: str, version: int, dry_run: bool, expected: int | None, wait: bool
) -> None:
    """Apply the text of an older version again, as the next version.

    It is checked and tested as any other policy, against the fleet as it is now. Version 0 is the
    built-in policy: machines of the network talk to each other, hosts may reach them.

    Exit codes: as those of `netagent policy apply`, and 4 there is no such network or version.
    """
    _check_usage(dry_run=dry_run, wait=wait)
    options = shared(ctx)
    request = pb.RollbackPolicyRequest(
        network=network, version=version, dry_run=dry_run, expected_version=expected
    )
    with (
        naming_networks(options, network),
        explaining_refusal(f"rollback {network} {version} --dry-run"),
        control_stub(options, PolicyServiceStub) as stub,
    ):
        found = stub.RollbackPolicy(request, timeout=timeout_s(options, APPLY_TIMEOUT_S))
    print_outcome(found, is_dry_run=dry_run, is_json=options.is_json)
    if wait:
        wait_for_hosts(options, found.revision, timeout_s(options, APPLY_TIMEOUT_S))


def _check_usage(*, dry_run: bool, wait: bool) -> None:
    if dry_run and wait:
        raise click.UsageError("--dry-run puts nothing in force that --wait could wait for.")


def _decode(name: str, content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        _, problems = try_load(content, name)
        raise Failure("\n".join(str(each) for each in problems)) from error


def _apply_one(options: Shared, request: pb.ApplyPolicyRequest) -> Outcome:
    name = "-" if request.file_name == STDIN_NAME else request.file_name
    policy, _ = try_load(request.text, name)
    with (
        naming_networks(options, policy.network if policy is not None else ""),
        explaining_refusal(f"diff {name}"),
        control_stub(options, PolicyServiceStub) as stub,
    ):
        return stub.ApplyPolicy(request, timeout=timeout_s(options, APPLY_TIMEOUT_S))


def _among_others(error: Failure, names: Sequence[str], done: Sequence[str]) -> Failure:
    """Return the failure of one of several files, with what became of the others."""
    if len(names) == 1:
        return error
    rest = ", ".join(names[len(done) :])
    lines = [error.message, f"not applied: {rest}"]
    if done:
        lines.append(f"applied before that, and still in force: {', '.join(done)}")
    return Failure("\n".join(lines), ExitCode(error.exit_code))
