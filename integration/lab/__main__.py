"""script/lab: a fleet on this machine to explore, break and measure.

examples:
  script/lab up                                     control and three hosts with agents
  script/lab up --name big --hosts 8 --underlay 6   another, beside it
  script/lab up --backend vm                        hosts that are virtual machines
  script/lab up --backend vagrant                   the same, made by Vagrant
  script/lab machine shop/web-1 --host host-a       a machine, in a namespace of its own
  script/lab move shop/web-1 --to host-b            with its interface at both places
  script/lab status                                 hosts, machines, processes and their logs
  script/lab shell host-a                           netagent status, wg show, tc, bpftool, tcpdump
  script/lab shell shop/web-1 -- ping db-1.shop     one command instead of a shell
  script/lab down                                   ends all of it
  script/lab image --rebuild                        of virtual machines, with Debian's updates
"""

from __future__ import annotations

import argparse
import subprocess
import sys

from integration.lab import people
from integration.lab.backend import BACKENDS


def main() -> int:
    """Run one command; return its exit code."""
    mine, words = _split(sys.argv[1:])
    parser = _make_parser()
    given = parser.parse_args(mine)
    if words is not None and given.command != "shell":
        parser.error("only shell takes a command after --")
    given.words = words or []
    try:
        return int(given.run(given))
    except people.Refused as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as error:
        return error.returncode
    except KeyboardInterrupt:
        return 130


def _make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="script/lab", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    named = argparse.ArgumentParser(add_help=False)
    named.add_argument(
        "--name", help=f"which lab; the only one there is, or {people.DEFAULT_NAME!r}"
    )

    up = commands.add_parser("up", parents=[named], help="start a lab")
    up.add_argument("--hosts", type=int, default=3, metavar="N")
    up.add_argument("--mtu", type=int, default=1500, help="of the underlay, in bytes")
    up.add_argument("--underlay", type=int, choices=(4, 6), default=4, help="IP version")
    up.add_argument("--backend", choices=BACKENDS, default="netns", help="what hosts are")
    up.add_argument(
        "--kernels", default="6.1", help="of virtual machines, in turn: 6.1, 6.12 or 6.1,6.12"
    )
    up.set_defaults(run=people.run_up)

    status = commands.add_parser("status", parents=[named], help="show a lab")
    status.set_defaults(run=people.run_status)

    commands.add_parser("list", help="list labs").set_defaults(run=people.run_list)

    machine = commands.add_parser(
        "machine", parents=[named], help="give a machine a namespace, and attach it on its host"
    )
    machine.add_argument("machine", metavar="NETWORK/NAME", help="made if it is not there")
    machine.add_argument("--host", help="where; the host it is located on, if it is there")
    machine.add_argument(
        "--no-attach", action="store_true", help="only the namespace, to attach it by hand"
    )
    machine.set_defaults(run=people.run_machine)

    move = commands.add_parser("move", parents=[named], help="attach elsewhere, then move")
    move.add_argument("machine", metavar="NETWORK/NAME")
    move.add_argument("--to", required=True, metavar="HOST")
    move.set_defaults(run=people.run_move)

    shell = commands.add_parser(
        "shell", parents=[named], help="enter a host, a machine, control or the fabric"
    )
    shell.add_argument("place", metavar="HOST-OR-MACHINE")
    shell.set_defaults(run=people.run_shell)

    down = commands.add_parser("down", parents=[named], help="end a lab")
    down.add_argument(
        "--all", action="store_true", help="every lab that `up` or a demo left, and remains"
    )
    down.set_defaults(run=people.run_down)

    image = commands.add_parser("image", help="make the image of virtual machines, once")
    image.add_argument("--rebuild", action="store_true", help="also when there is one")
    image.set_defaults(run=people.run_image)
    return parser


def _split(words: list[str]) -> tuple[list[str], list[str] | None]:
    """Return what is before a `--`, and what is after it; None when there is none."""
    if "--" not in words:
        return words, None
    at = words.index("--")
    return words[:at], words[at + 1 :]


if __name__ == "__main__":
    sys.exit(main())
