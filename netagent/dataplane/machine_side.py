"""The machine's side of a pair, inside the machine's namespace.

`ifindex` is the interface's index there: the kernel tells it on the host's side, as the index of
the other end. Indices of different namespaces may be equal, so no other way of finding it is safe
while a machine has interfaces of two hosts.

What is there is asked for one by one: a machine's tables are as long as the machine pleases.
"""

from __future__ import annotations

import errno
from ipaddress import IPv6Address
from typing import Final

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from netagent.dataplane.link import find_link, link_gone, refusals
from netagent.model.addresses import GATEWAY_ADDRESS, GATEWAY_MAC

ALIAS = "netagent"
"""How the alias of every interface that we make begins."""

_NUD_PERMANENT = 0x80
_IFA_F_NODAD = 0x02

_OFF_LINK: Final = "2001:db8::1"
"""Where nothing but a default route leads (RFC 3849: for documentation)."""


def name_machine_side(inside: IPRoute, ifindex: int) -> bool:
    """Give an interface that has just been moved in the first free name ethN; False when it has."""
    with refusals("name", f"the machine's interface {ifindex}"):
        messages = list(inside.link("get", index=ifindex))
        if any(message.get_attr("IFLA_IFALIAS") == ALIAS for message in messages):
            return False
        taken = {message.get_attr("IFLA_IFNAME") for message in inside.get_links()}
        name = next(f"eth{n}" for n in range(len(taken) + 1) if f"eth{n}" not in taken)
        inside.link("set", index=ifindex, ifname=name, IFLA_IFALIAS=ALIAS)
    return True


def set_machine_side(
    netlink: IPRoute, ifindex: int, address: IPv6Address, mac: bytes | None, mtu_bytes: int
) -> bool:
    """Give an interface what it lacks of MAC, MTU, being up, address, and the gateway's MAC.

    False when it lacked nothing.
    """
    link = find_link(netlink, index=ifindex)
    if link is None:
        raise link_gone(str(ifindex))
    wrote = False
    with refusals("set up", f"interface {link.name}"):
        if mac is not None and link.mac != mac:
            netlink.link("set", index=ifindex, address=mac.hex(":"))
            wrote = True
        if link.mtu_bytes != mtu_bytes:
            netlink.link("set", index=ifindex, mtu=mtu_bytes)
            wrote = True
        wrote |= bring_up(netlink, ifindex)
        wrote |= _add_address(netlink, ifindex, address)
        wrote |= _set_gateway_mac(netlink, ifindex)
    return wrote


def bring_up(netlink: IPRoute, ifindex: int) -> bool:
    """Set an interface up; False when it was."""
    link = find_link(netlink, index=ifindex)
    if link is None or link.is_up:
        return False
    with refusals("bring up", f"interface {link.name}"):
        netlink.link("set", index=ifindex, state="up")
    return True


def leads_out(inside: IPRoute, ifindex: int) -> bool:
    """Whether a default route leads through an interface."""
    try:
        messages = list(inside.route("get", family=10, dst=_OFF_LINK, oif=ifindex))
    except NetlinkError:
        return False  # no route, or one that refuses
    gateway = str(GATEWAY_ADDRESS)
    return any(message.get_attr("RTA_GATEWAY") == gateway for message in messages)


def leads_elsewhere(inside: IPRoute, ifindex: int) -> bool:
    """Whether the way out leads to a gateway of ours, through another interface."""
    try:
        messages = list(inside.route("get", family=10, dst=_OFF_LINK))
    except NetlinkError:
        return False
    gateway = str(GATEWAY_ADDRESS)
    return any(
        message.get_attr("RTA_GATEWAY") == gateway and message.get_attr("RTA_OIF") != ifindex
        for message in messages
    )


def set_default_route(inside: IPRoute, ifindex: int) -> bool:
    """Lead the default route through an interface; False when it did so already."""
    if leads_out(inside, ifindex):
        return False
    with refusals("lead", f"the machine's default route through interface {ifindex}"):
        inside.route("replace", dst="default", gateway=str(GATEWAY_ADDRESS), oif=ifindex, family=10)
    return True


def _add_address(netlink: IPRoute, ifindex: int, address: IPv6Address) -> bool:
    try:
        netlink.addr("add", index=ifindex, address=str(address), prefixlen=128, flags=_IFA_F_NODAD)
    except NetlinkError as error:
        if error.code != errno.EEXIST:
            raise
        return False
    return True


def _set_gateway_mac(netlink: IPRoute, ifindex: int) -> bool:
    gateway, mac = str(GATEWAY_ADDRESS), GATEWAY_MAC.hex(":")
    try:
        held = list(netlink.neigh("get", family=10, dst=gateway, ifindex=ifindex))
    except NetlinkError as error:
        if error.code != errno.ENOENT:
            raise
        held = []
    if any(m["state"] == _NUD_PERMANENT and m.get_attr("NDA_LLADDR") == mac for m in held):
        return False
    netlink.neigh("replace", ifindex=ifindex, dst=gateway, lladdr=mac, state=_NUD_PERMANENT)
    return True
