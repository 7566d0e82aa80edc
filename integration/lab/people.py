"""The commands of script/lab: on labs that were kept, through netagent's own command."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
from pathlib import Path

import grpc

from integration.lab.backend import CannotDo
from integration.lab.kept import (
    KeptLab,
    find_labs,
    machine_mounts,
    name_machine,
    remove_remains,
)
from integration.lab.lab import Lab
from integration.lab.namespace import Namespace, start_namespace
from integration.lab.process import NETAGENT
from integration.lab.vagrant.lab import VagrantLab
from integration.lab.vm.image import get_image
from integration.lab.vm.kept import adapt, cable_in, find_shells, is_virtual, plug, reconnect
from integration.lab.vm.kernels import DEFAULT
from integration.lab.vm.lab import VmLab
from netagent.api.agent.v1 import agent_service_pb2 as agent_pb
from netagent.api.agent.v1.agent_service_pb2_grpc import AgentServiceStub
from netagent.cli.output import print_table
from netagent.model.errors import InvalidError
from netagent.model.fleet import check_name

DEFAULT_NAME = "lab"
ANSWER_S = 2.0
COMMAND_WIDTH = 72


class Refused(Exception):  # what a person asked for, not a failure of the program
    """Cannot be done as asked; the text says why and what to do."""


def run_up(given: argparse.Namespace) -> int:
    """Start a lab that outlives this command."""
    remove_remains()
    try:
        name = check_name("--name", given.name or DEFAULT_NAME)
    except InvalidError as error:
        raise Refused(str(error)) from error
    if name in {lab.name for lab in find_labs()}:
        raise Refused(f"lab {name} is there already: script/lab status, or down, --name {name}")
    try:
        shape = {"hosts": given.hosts, "mtu_bytes": given.mtu, "underlay": given.underlay}
        kernels = given.kernels.split(",")
        if given.backend == "netns" and kernels != [DEFAULT]:
            raise Refused("--kernels: namespaces share this machine's; --backend vm has others")
        if given.backend == "vm":
            lab: Lab = VmLab(name, **shape, kernels=kernels, is_bound=False)
        elif given.backend == "vagrant":
            lab = VagrantLab(name, **shape, kernels=kernels, is_bound=False)
        else:
            lab = Lab(name, **shape, is_bound=False)
    except (ValueError, CannotDo) as error:
        raise Refused(str(error)) from error
    try:
        lab.begin()
    except RuntimeError as error:  # of image, box or wheel
        raise Refused(str(error)) from error
    _netagent(KeptLab(name, lab.directory), "host", "list")
    print(f"\nlogs: {lab.directory}/*.log\nnext: script/lab shell control, or script/lab --help")
    return 0


def run_image(given: argparse.Namespace) -> int:
    """Make the image that virtual machines start from, if there is none or another is wanted."""
    try:
        image = get_image(rebuild=given.rebuild)
    except RuntimeError as error:
        raise Refused(str(error)) from error
    print(f"{image.directory}: {json.dumps(image.describe())}")
    return 0


def run_list(given: argparse.Namespace) -> int:
    """List all labs, those of running tests as well."""
    rows = []
    for lab in find_labs():
        living = len(lab.namespaces())
        kind = "kept" if lab.is_kept else "a test's" if living else "remains"
        rows.append((lab.name, kind, str(len(lab.hosts())), str(living), str(lab.directory)))
    print_table(("LAB", "KIND", "HOSTS", "NAMESPACES", "DIRECTORY"), rows)
    if "remains" in (kind for _, kind, *_ in rows):
        print("\nremains are what ended labs left: script/lab down --all removes them")
    return 0


def run_status(given: argparse.Namespace) -> int:
    """Show what there is, what of it runs, and how far each agent is; fails without control."""
    lab = _find_reachable(given.name)
    print(f"lab {lab.name}, logs in {lab.directory}\n")
    print_table(
        ("HOST", "AGENT", "CONTROL", "REVISION", "ATTACHED"),
        [_host_row(lab, host) for host in lab.hosts()],
    )
    print()
    code = _netagent(lab, "machine", "list", check=False)
    print()
    if code == 0:
        code = _netagent(lab, "moves", "list", "--active", check=False)
        print()
    rows = [
        (name, str(pid), _shorten(command))
        for name, namespace in lab.namespaces().items()
        for pid, command in namespace.processes()
    ]
    print_table(("IN", "PROCESS", "COMMAND"), rows)
    return code


def run_machine(given: argparse.Namespace) -> int:
    """Give a machine a namespace; create and attach it as far as that is still to do."""
    lab = _find_reachable(given.name)
    network, _, name = given.machine.partition("/")
    if not network or not name:
        raise Refused(f"{given.machine!r} is not NETWORK/NAME")
    machine = _get_machine(lab, given.machine)
    if machine is None:
        if given.host is None:
            raise Refused(f"there is no machine {given.machine} yet; --host says where to make it")
        if given.host not in lab.hosts():
            raise Refused(_no_host(lab, given.host))
        if _ask(lab, "network", "get", network) is None:
            _netagent(lab, "network", "create", network)
        _netagent(lab, "machine", "create", given.machine, "--host", given.host)
        machine = _get_machine(lab, given.machine)
        assert machine is not None
    name_machine(lab.directory, given.machine, machine["address"])
    if given.machine not in lab.namespaces():
        mounts = machine_mounts(lab.directory)
        start_namespace(given.machine, lab.directory, mounts=mounts, is_bound=False)
    if is_virtual(lab):
        cable_in(lab, lab.namespaces()[given.machine], machine["address"])
        if not given.no_attach:
            _attach(lab, given.machine, given.host or machine["host"])
        return 0
    netns = _link(lab, given.machine)
    if given.no_attach:
        print(f"{given.machine} is {netns} on every host of the lab")
    else:
        _attach(lab, given.machine, given.host or machine["host"])
    return 0


def run_move(given: argparse.Namespace) -> int:
    """Attach a machine to another host, and move it there."""
    lab = _find_reachable(given.name)
    _attach(lab, given.machine, given.to)
    _netagent(lab, "move", given.machine, "--to", given.to)
    return 0


def run_shell(given: argparse.Namespace) -> int:
    """Become a shell (or a command) in a namespace."""
    lab = _find(given.name)
    namespaces = {**lab.namespaces(), **find_shells(lab)}
    found = [name for name in namespaces if given.place in (name, name.rpartition("/")[2])]
    if len(found) != 1:
        problem = "has several, name one of" if found else f"has no {given.place}; it has"
        raise Refused(f"lab {lab.name} {problem} {', '.join(found or namespaces)}")
    place = found[0]
    words = given.words or ["bash", "--norc"]
    if place in find_shells(lab):
        # The guest has netagent, and the default settings are its own.
        command = find_shells(lab)[place].interactive(given.words)
        os.execvp(command[0], command)
    command = namespaces[place].command(words)
    environment = {
        **os.environ,
        **lab.environment(place),
        "PATH": f"{Path(NETAGENT).parent}:{os.environ['PATH']}",
        "PS1": f"[{lab.name}] {place} \\$ ",
    }
    os.execvpe(command[0], command, environment)


def run_down(given: argparse.Namespace) -> int:
    """End a lab, or all that were kept and what is left of others."""
    if given.all and given.name:
        raise Refused("give --name or --all")
    labs = find_labs() if given.all else [_find(given.name)]
    if given.all:
        labs = [lab for lab in labs if lab.is_kept or lab.is_remains()]
    problems = [problem for problem in map(_end, labs) if problem]
    if problems:
        raise Refused("; ".join(problems))
    if not labs:
        print("there is no lab")
    return 0


def _end(lab: KeptLab) -> str:
    """End a lab and say so; return why that was not possible, or nothing."""
    try:
        count = lab.end()
    except AssertionError as error:
        return f"lab {lab.name} has not ended: {error}"
    how = f"ended, with {count} namespaces" if count else "nothing of it lived; its remains removed"
    print(f"lab {lab.name}: {how}")
    return ""


def _find(name: str | None) -> KeptLab:
    """Return the lab of a name; without one the only kept lab, or the one of the default name."""
    labs = {lab.name: lab for lab in find_labs()}
    # Without hosts it is not for these commands: vagrant/here has its own.
    kept = [lab for lab in labs.values() if lab.is_kept and lab.hosts()]
    if name is None:
        name = kept[0].name if len(kept) == 1 else DEFAULT_NAME
    if name not in labs:
        there = f"there is {', '.join(lab.name for lab in kept)}" if kept else "script/lab up"
        raise Refused(f"no lab {name}: {there}")
    return labs[name]


def _find_reachable(name: str | None) -> KeptLab:
    """Return the lab of a name as `_find` does; guests may have booted since the last command."""
    lab = _find(name)
    if is_virtual(lab):
        reconnect(lab)
    return lab


def _host_row(lab: KeptLab, host: str) -> tuple[str, ...]:
    with grpc.insecure_channel(f"unix://{lab.agent_socket(host)}") as channel:
        try:
            request = agent_pb.GetStatusRequest()
            status = AgentServiceStub(channel).GetStatus(request, timeout=ANSWER_S)
        except grpc.RpcError:
            return (host, "does not answer", "", "", "")
    attached = [
        f"{each.machine} {agent_pb.EndpointState.Name(each.state).rpartition('_')[2].lower()}"
        for each in status.endpoints
    ]
    connected = "connected" if status.connected else "not connected"
    return (host, "runs", connected, str(status.applied_revision), ", ".join(attached))


def _shorten(command: str) -> str:
    """Return a command line that fits a table: without its interpreter, and not all of it."""
    words = [word for word in command.split() if not Path(word).name.startswith("python")]
    short = " ".join([Path(words[0]).name, *words[1:]]) if words else command
    return short if len(short) <= COMMAND_WIDTH else short[: COMMAND_WIDTH - 1] + "…"


def _attach(lab: KeptLab, machine: str, host: str) -> None:
    """Attach a machine's namespace on a host."""
    if host not in lab.hosts():
        raise Refused(_no_host(lab, host))
    if machine not in lab.namespaces():
        raise Refused(f"lab {lab.name} has no machine {machine}; script/lab machine {machine}")
    if is_virtual(lab):
        device = plug(lab, machine, host)
        _netagent(lab, "attach", machine, "--interface", device, host=host)
        adapt(lab, machine, host)
        return
    _netagent(lab, "attach", machine, "--netns", _link(lab, machine), host=host)


