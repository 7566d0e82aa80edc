"""Nanoseconds a packet of each program, under real traffic, as the kernel accounts them.

The kernel's own run-time statistics (BPF_ENABLE_STATS) time every run; an empty program on the same
packets shows what the timing and the call cost. 64-byte UDP, so every run is one packet.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from integration.bench.compile import EMPTY, compile_program
from integration.bench.figures import Spread, spread
from integration.bench.throughput import PORT, serve_iperf
from integration.lab.lab import Lab
from integration.lab.machine import Machine
from integration.lab.namespace import Namespace
from netagent.api.agent.v1 import agent_service_pb2 as agent_pb
from netagent.dataplane import libbpf
from netagent.dataplane.datapath import PROGRAMS

_RATE_MBIT = 8
_BYTES = 64


def measure_programs(lab: Lab, rounds: int, seconds: int) -> dict[str, Spread]:
    """Return ns by program, the empty one among them."""
    sender = lab.machine("bench/sender", "host-a")
    receiver = lab.machine("bench/receiver", "host-b", attach=False)
    _attach_as_tap(lab, receiver)
    sender.wait_reaches(receiver)
    attach_empty(sender)
    figures: dict[str, list[float]] = {name: [] for name in (EMPTY, *PROGRAMS)}
    hosts = [host.namespace for host in lab.hosts.values()]
    with _statistics():
        for _ in range(rounds):
            before = read_statistics(hosts)
            _send(sender.namespace, receiver, seconds)
            _send(lab.hosts["host-a"].namespace, receiver, seconds)
            for name, (runs, ns) in read_statistics(hosts).items():
                runs_before, ns_before = before.get(name, (0, 0))
                if runs > runs_before:
                    figures[name].append((ns - ns_before) / (runs - runs_before))
    return {name: spread(values) for name, values in figures.items()}


def _attach_as_tap(lab: Lab, machine: Machine) -> None:
    """Attach by an existing interface, as a virtual machine's tap: to_machine runs there."""
    host = lab.hosts["host-b"]
    inside, outside = machine.namespace, host.namespace
    cable = ["ip", "link", "add", "tap0", "type", "veth", "peer", "name", "eth0"]
    command = ["nsenter", "-t", str(outside.pid), "-n", "--", *cable, "netns", str(inside.pid)]
    outside.run_outside(command)
    endpoint = host.attach(agent_pb.AttachRequest(machine=machine.path, interface="tap0"))
    mtu = host.status().mtu_bytes
    inside.run("ip", "link", "set", "eth0", "address", endpoint.mac, "mtu", str(mtu), "up")
    inside.run("ip", "addr", "add", f"{machine.address}/128", "dev", "eth0", "nodad")
    inside.run("ip", "-6", "route", "add", "default", "via", "fe80::1", "dev", "eth0")


def attach_empty(machine: Machine) -> None:
    """Run the empty program on everything that the machine sends."""
    target = compile_program(EMPTY, machine.namespace.log_dir)
    machine.run("tc", "qdisc", "add", "dev", "eth0", "clsact")
    attach = ["tc", "filter", "add", "dev", "eth0", "egress", "bpf", "direct-action"]
    machine.run(*attach, "object-file", str(target), "section", "tc")


def _send(sender: Namespace, receiver: Machine, seconds: int) -> None:
    with serve_iperf(receiver.namespace):
        flags = ["-u", "-b", f"{_RATE_MBIT}M", "-l", str(_BYTES), "-t", str(seconds)]
        client = ["iperf3", "-6", "-c", receiver.address, "-p", str(PORT), *flags]
        sender.run(*client, timeout_s=seconds + 30)


def read_statistics(hosts: list[Namespace]) -> dict[str, tuple[int, int]]:
    """Return (runs, ns in all) by program; of the programs that our hosts have pinned."""
    wanted = {_pinned_id(host, name) for host in hosts for name in PROGRAMS}
    done = subprocess.run(["bpftool", "-j", "prog", "show"], capture_output=True, check=True)
    found: dict[str, tuple[int, int]] = {}
    for program in json.loads(done.stdout):
        if program["id"] in wanted or program.get("name") == EMPTY:
            runs, ns = found.get(program["name"], (0, 0))
            counted = program.get("run_cnt", 0), program.get("run_time_ns", 0)
            found[program["name"]] = runs + counted[0], ns + counted[1]
    return found


def _pinned_id(host: Namespace, name: str) -> int:
    script = f"bpftool -j prog show pinned /sys/fs/bpf/netagent/v*/programs/{name}-*"
    return int(json.loads(host.run("sh", "-c", script).stdout)["id"])


@contextmanager
def _statistics() -> Iterator[None]:
    fd = libbpf.enable_statistics()
    try:
        yield
    finally:
        os.close(fd)
