"""A fleet in a file, to check policies against without control.

prefix: fd12:3456:789a::/64        # may be left out
networks:
  shop:
    web-1: {app: web, env: prod}   # machine: its labels
    bare-1: {}
  ops: {}
"""

from __future__ import annotations

from ipaddress import IPv6Network

from netagent.model.errors import PolicyError
from netagent.model.fleet import Identity, check_labels, check_name
from netagent.policy.document import Node, ScalarNode, parse_document
from netagent.policy.fleet import FIRST_MACHINE_IDENTITY, FleetSnapshot, Member, make_snapshot
from netagent.policy.nodes import Reader, quote


def parse_fleet(source: str | bytes, file: str) -> FleetSnapshot:
    """Return the fleet of a file: networks numbered from 1, one identity for each label set.

    Raises PolicyError with everything that is wrong.
    """
    reader = Reader()
    root = parse_document(source, file)
    top = reader.mapping(root, "the fleet", ("prefix", "networks"), required=("networks",))
    prefix = None
    if "prefix" in top:
        prefix = reader.checked(top["prefix"][1], "prefix", _parse_prefix)
    networks: dict[str, int] = {}
    members: list[Member] = []
    identities: dict[tuple[str, tuple[tuple[str, str], ...]], Identity] = {}
    found = reader.mapping(top["networks"][1], "networks") if "networks" in top else {}
    for network, (span, machines) in found.items():
        key = ScalarNode(span, network)
        reader.checked(key, "a network's name", lambda text: check_name("name", text))
        networks[network] = len(networks) + 1
        what = f"network {quote(network)}"
        for name, (place, node) in reader.mapping(machines, what).items():
            key = ScalarNode(place, name)
            reader.checked(key, "a machine's name", lambda text: check_name("name", text))
            labels = _read_labels(reader, node, f"machine {quote(name)}")
            number = len(identities) + FIRST_MACHINE_IDENTITY
            identity = identities.setdefault((network, tuple(labels.items())), Identity(number))
            members.append(Member(network, name, identity, labels))
    if reader.problems:
        raise PolicyError(reader.problems)
    return make_snapshot(prefix, networks, members)


def _parse_prefix(text: str) -> IPv6Network:
    prefix = IPv6Network(text)
    if prefix.prefixlen != 64:
        raise ValueError(f"{prefix} is not a /64")
    return prefix


def _read_labels(reader: Reader, node: Node, what: str) -> dict[str, str]:
    labels = {}
    for key, (place, value) in reader.mapping(node, what).items():
        reader.checked(ScalarNode(place, key), what, lambda text: check_labels({text: ""}))
        text = reader.checked(value, what, lambda text: check_labels({"key": text})["key"])
        if text is not None:
            labels[key] = text
    return dict(sorted(labels.items()))
