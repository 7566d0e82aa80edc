"""`netagent policy check`: everything that is wrong with policy files, and their tests."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import click

from netagent.cli.failures import ExitCode, printable
from netagent.cli.options import examples, offline_options, shared
from netagent.cli.output import print_json
from netagent.cli.policy_files import FILE, fleet_option, read_files
from netagent.model.errors import PolicyError, Problem
from netagent.policy.check import Report, check_files
from netagent.policy.fleet_file import parse_fleet


@click.command(
    epilog=examples(
        "netagent policy check shop.yaml",
        "netagent policy check shop.yaml ops.yaml --fleet fleet.yaml",
        "netagent policy check shop.yaml --fleet <(netagent policy snapshot) --output json",
    )
)
@click.argument("files", nargs=-1, required=True, type=FILE, metavar="FILE...")
@fleet_option(required=False)
@offline_options
@click.pass_context
def check(ctx: click.Context, files: tuple[Path, ...], fleet_file: Path | None) -> None:
    """Check policy files, one network a file, and run their tests.

    Every error and warning is printed as FILE:LINE:COLUMN. Without --fleet only the words are
    checked: names, warnings about selectors, tests and figures need a fleet. A network of the fleet
    that is not among the files has the built-in policy.

    Works offline. This release checks policies and does not enforce them yet.

    Exit codes: 0 all is well (warnings may be there), 1 an error or a test that fails, 2 a file
    that cannot be read.
    """
    report = _check(files, fleet_file)
    if shared(ctx).is_json:
        print_json(_view(report))
    else:
        for line in _lines(report, has_fleet=fleet_file is not None):
            click.echo(printable(line))
    if not report.is_good:
        ctx.exit(ExitCode.FAILED)


def _check(files: tuple[Path, ...], fleet_file: Path | None) -> Report:
    paths = files if fleet_file is None else (*files, fleet_file)
    sources = read_files(paths)
    if fleet_file is None:
        return check_files(sources)
    name, content = sources.pop()
    try:
        fleet = parse_fleet(content, name)
    except PolicyError as error:
        # The words can be checked all the same, so that one run says all there is.
        report = check_files(sources)
        problems = tuple(sorted([*report.problems, *error.problems]))
        return replace(report, problems=problems)
    return check_files(sources, fleet)


def _lines(report: Report, *, has_fleet: bool) -> list[str]:
    found = [(one, str(one)) for one in report.problems]
    found += [
        (one, str(replace(one, message=f"warning: {one.message}"))) for one in report.warnings
    ]
    lines = [text for _, text in sorted(found)]
    if not report.is_good:
        errors, warnings = len(report.problems), len(report.warnings)
        return [*lines, f"{_count(errors, 'error')}, {_count(warnings, 'warning')}"]
    rules = sum(len(policy.rules) for policy in report.policies)
    tests = f"{_count(report.cases, 'test')} passed" if has_fleet else "no test was run"
    lines.append(f"good: {', '.join(policy.network for policy in report.policies)}")
    lines.append(f"{_count(rules, 'rule')}, {tests}, {_count(len(report.warnings), 'warning')}")
    if report.usage is not None:
        lines.append(f"needs in the kernel: {report.usage.describe()}")
    if not has_fleet:
        lines.append("names and tests are checked when --fleet is given")
    return lines


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


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
