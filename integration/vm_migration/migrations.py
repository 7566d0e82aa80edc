"""Migrates a live guest to and fro, with netagent or over plain WireGuard, under observation."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

from integration.lab.lab import Lab
from integration.lab.namespace import Namespace
from integration.lab.policies import apply_policy
from integration.lab.wait import wait_until
from integration.scenarios.traffic import Place, pings, place_of
from integration.vm_migration.figures import Outcome, Span
from integration.vm_migration.guest import (
    ECHO_PORT,
    SINK_PORT,
    TAP,
    Guest,
    build_image,
    environment,
)
from integration.vm_migration.observer import Tap, observing
from integration.vm_migration.plain import GUEST, MAC, OBSERVER, PlainWireGuard
from netagent.api.agent.v1 import agent_service_pb2 as agent_pb

HOOK = Path(__file__).parents[2] / "contrib/hooks/qemu_migrate.py"
POLICY = f"""\
network: shop
rules:
  - name: observer
    from: {{labels: {{app: observer}}}}
    to: {{labels: {{app: guest}}}}
    allow: [tcp/{ECHO_PORT}, tcp/{SINK_PORT}, icmp6/echo]
"""
"""The guest may begin nothing: what it says is allowed for its connections' sake alone."""

PLACES = ("host-a", "host-b")
QUIET_S = 3.0
_FIGURES = re.compile(r"downtime_ms=(\d+) total_ms=(\d+) stopped_at=([\d.]+) resumed_at=([\d.]+)")


def measure_live(count: int) -> dict[str, object]:
    """Migrate so often with netagent, then over plain WireGuard; print both, return for --json."""
    outcomes = {
        "netagent": migrate_with_netagent(count),
        "plain WireGuard": migrate_over_plain_wireguard(count),
    }
    for name, outcome in outcomes.items():
        outcome.show(name)
    return {name: outcome.as_json() for name, outcome in outcomes.items()}


def migrate_with_netagent(count: int) -> Outcome:
    """Migrate between host-a and host-b while a machine of host-c observes."""
    image = build_image()
    with Lab(hosts=3) as lab:
        lab.network("shop")
        observer = lab.machine("shop/observer", "host-c", {"app": "observer"})
        machine = lab.machine("shop/guest", "host-a", {"app": "guest"}, attach=False)
        apply_policy(lab, POLICY)
        request = agent_pb.AttachRequest(machine=machine.path, interface=TAP)

        def make_tap(place: str) -> str:
            lab.hosts[place].run("ip", "tuntap", "add", "dev", TAP, "mode", "tap")
            return lab.hosts[place].attach(request).mac

        guest = Guest(image, "guest", machine.address, make_tap("host-a"), lab.directory)
        command = (str(Path(sys.executable).parent / "netagent"), "move", machine.path)

        def migrate(source: str, destination: str) -> str:
            done = subprocess.run(
                [*command, "--to", destination, "--hook", str(HOOK)],
                capture_output=True,
                text=True,
                env={
                    **os.environ,
                    **environment(lab.directory, "guest", lab.control_socket),
                    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
                },
                check=False,
            )
            return done.stdout + done.stderr

        namespaces = {name: lab.hosts[name].namespace for name in PLACES}
        return _observe(
            count, guest, namespaces, place_of(observer), machine.address, make_tap, migrate
        )


def migrate_over_plain_wireguard(count: int) -> Outcome:
    """The same without netagent: `wg set` and a route on every host when the guest stops."""
    hook: Any = _load_hook()
    image = build_image()
    with PlainWireGuard() as plain:
        plain.make_tap("host-a")
        plain.flip("host-a").result()
        guest = Guest(image, "guest", GUEST, MAC, plain.directory)

        def migrate(source: str, destination: str) -> str:
            uri = f"unix:{plain.directory}/guest.migration"
            deadline = time.monotonic() + 600
            ends = [hook.Qmp(str(guest.qmp(place)), deadline) for place in (source, destination)]
            ends[1].execute("migrate-incoming", uri=uri)
            capabilities = [{"capability": "events", "state": True}]
            ends[0].execute("migrate-set-capabilities", capabilities=capabilities)
            ends[0].execute("migrate", uri=uri)

            def flip() -> Future[object]:
                return plain.flip(destination)

            with redirect_stdout(StringIO()) as said:
                hook.follow(*ends, flip)
            return said.getvalue()

        place = Place("observer", plain.observer, OBSERVER)
        return _observe(count, guest, plain.hosts, place, GUEST, plain.make_tap, migrate)


def _observe(
    count: int,
    guest: Guest,
    hosts: dict[str, Namespace],
    observer: Place,
    address: str,
    make_tap: Callable[[str], object],
    migrate: Callable[[str, str], str],
) -> Outcome:
    guest.start(PLACES[0], hosts[PLACES[0]], is_awaited=False)
    wait_until("the guest answers", lambda: pings(observer, address), 60)
    spans = []
    with observing(observer, address) as (echo, stream, pinging):
        quiet_s = time.time()
        wait_until("it was quiet for a while", lambda: time.time() > quiet_s + QUIET_S)
        quiet = quiet_s, time.time()
        for number in range(count):
            source, destination = PLACES if number % 2 == 0 else PLACES[::-1]
            make_tap(destination)
            guest.start(destination, hosts[destination], is_awaited=True)
            tap = Tap(hosts[destination], TAP, address)
            began_s = time.time()
            said = migrate(source, destination)
            figures = _FIGURES.search(said)
            if figures is None:
                raise AssertionError(f"the migration failed:\n{said}")
            is_connected = echo.works() and stream.goes_on()
            times = [*map(float, figures.groups()), *tap.stop()]
            spans.append(Span(is_connected, began_s, time.time(), *times))
            guest.stop(source, hosts[source])
            print(".", end="", file=sys.stderr, flush=True)
        answers = pinging.stop()
    return Outcome(spans, answers, quiet)


def _load_hook() -> object:
    spec = importlib.util.spec_from_file_location("qemu_migrate", HOOK)
    assert spec is not None
    assert spec.loader is not None
    hook = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hook)
    return hook
