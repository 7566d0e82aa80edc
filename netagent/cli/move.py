"""`netagent move` and `netagent moves`: moving a machine's address, and reading moves."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import click

from netagent.api.control.v1 import move_service_pb2 as pb
from netagent.api.control.v1.move_service_pb2_grpc import MoveServiceStub
from netagent.api.types.v1 import types_pb2
from netagent.cli.channel import control_stub, read_pages, timeout_s
from netagent.cli.moving import COMMITTED, READY, SETTLED, follow_move
from netagent.cli.options import Shared, control_options, examples, shared
from netagent.cli.output import print_fields, print_json, print_table
from netagent.cli.progress import PhaseProgress
from netagent.cli.views import move_view

MOVE_TIMEOUT_S = 60.0
READY_BOUND_S = 3600.0

TRIGGERS = {
    "at-once": types_pb2.MOVE_TRIGGER_AT_ONCE,
    "call": types_pb2.MOVE_TRIGGER_CALL,
    "life": types_pb2.MOVE_TRIGGER_LIFE,
}
PHASES = {"ready": READY, "committed": COMMITTED, "settled": SETTLED}


@click.command(
    epilog=examples(
        "netagent move blue/web --to b",
        "netagent move blue/web --to b --hook ./migrate   # the hook moves the machine itself",
        "netagent move blue/web --to b --on call --wait ready",
        "netagent move blue/web --to b --force            # host a is dead",
        "netagent move blue/web --to b --output json      # one JSON document a phase",
    )
)
@click.argument("machine", metavar="MACHINE")
@click.option("--to", "destination", required=True, metavar="HOST", help="Where it moves to.")
@click.option(
    "--on",
    "trigger",
    type=click.Choice(list(TRIGGERS)),
    help="What commits the move once all is prepared: nothing more (default), a call (`netagent"
    " moves commit`; default with --hook), or life on its interface at the destination.",
)
@click.option(
    "--hook",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Executable that moves the machine itself, run when all is prepared; see docs/moves.md.",
)
@click.option(
    "--wait",
    "until",
    type=click.Choice(list(PHASES)),
    default="settled",
    show_default=True,
    help="Return once the move is there; settled: every live host has applied it.",
)
@click.option(
    "--ready-bound",
    "ready_bound_s",
    type=click.FloatRange(min=1),
    default=READY_BOUND_S,
    show_default=True,
    metavar="SECONDS",
    help="How long it waits for call or life before it is undone.",
)
@click.option(
    "--force", is_flag=True, help="The source host is dead: neither wait for nor trust it."
)
@click.option(
    "--source-is-dead",
    is_flag=True,
    help="With --force: the machine does not run there, although that host's agent is connected.",
)
@click.option("--etag", default="", help="Only if the machine still has this etag.")
@control_options
@click.pass_context
def move(
    ctx: click.Context,
    machine: str,
    destination: str,
    trigger: str | None,
    hook: Path | None,
    until: str,
    ready_bound_s: float,
    force: bool,
    source_is_dead: bool,
    etag: str,
) -> None:
    """Move a machine's address to another host, and wait until the move has settled.

    The machine keeps its address and its open connections. Attach it on the other host first. The
    move goes on when this command is interrupted.
    """
    if hook is not None and (trigger == "at-once" or until == "ready"):
        raise click.UsageError(
            "--hook runs between ready and committed: not with --on at-once or --wait ready"
        )
    options = shared(ctx)
    request = pb.MoveAddressRequest(
        machine=machine,
        destination=destination,
        etag=etag,
        trigger=TRIGGERS[trigger or ("call" if hook is not None else "at-once")],
        force=force,
        source_is_dead=source_is_dead,
    )
    request.ready_bound.FromTimedelta(timedelta(seconds=ready_bound_s))
    has_trigger = request.trigger != types_pb2.MOVE_TRIGGER_AT_ONCE
    limit_s = timeout_s(options, MOVE_TIMEOUT_S + (ready_bound_s if has_trigger else 0))
    with control_stub(options, MoveServiceStub) as stub, PhaseProgress() as progress:

        def show(response: pb.MoveAddressResponse) -> None:
            if options.is_json:
                print_json(_progress_view(response), is_line=True)
                return
            elapsed_s = response.elapsed.ToTimedelta().total_seconds()
            progress.report(move_view(response.move), elapsed_s, list(response.lagging_hosts))

        follow_move(
            stub,
            stub.MoveAddress(request, timeout=limit_s),
            until=PHASES[until],
            hook=hook,
            limit_s=limit_s,
            call_timeout_s=timeout_s(options),
            on_phase=show,
        )


@click.group()
def moves() -> None:
    """List and show moves, under way and past."""


@moves.command(epilog=examples("netagent moves get 0193f0c2a51-9be01d77"))
@click.argument("move_id", metavar="ID")
@control_options
@click.pass_context
def get(ctx: click.Context, move_id: str) -> None:
    """Show one move; ended moves are kept for a while."""
    options = shared(ctx)
    with control_stub(options, MoveServiceStub) as stub:
        request = pb.GetMoveRequest(move_id=move_id)
        _print_move(stub.GetMove(request, timeout=timeout_s(options)).move, options)


@moves.command(epilog=examples("netagent moves commit 0193f0c2a51-9be01d77"))
@click.argument("move_id", metavar="ID")
@control_options
@click.pass_context
def commit(ctx: click.Context, move_id: str) -> None:
    """Say that the machine is at its destination; return once the move has committed.

    May come early: the move then commits as soon as all is prepared, also when this command is
    interrupted.
    """
    options = shared(ctx)
    with control_stub(options, MoveServiceStub) as stub:
        request = pb.CommitMoveRequest(move_id=move_id)
        _print_move(stub.CommitMove(request, timeout=timeout_s(options)).move, options)


@moves.command(epilog=examples("netagent moves abort 0193f0c2a51-9be01d77 --reason 'not today'"))
@click.argument("move_id", metavar="ID")
@click.option("--reason", default="", help="For people.")
@control_options
@click.pass_context
def abort(ctx: click.Context, move_id: str, reason: str) -> None:
    """Undo a move that has not committed: the machine stays where it is, undisturbed."""
    options = shared(ctx)
    with control_stub(options, MoveServiceStub) as stub:
        request = pb.AbortMoveRequest(move_id=move_id, reason=reason)
        _print_move(stub.AbortMove(request, timeout=timeout_s(options)).move, options)


@moves.command(
    "list", epilog=examples("netagent moves list --active", "netagent moves list --machine web")
)
@click.option("--machine", default="", metavar="MACHINE", help="Only moves of this machine.")
@click.option("--active", is_flag=True, help="Only moves that have not ended.")
@control_options
@click.pass_context
def list_moves(ctx: click.Context, machine: str, active: bool) -> None:
    """List moves, the newest first."""
    options = shared(ctx)
    with control_stub(options, MoveServiceStub) as stub:
        pages = read_pages(
            lambda token: stub.ListMoves(
                pb.ListMovesRequest(page_token=token, machine=machine, active_only=active),
                timeout=timeout_s(options),
            )
        )
        views = [move_view(each) for page in pages for each in page.moves]
    if options.is_json:
        print_json({"moves": views})
        return
    print_table(
        ("ID", "MACHINE", "FROM", "TO", "EPOCH", "PHASE"),
        [
            tuple(
                str(view[key] or "")
                for key in ("move_id", "machine", "source", "destination", "epoch", "phase")
            )
            for view in views
        ],
    )


def _progress_view(response: pb.MoveAddressResponse) -> dict[str, object]:
    return {
        **move_view(response.move),
        "elapsed_s": response.elapsed.ToTimedelta().total_seconds(),
        "lagging_hosts": list(response.lagging_hosts),
    }


def _print_move(found: types_pb2.Move, options: Shared) -> None:
    view = move_view(found)
    if options.is_json:
        print_json(view)
        return
    view["forced"] = "yes" if found.forced else ""
    view["called"] = "yes" if found.called else ""
    view["warnings"] = "; ".join(found.warnings)
    if found.HasField("carried_connections"):
        view["carried_connections"] = str(found.carried_connections)
    print_fields({key: str(value or "") for key, value in view.items()})
