"""`netagent policy check`: everything that is wrong with policy files, and their tests."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import click

from netagent.cli.failures import ExitCode, Failure, printable
from netagent.cli.options import CONTROL_DEFAULT, Shared, control_options, examples, shared
from netagent.cli.output import count_noun, print_json
from netagent.cli.policy_files import FILE, fleet_option, read_files
from netagent.model.errors import PolicyError, Problem
from netagent.policy.capacity import LIMITS, UNLIMITED, Usage
from netagent.policy.check import Report, check_files
from netagent.policy.fleet import FleetSnapshot
from netagent.policy.fleet_file import parse_fleet
from netagent.policy.language import Policy


@dataclass(frozen=True, slots=True)
class _Basis:
    """What the files are checked against.

    against: `control`, `fleet` (a file), or empty for the words alone; why: then, why not more.
    """

    against: str
    fleet: FleetSnapshot | None = None
    others: tuple[Policy, ...] = ()
    limits: Usage = LIMITS
    why: str = ""
    problems: tuple[Problem, ...] = ()


@click.command(
    epilog=examples(
        "netagent policy check shop.yaml",
        "netagent policy check shop.yaml ops.yaml --fleet fleet.yaml",
        "netagent policy check - --output json < shop.yaml",
    )
)
@click.argument("files", nargs=-1, required=True, type=FILE, metavar="FILE...")
@fleet_option
@control_options
@click.pass_context
def check(ctx: click.Context, files: tuple[Path, ...], fleet_file: Path | None) -> None:
    """Check policy files, one network a file, and run their tests. Changes nothing.

    Every error and warning is printed as FILE:LINE:COLUMN. The files are checked together, against
    the machines that control has and the policies in force there for other networks.

    With --fleet nothing but files is read: a network that is not among them has the built-in
    policy. Where no control is named (--control, NETAGENT_CONTROL) and none is at the default
    place, only the words are checked, and the last line says so.

    Exit codes: 0 all is well (warnings may be there), 1 an error or a test that fails, 2 a file
    that cannot be read, 3 the control that is named cannot be reached.
    """
    options = shared(ctx)
    paths = files if fleet_file is None else (*files, fleet_file)
    sources = read_files(paths)
    basis = _ask_control(options) if fleet_file is None else _read_fleet(*sources.pop())
    report = check_files(sources, basis.fleet, basis.others, basis.limits)
    if basis.problems:
        report = replace(report, problems=tuple(sorted([*report.problems, *basis.problems])))
    if options.is_json:
        print_json({**_view(report), "checked_against": basis.against or None})
    else:
        for line in _lines(report, basis):
            click.echo(printable(line))
    if not report.is_good:
        ctx.exit(ExitCode.FAILED)


def _read_fleet(name: str, content: bytes) -> _Basis:
    try:
        return _Basis("fleet", parse_fleet(content, name))
    except PolicyError as error:
        # The words can be checked all the same, so that one run says all there is.
        return _Basis("", problems=error.problems)


def _ask_control(options: Shared) -> _Basis:
    from netagent.cli.policy_control import read_in_force

    try:
        found = read_in_force(options)
    except Failure as error:
        is_named = options.control != CONTROL_DEFAULT
        if is_named or error.exit_code != ExitCode.UNREACHABLE:
            raise
        return _Basis("", why=error.message.partition(";")[0])
    # No single host needs the policies of the whole fleet: control counts for each host.
    return _Basis("control", found.fleet, found.policies, UNLIMITED)


def _lines(report: Report, basis: _Basis) -> Iterable[str]:
    found = [(one, str(one)) for one in report.problems]
    found += [
        (one, str(replace(one, message=f"warning: {one.message}"))) for one in report.warnings
    ]
    yield from (text for _, text in sorted(found))
    errors, warnings = len(report.problems), count_noun(len(report.warnings), "warning")
    if not report.is_good:
        yield f"{count_noun(errors, 'error')}, {warnings}"
    else:
        rules = sum(len(policy.rules) for policy in report.policies)
        tests = f"{count_noun(report.cases, 'test')} passed" if basis.fleet else "no test was run"
        yield f"good: {', '.join(policy.network for policy in report.policies)}"
        yield f"{count_noun(rules, 'rule')}, {tests}, {warnings}"
        if report.usage is not None:
            beside = ", with the policies in force" if basis.against == "control" else ""
            yield f"needs in the kernel{beside}: {report.usage.describe()}"
    if basis.why:
        yield f"names and tests are not checked, {basis.why}; --fleet FILE does without control"


def _view(report: Report) -> dict[str, object]:
    return {
        "good": report.is_good,
        "problems": [_problem_view(one) for one in report.problems],
        "warnings": [_problem_view(one) for one in report.warnings],
        "policies": [
            {"network": one.network, "rules": len(one.rules), "tests": len(one.cases)}
            for one in report.policies
        ],
        "tests_run": report.cases,
        "usage": None if report.usage is None else asdict(report.usage),
    }


def _problem_view(problem: Problem) -> dict[str, object]:
    return {
        "file": problem.span.file,
        "line": problem.span.line,
        "column": problem.span.column,
        "message": problem.message,
        "hint": problem.hint or None,
    }
