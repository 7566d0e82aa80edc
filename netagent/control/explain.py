"""Asks the hosts of both ends what their kernels hold about a flow."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv6Address

from netagent.api.types.v1 import types_pb2
from netagent.control.address_plans import locate, resolve_address
from netagent.control.sync_hub import SyncHub
from netagent.control.validation import resolve_machine
from netagent.control.view import View
from netagent.model.addresses import StableId
from netagent.model.errors import InvalidError, NotFoundError, StateError, UnavailableError
from netagent.model.fleet import FloatingAddress
from netagent.policy.traffic import ICMP6, TrafficTextError, parse_traffic

HOST = "host"


@dataclass(frozen=True, slots=True)
class _End:
    """One party. host: where it is asked; empty outside."""

    stable_id: StableId
    address: bytes = b""
    host: str = ""
    is_machine: bool = False


@dataclass(frozen=True, slots=True)
class EndOpinion:
    """What one end says, or the problem why it does not."""

    at: str
    host: str
    opinion: types_pb2.Opinion | None
    problem: str = ""


async def explain_flow(
    view: View, hub: SyncHub, source: str, destination: str, traffic: str
) -> list[EndOpinion]:
    """Return the opinion of each end that is asked, the sender's first.

    source, destination: a machine, a floating address, `host`, or an address outside.
    Raises InvalidError, NotFoundError (machine) and StateError (machine not placed).
    """
    protocol, port = _parse_point(traffic)
    first, second = _find_end(view, "from", source), _find_end(view, "to", destination)
    first, second = _as_host(view, first, second), _as_host(view, second, first)
    if not (first.is_machine or second.is_machine):
        raise InvalidError("from", "neither end is a machine, so no policy is asked")
    question = types_pb2.FlowQuestion(
        source_id=first.stable_id,
        destination_id=second.stable_id,
        source_address=first.address,
        destination_address=second.address,
        protocol=protocol,
        port=port,
    )
    asked: list[Awaitable[EndOpinion]] = []
    for at, end in (("sender", first), ("receiver", second)):
        if end.is_machine:
            flow = types_pb2.FlowQuestion()
            flow.CopyFrom(question)
            flow.at_receiver = at == "receiver"
            asked.append(_ask(hub, at, end.host, flow))
    return list(await asyncio.gather(*asked))


async def _ask(hub: SyncHub, at: str, host: str, flow: types_pb2.FlowQuestion) -> EndOpinion:
    try:
        return EndOpinion(at, host, await hub.session(host).ask(flow))
    except UnavailableError as error:
        return EndOpinion(at, host, None, str(error))


def _find_end(view: View, field: str, text: str) -> _End | None:
    """Return who is meant; None for `host`, which depends on the other end."""
    if text == HOST:
        return None
    if (floating := _find_floating(view, text)) is not None:
        host = locate(view, floating)
        if not host:
            raise StateError(f"{field}: floating address {floating.path} is on no host now")
        return _End(floating.stable_id, host=host, is_machine=True)
    if ":" in text:
        try:
            address = IPv6Address(text)
        except AddressValueError as error:
            raise InvalidError(field, f"{text!r} is no IPv6 address: {error}") from error
        if address in view.fleet.prefix:
            problem = f"{text} is within the fleet's prefix; name the machine, or write host"
            raise InvalidError(field, problem)
        return _End(StableId(0), address=address.packed)
    machine = view.machines[resolve_machine(view, text, field)].value.machine
    if machine.host is None:
        raise StateError(f"{field}: machine {machine.path} is on no host yet")
    return _End(machine.stable_id, host=machine.host, is_machine=True)


def _find_floating(view: View, text: str) -> FloatingAddress | None:
    """Return the floating address that a text means; a machine of the same bare name goes first."""
    if text in view.paths_by_name:
        return None
    try:
        return view.addresses[resolve_address(view, text)].value
    except (InvalidError, NotFoundError):
        return None


def _as_host(view: View, end: _End | None, other: _End | None) -> _End:
    if end is not None:
        return end
    if other is None or not other.host:
        raise InvalidError("to", "`host` is the host of the other end, which has to be a machine")
    return _End(view.hosts[other.host].value.stable_id)


def _parse_point(text: str) -> tuple[int, int]:
    try:
        items = parse_traffic(text)
    except TrafficTextError as error:
        raise InvalidError("traffic", f"{error.message}; {error.hint}") from error
    one = items[0]
    last = one.first | 0xFF if one.protocol == ICMP6 else one.first
    if len(items) > 1 or one.protocol is None or one.last != last:
        raise InvalidError("traffic", f"{text!r} is more than one packet; name one, as tcp/443")
    return one.protocol, one.first
