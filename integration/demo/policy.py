"""A policy at work: what it opens, what it drops and why, and what goes with a rule."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

from integration.demo.screen import Screen
from integration.lab.enter import inside
from integration.lab.lab import Lab
from integration.lab.machine import Machine
from integration.lab.wait import wait_until

CLIENT, SERVER = "shop/web", "shop/db"
SERVICE, FORBIDDEN = 5_432, 22
ANSWER_S = 0.5
"""An answer takes a millisecond or two; this long without one is none."""

_HEAD = "network: shop\ndefault: deny\nrules:\n"
_NO_SSH = "  - {name: no-ssh, from: any, to: {labels: {app: db}}, deny: [tcp/22]}\n"
_WEB_TO_DB = (
    "  - {name: web-to-db, from: {labels: {app: web}}, to: {labels: {app: db}}, allow: [tcp]}\n"
)
OPEN, REVOKED = _HEAD + _WEB_TO_DB + _NO_SSH, _HEAD + _NO_SSH


def show_policy(lab: Lab, screen: Screen) -> list[str]:
    """Apply a policy, meet a drop, revoke a rule, and go back; return what was not as promised."""
    web, db = lab.machines[CLIENT], lab.machines[SERVER]
    host = lab.hosts[lab.locate(web)]
    path = lab.directory / "shop.yaml"
    path.write_text(OPEN)
    screen.file(OPEN)
    screen.netagent(lab, "policy", "apply", str(path), "--wait")
    broken = []
    with _listening(db, SERVICE) as listener, _listening(db, FORBIDDEN):
        client = _connect(web, db, SERVICE)
        if client is None:
            return [f"{CLIENT} does not reach port {SERVICE} of {SERVER}, which a rule opens"]
        with client, listener.accept()[0] as server:
            screen.say(f"{CLIENT} connects to port {SERVICE} of {SERVER}: open")
            forbidden = _connect(web, db, FORBIDDEN)
            if forbidden is not None:
                forbidden.close()
                broken.append(f"{CLIENT} reaches port {FORBIDDEN} of {SERVER}, which a rule denies")
            screen.say(f"and to port {FORBIDDEN}: {'open' if forbidden else 'no answer'}, because")
            drop = screen.last_line(host, "flows", "--dropped", "--machine", CLIENT)
            if "no-ssh" not in drop:
                broken.append("the drop is not shown with its rule")
            path.write_text(REVOKED)
            screen.say("The rule web-to-db goes, and with it the connection that is open:")
            is_alive_before = _answers(client, server)
            screen.netagent(lab, "policy", "apply", str(path), "--wait")
            is_alive_after = _answers(client, server)
            if not is_alive_before:
                broken.append("the connection died before its rule")
            if is_alive_after:
                broken.append("the connection outlived its rule")
            screen.say(
                f"answers before: {'yes' if is_alive_before else 'no'},"
                f" after: {'yes' if is_alive_after else 'no'}"
            )
    screen.netagent(lab, "policy", "explain", CLIENT, SERVER, f"tcp/{SERVICE}")
    screen.netagent(lab, "policy", "rollback", "shop", "0", "--wait")
    wait_until(f"{CLIENT} reaches {SERVER} again", lambda: web.reaches(db.address))
    return broken


@contextlib.contextmanager
def _listening(machine: Machine, port: int) -> Iterator[socket.socket]:
    with inside(machine.namespace):
        listener = socket.socket(socket.AF_INET6)
    with listener:
        listener.settimeout(ANSWER_S)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((machine.address, port))
        listener.listen()
        yield listener


def _connect(source: Machine, destination: Machine, port: int) -> socket.socket | None:
    """Return a connection; None when nobody answers."""
    with inside(source.namespace):
        client = socket.socket(socket.AF_INET6)
    client.settimeout(ANSWER_S)
    try:
        client.connect((destination.address, port))
    except TimeoutError:
        client.close()
        return None
    return client


def _answers(client: socket.socket, server: socket.socket) -> bool:
    """Whether a question goes over a connection, and its answer back."""
    for one in (client, server):
        one.settimeout(ANSWER_S)
    try:
        client.sendall(b"?")
        server.sendall(server.recv(1))
        return client.recv(1) == b"?"
    except TimeoutError:
        return False
