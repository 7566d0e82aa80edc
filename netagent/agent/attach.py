"""Attaching and detaching: what a request means, checked before anything is touched."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import grpc
import grpc.aio

from netagent.agent.attached import AttachedMachine, FormerLink, interface_name
from netagent.agent.config import INTERFACE_NAME_MAX, AgentConfig
from netagent.agent.engine import Engine
from netagent.agent.facts import EndpointStatus, OwnHost
from netagent.agent.handed import check_handed_interface
from netagent.agent.intake import Intake
from netagent.agent.sync import ControlClient
from netagent.agent.worker import Worker
from netagent.model.addresses import GATEWAY_MAC, StableId, machine_mac
from netagent.model.errors import (
    ExistsError,
    InvalidError,
    NotFoundError,
    UnavailableError,
)
from netagent.model.fleet import check_name

_MAC = re.compile(r"[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}")


@dataclass(frozen=True, slots=True)
class AttachOrder:
    """What the caller asks for; exactly one of interface and netns is given. mac: None: its own."""

    machine: str
    interface: str | None
    netns: Path | None
    mac: bytes | None


def parse_order(machine: str, interface: str, netns: str, mac: str) -> AttachOrder:
    """Check the fields of a request; empty means not given. InvalidError names the field."""
    parts = machine.split("/")
    if len(parts) > 2:
        raise InvalidError("machine", f"{machine!r} is not NETWORK/NAME")
    for part in parts:
        check_name("machine", part)
    if bool(interface) == bool(netns):
        raise InvalidError("device", "give either an interface or a network namespace")
    if len(interface.encode()) > INTERFACE_NAME_MAX or "/" in interface:
        raise InvalidError("interface", f"{interface!r} is not an interface name")
    if netns and not netns.startswith("/"):
        raise InvalidError("netns", f"{netns!r} is not an absolute path, as /run/netns/NAME")
    return AttachOrder(
        machine, interface or None, Path(netns) if netns else None, _parse_mac(mac) if mac else None
    )


def _parse_mac(text: str) -> bytes:
    if not _MAC.fullmatch(text):
        raise InvalidError("mac", f"{text!r} is not of the form 02:00:00:00:00:01")
    mac = bytes.fromhex(text.replace(":", ""))
    if mac[0] & 1 or mac == bytes(6):
        raise InvalidError("mac", f"{text} is not the address of one station")
    if mac == GATEWAY_MAC:
        raise InvalidError("mac", f"{text} is the gateway's")
    return mac


class Attacher:
    """One attachment changes at a time."""

    def __init__(
        self,
        config: AgentConfig,
        engine: Engine,
        worker: Worker,
        intake: Intake,
        control: ControlClient,
    ) -> None:
        self._config = config
        self._engine = engine
        self._worker = worker
        self._intake = intake
        self._control = control
        self._one_at_a_time = asyncio.Lock()

    async def attach(self, order: AttachOrder) -> tuple[OwnHost, EndpointStatus]:
        """Attach a machine; the errors are those of AgentService.Attach."""
        own = self._intake.require_own()
        async with self._one_at_a_time:
            path, stable_id = await self._resolve(order.machine)
            machine, is_new = await self._worker.run(self._plan, order, path, stable_id)
            machine = await self._intake.keep(machine)
            try:
                status = await self._worker.run(self._engine.attach, machine)
            except Exception:
                if is_new:
                    await self._worker.run(self._engine.abandon, machine)
                    await self._intake.forget(stable_id)
                raise
            self._intake.changed.beat()
            return own, status

    async def detach(self, name: str) -> None:
        """Take an attachment back; NotFoundError when there is none."""
        async with self._one_at_a_time:
            found = await self._worker.run(self._engine.interfaces.find_attached, name)
            if not found:
                raise NotFoundError(f"machine: {name} is not attached to this host")
            if len(found) > 1:
                raise InvalidError("machine", _ambiguous(name, [m.machine for m in found]))
            await self._worker.run(self._engine.detach, found[0].stable_id)
            await self._intake.forget(found[0].stable_id)

    async def _resolve(self, name: str) -> tuple[str, StableId]:
        """Return (NETWORK/NAME, id). Only control knows whether a bare name is unambiguous."""
        local = await self._worker.run(self._engine.view.find_machines, name)
        if "/" in name and local:
            return local[0]
        try:
            machine = await self._control.get_machine(name)
        except grpc.aio.AioRpcError as error:
            detail = error.details() or ""
            if error.code() is grpc.StatusCode.NOT_FOUND:
                raise NotFoundError(detail) from error
            if error.code() is grpc.StatusCode.INVALID_ARGUMENT:
                raise _as_invalid(detail) from error
            if len(local) == 1:
                return local[0]
            if local:
                raise InvalidError(
                    "machine", _ambiguous(name, [path for path, _ in local])
                ) from error
            raise UnavailableError(
                f"machine: {name} is not in the local replica and control cannot be asked: {detail}"
            ) from error
        return machine.path, machine.stable_id

    def _plan(
        self, order: AttachOrder, path: str, stable_id: StableId
    ) -> tuple[AttachedMachine, bool]:
        """Return (the attachment, whether it is new); runs on the kernel's thread."""
        attached = self._engine.interfaces.attached
        mac = order.mac or machine_mac(stable_id)
        before = attached.get(stable_id)
        if before is not None:
            same_device = (
                before.netns == order.netns if order.netns else before.interface == order.interface
            )
            if not same_device or before.mac != mac:
                raise ExistsError(
                    f"machine: {path} is attached to {before.netns or before.interface} with MAC"
                    f" {before.mac.hex(':')}; detach it first"
                )
            return before, False
        if order.netns is not None:
            name = interface_name(stable_id, path, self._engine.interfaces.is_taken)
            _check_netns(order.netns, attached.values())
            return AttachedMachine(stable_id, path, name, mac, order.netns), True
        assert order.interface is not None
        former = self._check_interface(order.interface)
        return AttachedMachine(stable_id, path, order.interface, mac, former=former), True

    def _check_interface(self, interface: str) -> FormerLink:
        """Return what the interface is now; an error says why it cannot be a machine's."""
        if interface in self._engine.own_links.names:
            raise InvalidError("interface", f"{interface} is the agent's own")
        for machine in self._engine.interfaces.attached.values():
            if machine.interface == interface:
                raise ExistsError(f"interface: {interface} is machine {machine.machine}'s")
        link = self._engine.interfaces.links.find(interface)
        if link is None:
            raise NotFoundError(f"interface: there is no {interface} on this host")
        use = self._engine.interfaces.links.observe_use(interface)
        check_handed_interface(interface, use, self._config.endpoint.address)
        return FormerLink(link.mac, link.is_up)


def _check_netns(path: Path, attached: Iterable[AttachedMachine]) -> None:
    own = Path("/proc/self/ns/net").stat()
    try:
        found = path.stat()
    except OSError as error:
        raise NotFoundError(f"netns: {path}: {error.strerror}") from error
    if found.st_dev != own.st_dev:
        raise InvalidError("netns", f"{path} is not a network namespace")
    if found.st_ino == own.st_ino:
        raise InvalidError("netns", f"{path} is the host's own namespace, not a machine's")
    for machine in attached:
        # A namespace has many paths, and a machine has one default route.
        if machine.netns is not None and _is_namespace(machine.netns, found):
            raise ExistsError(f"netns: {path} is {machine.machine}'s already; detach that first")


def _is_namespace(path: Path, expected: os.stat_result) -> bool:
    try:
        return os.path.samestat(path.stat(), expected)
    except OSError:
        return False  # it is gone


def _ambiguous(name: str, candidates: list[str]) -> str:
    return f"{name} may be {', '.join(sorted(candidates))}; name one of them"


def _as_invalid(detail: str) -> InvalidError:
    field, _, problem = detail.partition(": ")
    return InvalidError(field, problem) if problem else InvalidError("machine", detail)
