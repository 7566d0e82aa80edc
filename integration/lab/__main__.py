"""script/lab: a fleet on this machine to explore, break and measure.

examples:
  script/lab up                                   three hosts; or --hosts 5 --underlay 6 --mtu 9000
  script/lab machine shop/web --host host-a       a machine, as a namespace of its own
  script/lab move shop/web --to host-b            with its interface at both places
  script/lab status                               hosts, machines and what runs where
  script/lab shell host-a                         netagent status, wg show, tc filter show, tcpdump
  script/lab shell shop/web -- ping -c 3 ADDRESS  one command instead of a shell
  script/lab down                                 ends all of it
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

from integration.lab.kept import KeptLab, find_labs, remove_remains
from integration.lab.lab import Lab
from integration.lab.namespace import start_namespace
from integration.lab.process import NETAGENT

DEFAULT_NAME = "lab"


def main() -> int:
    """Run one command; return its exit code."""
    parser = argparse.ArgumentParser(
        prog="script/lab", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    named = argparse.ArgumentParser(add_help=False)
    named.add_argument("--name", help=f"which lab; the only one there is, or {DEFAULT_NAME!r}")

    up = commands.add_parser("up", parents=[named], help="start a lab")
    up.add_argument("--hosts", type=int, default=3)
    up.add_argument("--mtu", type=int, default=1500, help="of the underlay, in bytes")
    up.add_argument("--underlay", type=int, choices=(4, 6), default=4, help="IP version")
    up.set_defaults(run=run_up)

    commands.add_parser("status", parents=[named], help="show a lab").set_defaults(run=run_status)

    machine = commands.add_parser("machine", parents=[named], help="create and attach a machine")
    machine.add_argument("machine", metavar="NETWORK/NAME")
    machine.add_argument("--host", required=True)
    machine.set_defaults(run=run_machine)

    move = commands.add_parser("move", parents=[named], help="attach elsewhere, then move")
    move.add_argument("machine", metavar="NETWORK/NAME")
    move.add_argument("--to", required=True, metavar="HOST")
    move.set_defaults(run=run_move)

    shell = commands.add_parser("shell", parents=[named], help="enter a host or a machine")
    shell.add_argument("place", metavar="HOST-OR-MACHINE")
    shell.set_defaults(run=run_shell)

    down = commands.add_parser("down", parents=[named], help="end a lab")
    down.set_defaults(run=run_down)

    mine, has_command, words = partition(sys.argv[1:])
    given = parser.parse_args(mine)
    given.words = words
    if has_command and given.command != "shell":
        parser.error("only shell takes a command after --")
    try:
        return int(given.run(given))
    except subprocess.CalledProcessError as error:
        return error.returncode


def partition(words: list[str]) -> tuple[list[str], bool, list[str]]:
    """Return what is before a `--`, whether there is one, and what is after it."""
    if "--" not in words:
        return words, False, []
    at = words.index("--")
    return words[:at], True, words[at + 1 :]


def run_up(given: argparse.Namespace) -> int:
    """Start a lab that outlives this command."""
    remove_remains()
    name = given.name or DEFAULT_NAME
    if name in {lab.name for lab in find_labs()}:
        return fail(f"lab {name} is there already: script/lab status --name {name}, or down")
    lab = Lab(name, hosts=given.hosts, mtu_bytes=given.mtu, underlay=given.underlay, is_bound=False)
    try:
        lab.start()
    except BaseException:
        lab.show_logs()
        lab.stop()
        raise
    kept = KeptLab(name, lab.directory)
    netagent(kept, "host", "list")
    print(f"\nlogs: {lab.directory}/*.log\nnext: script/lab --help")
    return 0


def run_status(given: argparse.Namespace) -> int:
    """Show what is there."""
    lab = find(given.name)
    print(f"lab {lab.name}, {len(lab.namespaces())} namespaces, logs in {lab.directory}\n")
    for words in (["host", "list"], ["machine", "list"], ["moves", "list", "--active"]):
        netagent(lab, *words)
        print()
    return 0


def run_machine(given: argparse.Namespace) -> int:
    """Create a machine (and its network) and attach it."""
    lab = find(given.name)
    network = given.machine.partition("/")[0]
    if not netagent_succeeds(lab, "network", "get", network):
        netagent(lab, "network", "create", network)
    netagent(lab, "machine", "create", given.machine, "--host", given.host)
    start_namespace(given.machine, lab.directory, is_bound=False)
    attach(lab, given.machine, given.host)
    return 0


def run_move(given: argparse.Namespace) -> int:
    """Attach a machine to another host, and move it there."""
    lab = find(given.name)
    attach(lab, given.machine, given.to)
    netagent(lab, "move", given.machine, "--to", given.to)
    return 0


def run_shell(given: argparse.Namespace) -> int:
    """Become a shell (or a command) in a namespace."""
    lab = find(given.name)
    namespaces = lab.namespaces()
    if given.place not in namespaces:
        return fail(f"lab {lab.name} has no {given.place}; it has {', '.join(namespaces)}")
    words = given.words or ["bash", "--norc"]
    command = namespaces[given.place].command(words)
    path = f"{Path(NETAGENT).parent}:{os.environ['PATH']}"
    prompt = rf"{given.place} ({lab.name}) \w# "
    environment = {**os.environ, **lab.environment(given.place), "PATH": path, "PS1": prompt}
    os.execvpe(command[0], command, environment)


def run_down(given: argparse.Namespace) -> int:
    """End a lab."""
    lab = find(given.name)
    print(f"lab {lab.name}: ended, with {lab.end()} namespaces")
    return 0


def find(name: str | None) -> KeptLab:
    """Return the lab of a name, or the only one; exits with a hint when it is not clear."""
    labs = {lab.name: lab for lab in find_labs()}
    if name is None:
        name = next(iter(labs)) if len(labs) == 1 else DEFAULT_NAME
    if name not in labs:
        there = f"there are {', '.join(labs)}" if labs else "there is none; script/lab up"
        raise SystemExit(fail(f"no lab {name}: {there}"))
    return labs[name]


def attach(lab: KeptLab, machine: str, host: str) -> None:
    """Attach a machine's namespace on a host."""
    if not lab.is_host(host):
        raise SystemExit(fail(f"lab {lab.name} has no host {host}"))
    if machine not in lab.namespaces():
        raise SystemExit(fail(f"lab {lab.name} has no machine {machine}"))
    netns = lab.namespaces()[machine].netns
    netagent(lab, "attach", machine, "--netns", str(netns), host=host)


def netagent(lab: KeptLab, *words: str, host: str = "") -> None:
    """Print and run a command of netagent's."""
    print(f"$ netagent {' '.join(words)}{f'     (on {host})' if host else ''}", flush=True)
    environment = {**os.environ, **lab.environment(host)}
    subprocess.run([NETAGENT, *words], check=True, env=environment)


def netagent_succeeds(lab: KeptLab, *words: str) -> bool:
    """Whether a command of netagent's ends well; prints nothing."""
    environment = {**os.environ, **lab.environment("")}
    done = subprocess.run([NETAGENT, *words], check=False, capture_output=True, env=environment)
    return done.returncode == 0


def fail(problem: str) -> int:
    """Say what is wrong; return the exit code for it."""
    print(f"error: {problem}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
