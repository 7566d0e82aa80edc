"""`netagent move` and `netagent moves`: moving a machine's address, and reading moves."""

from __future__ import annotations

import click
import grpc

from netagent.api.control.v1 import move_service_pb2 as pb
from netagent.api.control.v1.move_service_pb2_grpc import MoveServiceStub
from netagent.api.types.v1 import types_pb2
from netagent.cli.channel import control_stub, is_of_deadline, read_pages, timeout_s
from netagent.cli.failures import ExitCode, Failure
from netagent.cli.options import control_options, examples, shared
from netagent.cli.output import print_fields, print_json, print_table
from netagent.cli.progress import PhaseProgress
from netagent.cli.views import move_view

MOVE_TIMEOUT_S = 60.0


@click.command(
    epilog=examples(
        "netagent move blue/web --to b",
        "netagent move blue/web --to b --output json   # one JSON document a phase",
    )
)
@click.argument("machine", metavar="MACHINE")
@click.option("--to", "destination", required=True, metavar="HOST", help="Where it moves to.")
@click.option("--etag", default="", help="Only if the machine still has this etag.")
@control_options
@click.pass_context
def move(ctx: click.Context, machine: str, destination: str, etag: str) -> None:
    """Move a machine's address to another host, and wait until the move has settled.

    The machine keeps its address and its open connections. Attach it on the other host first. The
    move goes on when this command is interrupted.
    """
    options = shared(ctx)
    request = pb.MoveAddressRequest(machine=machine, destination=destination, etag=etag)
    limit_s = timeout_s(options, MOVE_TIMEOUT_S)
    latest: types_pb2.Move | None = None
    with control_stub(options, MoveServiceStub) as stub, PhaseProgress() as progress:
        responses = stub.MoveAddress(request, timeout=limit_s)
        try:
            for response in responses:
                latest = response.move
                if options.is_json:
                    print_json(_progress_view(response), is_line=True)
                else:
                    progress.report(
                        move_view(latest),
                        response.elapsed.ToTimedelta().total_seconds(),
                        list(response.lagging_hosts),
                    )
        except KeyboardInterrupt:
            responses.cancel()
            message = f"interrupted; {_how_to_follow(latest)}"
            raise Failure(message, ExitCode.INTERRUPTED) from None
        except grpc.RpcError as error:
            is_late = is_of_deadline(error)
            if latest is None and not is_late:
                raise
            problem = f"not done within {limit_s:g} s" if is_late else "lost sight of the move"
            message = f"{problem}; {_how_to_follow(latest)}"
            raise Failure(message, ExitCode.UNREACHABLE) from error
    if latest is None:
        raise Failure("control ended the stream before the first phase; look at its log")
    if latest.phase == types_pb2.MOVE_PHASE_ABORTED:
        where = f"at {latest.source}" if latest.source else "without a host"
        raise Failure(f"move {latest.move_id} was aborted; {latest.machine} is {where}")
    if latest.phase != types_pb2.MOVE_PHASE_SETTLED:
        raise Failure(f"control ended the stream early; {_how_to_follow(latest)}")


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
        found = stub.GetMove(pb.GetMoveRequest(move_id=move_id), timeout=timeout_s(options)).move
    view = move_view(found)
    if options.is_json:
        print_json(view)
    else:
        print_fields({key: str(value or "") for key, value in view.items()})


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


def _how_to_follow(latest: types_pb2.Move | None) -> str:
    if latest is None:
        return "if the move was recorded it goes on; see `netagent moves list --active`"
    return f"the move goes on; see `netagent moves get {latest.move_id}`"
