"""`netagent host drain`: empties a host, a bounded number of moves at a time.

Nothing is remembered between two runs: where the machines are is the progress. Run again, it goes
on with the moves that have begun and plans the rest.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import click

from netagent.api.control.v1 import move_service_pb2 as pb
from netagent.api.control.v1.move_service_pb2_grpc import MoveServiceStub
from netagent.cli.channel import control_stub, timeout_s
from netagent.cli.drain_run import DrainRun, Job
from netagent.cli.failures import Failure
from netagent.cli.labels import parse_labels
from netagent.cli.move import MOVE_TIMEOUT_S, READY_BOUND_S, TRIGGERS
from netagent.cli.options import Shared, control_options, examples, shared
from netagent.cli.output import print_json, print_table

PARALLEL = 8
PARALLEL_MAX = 256


@click.command(
    epilog=examples(
        "netagent host drain a --dry-run",
        "netagent host drain a --hook ./migrate --parallel 4",
        "netagent host drain a --to b --to c --capacity 200 --keep-apart app",
    )
)
@click.argument("name")
@click.option(
    "--to",
    "destinations",
    multiple=True,
    metavar="HOST",
    help="A host to move to; may be repeated. Any connected one otherwise.",
)
@click.option(
    "--parallel",
    type=click.IntRange(1, PARALLEL_MAX),
    default=PARALLEL,
    show_default=True,
    help="How many machines move at a time.",
)
@click.option(
    "--capacity",
    type=click.IntRange(min=1),
    metavar="MACHINES",
    help="Most machines of one host; without, any number.",
)
@click.option(
    "--select",
    multiple=True,
    metavar="KEY=VALUE",
    help="Only machines with this label; repeatable.",
)
@click.option(
    "--keep-apart",
    multiple=True,
    metavar="KEY",
    help="Machines of a network with the same value of this label go to different hosts;"
    " repeatable.",
)
@click.option(
    "--hook",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Executable that moves a machine itself; see docs/moves.md. Without, moves commit at"
    " once.",
)
@click.option(
    "--on",
    "trigger",
    type=click.Choice(["call", "life"]),
    default="call",
    show_default=True,
    help="With --hook: what commits a move besides the hook's success.",
)
@click.option(
    "--ready-bound",
    "ready_bound_s",
    type=click.FloatRange(min=1),
    default=READY_BOUND_S,
    show_default=True,
    metavar="SECONDS",
    help="How long one move may wait for its hook before it is undone.",
)
@click.option("--keep-going", is_flag=True, help="Begin further moves after one has failed.")
@click.option("--dry-run", is_flag=True, help="Print the plan and change nothing.")
@control_options
@click.pass_context
def drain(
    ctx: click.Context,
    name: str,
    destinations: tuple[str, ...],
    parallel: int,
    capacity: int | None,
    select: tuple[str, ...],
    keep_apart: tuple[str, ...],
    hook: Path | None,
    trigger: str,
    ready_bound_s: float,
    keep_going: bool,
    dry_run: bool,
) -> None:
    """Move all machines of a host to others, some at a time.

    Stops at the first failure: moves that have begun are finished, no more begin. Run it again to
    go on. Attach the machines on their new hosts first, or have the hook do it.
    """
    options = shared(ctx)
    request = pb.PlanDrainRequest(
        host=name,
        destinations=destinations,
        capacity=capacity or 0,
        select=parse_labels(select, "--select"),
        keep_apart=keep_apart,
    )
    with control_stub(options, MoveServiceStub) as stub:
        plan = stub.PlanDrain(request, timeout=timeout_s(options))
        if dry_run:
            _print_plan(plan, options)
            return
        wish = pb.MoveAddressRequest(trigger=TRIGGERS[trigger if hook is not None else "at-once"])
        wish.ready_bound.FromTimedelta(timedelta(seconds=ready_bound_s))
        wait_s = MOVE_TIMEOUT_S + (ready_bound_s if hook is not None else 0)
        run = DrainRun(
            stub,
            wish,
            hook,
            limit_s=timeout_s(options, wait_s),
            call_timeout_s=timeout_s(options),
            is_json=options.is_json,
        )
        jobs = [Job(move.machine, move.destination, move.move_id) for move in plan.under_way]
        jobs += [Job(each.machine, each.destination) for each in plan.assignments]
        failures = run.drain(jobs, parallel, keep_going=keep_going)
    failures += [f"{each.machine} has no place: {each.reason}" for each in plan.unplaced]
    _end(name, jobs, run.moved, failures, options)


def _end(name: str, jobs: list[Job], moved: int, failures: list[str], options: Shared) -> None:
    if not options.is_json:
        click.echo(f"{moved} of {len(jobs)} machines have moved from {name}")
    if failures:
        left = len(jobs) - moved
        again = [f"{left} machines are left; run the same command again to go on"] if left else []
        raise Failure("\n".join([*failures, *again]))


def _print_plan(plan: pb.PlanDrainResponse, options: Shared) -> None:
    if options.is_json:
        print_json(
            {
                "assignments": [
                    {"machine": each.machine, "destination": each.destination}
                    for each in plan.assignments
                ],
                "unplaced": [
                    {"machine": each.machine, "reason": each.reason} for each in plan.unplaced
                ],
                "under_way": [move.move_id for move in plan.under_way],
            }
        )
        return
    rows = [(move.machine, move.destination, f"on move {move.move_id}") for move in plan.under_way]
    rows += [(each.machine, each.destination, "") for each in plan.assignments]
    rows += [(each.machine, "", each.reason) for each in plan.unplaced]
    print_table(("MACHINE", "TO", "NOTE"), rows)
