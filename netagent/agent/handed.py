"""Which interfaces of a host may be handed to a machine: those that nothing else depends on.

An attached interface gets the gateway's MAC, and our filter takes every packet that comes in by it.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

from netagent.dataplane.link_use import LinkUse
from netagent.model.errors import InvalidError, StateError

_INSTEAD = "give a tap, or the host's end of a veth pair, that is the machine's alone"


def check_handed_interface(
    name: str, use: LinkUse, endpoint_address: IPv4Address | IPv6Address
) -> None:
    """Raise InvalidError for a wrong kind of interface, StateError for one that is in use.

    endpoint_address: the one that this host's WireGuard listens on.
    """
    if name == "lo":
        raise InvalidError("interface", f"lo is the host's loopback; {_INSTEAD}")
    if use.is_ours:
        raise InvalidError("interface", f"{name} is the agent's own; {_INSTEAD}")
    if endpoint_address in use.addresses:
        raise StateError(f"interface: {name} carries this host's WireGuard endpoint; {_INSTEAD}")
    if use.has_default_route:
        raise StateError(f"interface: {name} has a default route of this host; {_INSTEAD}")
    if use.addresses:
        raise StateError(f"interface: {name} has the host's address {use.addresses[0]}; {_INSTEAD}")
    if use.master is not None:
        raise StateError(
            f"interface: {name} is a port of {use.master}, which would hear nothing from it any"
            f" more; take it out (ip link set {name} nomaster), or {_INSTEAD}"
        )
    if not use.is_ethernet:
        raise InvalidError("interface", f"{name} carries no Ethernet frames; {_INSTEAD}")
    if use.kind not in ("tun", "veth"):
        kind = f"a {use.kind} interface" if use.kind else "hardware"
        raise InvalidError("interface", f"{name} is {kind}; {_INSTEAD}")
