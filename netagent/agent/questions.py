"""Questions of control about the first packet of a flow, answered from what the kernel holds.

Who is asked is docs/architecture.md, "Access" 7. Rules are numbers in the kernel; their names come
from the view.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv6Address

from netagent.agent.ports import DatapathPort
from netagent.api.types.v1 import types_pb2
from netagent.model.addresses import HOST_NETWORK, Locator, StableId, network_of
from netagent.model.errors import InvalidError, StateError
from netagent.model.fleet import Identity
from netagent.policy.entries import Direction
from netagent.policy.language import Verdict
from netagent.reconcile.view import View

Party = StableId | IPv6Address
"""A machine or host by its id, or somebody outside by address."""


@dataclass(frozen=True, slots=True)
class FlowQuestion:
    """One packet. port: destination port; ICMPv6: `type << 8 | code`; 0 where there is none.

    at_receiver: asked as the receiver's host; else as the sender's.
    """

    source: Party
    destination: Party
    protocol: int
    port: int
    at_receiver: bool


@dataclass(frozen=True, slots=True)
class Asked:
    """Whose policy is asked, and as what."""

    network: int
    direction: Direction


def question_from_message(message: types_pb2.FlowQuestion) -> FlowQuestion:
    """Return the question; InvalidError names the field that makes no sense."""
    if not 0 < message.protocol <= 0xFF:
        raise InvalidError("flow.protocol", f"{message.protocol} is not within 1 to 255")
    if message.port > 0xFFFF:
        raise InvalidError("flow.port", f"{message.port} is not within 0 to 65535")
    return FlowQuestion(
        _party("flow.source", message.source_id, message.source_address),
        _party("flow.destination", message.destination_id, message.destination_address),
        message.protocol,
        message.port,
        message.at_receiver,
    )


def who_is_asked(source: Party, destination: Party, *, at_receiver: bool) -> Asked | None:
    """Return whose policy one end asks; None: nobody's."""
    sending, receiving = _network(source), _network(destination)
    if sending == receiving == HOST_NETWORK:
        return None
    if at_receiver:
        # To a host, the policy of the sender's network speaks at both ends.
        network = sending if receiving == HOST_NETWORK else receiving
        if receiving is None or network is None:
            return None
    else:
        network = sending
        if network is None or network == HOST_NETWORK:
            return None
    if sending == receiving:
        return Asked(network, Direction.INSIDE)
    return Asked(network, Direction.EGRESS if network == sending else Direction.INGRESS)


def answer_question(
    question: FlowQuestion, datapath: DatapathPort, view: View, own_locator: Locator
) -> types_pb2.Opinion:
    """Return what this host's kernel says. Reads only; any thread may ask.

    Raises StateError when the host cannot say: it does not speak for that end, does not know the
    other, or lacks the policy. DataplaneError when the kernel refuses or its entries are damaged.
    """
    end = question.destination if question.at_receiver else question.source
    if not isinstance(end, IPv6Address):
        location = datapath.location.get(end)
        if location is None or location.locator != own_locator:
            raise StateError(f"{_describe(view, end)} is not located on this host")
    asked = who_is_asked(question.source, question.destination, at_receiver=question.at_receiver)
    if asked is None:
        return types_pb2.Opinion(allowed=True)
    name = view.network_name(asked.network)
    found = datapath.policies.ask(
        asked.network,
        asked.direction,
        _identify(datapath, view, question.source),
        _identify(datapath, view, question.destination),
        question.protocol,
        question.port,
    )
    if found is None:
        raise StateError(f"this host has no policy of network {name}, and drops such packets")
    return types_pb2.Opinion(
        network=name,
        version=found.version,
        allowed=found.verdict is Verdict.ALLOW,
        rule=view.rule_name(asked.network, found.rule),
        audited=found.audit_rule is not None,
        audit_rule=view.rule_name(asked.network, found.audit_rule or 0),
    )


def _party(field: str, stable_id: int, address: bytes) -> Party:
    if bool(stable_id) == bool(address):
        raise InvalidError(field, "give either an id or an address")
    if stable_id:
        return StableId(stable_id)
    if len(address) != 16:
        raise InvalidError(f"{field}_address", f"{len(address)} bytes instead of 16")
    return IPv6Address(address)


def _network(party: Party) -> int | None:
    return None if isinstance(party, IPv6Address) else network_of(party)


def _identify(datapath: DatapathPort, view: View, party: Party) -> Identity | IPv6Address:
    if isinstance(party, IPv6Address):
        return party
    location = datapath.location.get(party)
    if location is None:
        raise StateError(f"this host does not know where {_describe(view, party)} is")
    return location.identity


def _describe(view: View, party: StableId) -> str:
    return view.party_name(party) or f"id {party:016x}"