def _link(lab: KeptLab, machine: str) -> str:
    """Give a machine's namespace a name in every host's /run/netns; return it."""
    namespaces = lab.namespaces()
    name = machine.rpartition("/")[2]
    if any(other.rpartition("/")[2] == name for other in namespaces if other != machine):
        name = machine.replace("/", "-")
    path = f"/run/netns/{name}"
    for host in lab.hosts():
        _link_on(namespaces[host], namespaces[machine], path)
    return path


def _link_on(host: Namespace, machine: Namespace, path: str) -> None:
    host.run("mkdir", "-p", "/run/netns")
    host.run("ln", "-sfn", str(machine.netns), path)


def _no_host(lab: KeptLab, host: str) -> str:
    return f"lab {lab.name} has no host {host}; it has {', '.join(lab.hosts())}"


def _get_machine(lab: KeptLab, machine: str) -> dict[str, str] | None:
    found = _ask(lab, "machine", "get", machine)
    return json.loads(found) if found is not None else None


def _ask(lab: KeptLab, *words: str) -> str | None:
    """Return what a command of netagent's answers in JSON; None when it finds nothing."""
    environment = {**os.environ, **lab.environment("")}
    done = subprocess.run(
        [NETAGENT, *words, "--output", "json"],
        check=False,
        capture_output=True,
        text=True,
        env=environment,
    )
    if done.returncode not in (0, 4):
        raise Refused(done.stderr.strip().removeprefix("error: "))
    return done.stdout if done.returncode == 0 else None


def _netagent(lab: KeptLab, *words: str, host: str = "", check: bool = True) -> int:
    """Print and run a command of netagent's; return its exit code."""
    print(f"$ netagent {' '.join(words)}{f'     (on {host})' if host else ''}", flush=True)
    environment = {**os.environ, **lab.environment(host)}
    return subprocess.run([NETAGENT, *words], check=check, env=environment).returncode
