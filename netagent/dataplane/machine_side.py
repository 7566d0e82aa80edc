"""The machine's side of a pair, inside the machine's namespace.

`ifindex` is the interface's index there: the kernel tells it on the host's side, as the index of
the other end. Indices of different namespaces may be equal, so no other way of finding it is safe
while a machine has interfaces of two hosts.
"""

from __future__ import annotations

from ipaddress import IPv6Address

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from netagent.dataplane.link import find_link, link_gone
from netagent.model.addresses import GATEWAY_ADDRESS, GATEWAY_MAC
from netagent.model.errors import DataplaneError

ALIAS = "netagent"
"""How the alias of every interface that we make begins."""

_NUD_PERMANENT = 0x80
_IFA_F_NODAD = 0x02


def name_machine_side(inside: IPRoute, ifindex: int) -> None:
    """Give an interface that has just been moved in the first free name ethN. Idempotent."""
    messages = list(inside.get_links())
    if any(m["index"] == ifindex and m.get_attr("IFLA_IFALIAS") == ALIAS for m in messages):
        return
    taken = {message.get_attr("IFLA_IFNAME") for message in messages}
    name = next(f"eth{n}" for n in range(len(taken) + 1) if f"eth{n}" not in taken)
    inside.link("set", index=ifindex, ifname=name, IFLA_IFALIAS=ALIAS)


def set_machine_side(
    netlink: IPRoute, ifindex: int, address: IPv6Address, mac: bytes | None, mtu_bytes: int
) -> None:
    """Give an interface what a machine needs: MAC, MTU, address, and the gateway's MAC."""
    link = find_link(netlink, index=ifindex)
    if link is None:
        raise link_gone(str(ifindex))
    try:
        if mac is not None and link.mac != mac:
            netlink.link("set", index=link.ifindex, address=mac.hex(":"))
        if link.mtu_bytes != mtu_bytes:
            netlink.link("set", index=link.ifindex, mtu=mtu_bytes)
        bring_up(netlink, ifindex)
        netlink.addr(
            "replace", index=link.ifindex, address=str(address), prefixlen=128, flags=_IFA_F_NODAD
        )
        netlink.neigh(
            "replace",
            ifindex=link.ifindex,
            dst=str(GATEWAY_ADDRESS),
            lladdr=GATEWAY_MAC.hex(":"),
            state=_NUD_PERMANENT,
        )
    except NetlinkError as error:
        raise DataplaneError("set up", f"interface {link.name}", str(error), error.code) from error


def bring_up(netlink: IPRoute, ifindex: int) -> None:
    """Set an interface up if it is not."""
    link = find_link(netlink, index=ifindex)
    if link is not None and not link.is_up:
        netlink.link("set", index=link.ifindex, state="up")


def set_default_route(netlink: IPRoute, ifindex: int) -> bool:
    """Lead the default route through an interface; False when it did so already."""
    for message in netlink.get_routes(family=10, table=254):
        if message["dst_len"] == 0 and message.get_attr("RTA_OIF") == ifindex:
            return False
    netlink.route("replace", dst="default", gateway=str(GATEWAY_ADDRESS), oif=ifindex, family=10)
    return True
