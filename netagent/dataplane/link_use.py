"""What an interface that we are handed is, and what else it is used for on this host."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

from pyroute2 import IPRoute

from netagent.dataplane.link import link_gone
from netagent.dataplane.machine_side import ALIAS

_ARPHRD_ETHER = 1


@dataclass(frozen=True, slots=True)
class LinkUse:
    """One interface in use.

    kind: the kernel's word, as `tun` (of taps as well), `veth` or `bridge`; empty for hardware and
    `lo`. is_ours: made by an agent. master: the bridge, bond or VRF that has it, or None.
    addresses: those with more than link scope, sorted by version and number.
    """

    kind: str
    is_ethernet: bool
    is_ours: bool
    master: str | None
    addresses: tuple[IPv4Address | IPv6Address, ...]
    has_default_route: bool


def observe_use(netlink: IPRoute, ifindex: int) -> LinkUse:
    """Return how the interface of that index is used; DataplaneError when there is none."""
    links = {int(message["index"]): message for message in netlink.get_links()}
    if ifindex not in links:
        raise link_gone(str(ifindex))
    message = links[ifindex]
    info = message.get_attr("IFLA_LINKINFO")
    master = message.get_attr("IFLA_MASTER")
    master_link = links.get(master)
    return LinkUse(
        kind=str(info.get_attr("IFLA_INFO_KIND") or "") if info else "",
        is_ethernet=message["ifi_type"] == _ARPHRD_ETHER,
        is_ours=str(message.get_attr("IFLA_IFALIAS") or "").startswith(ALIAS),
        master=str(master_link.get_attr("IFLA_IFNAME") if master_link else master)
        if master
        else None,
        addresses=tuple(
            sorted(_read_addresses(netlink, ifindex), key=lambda a: (a.version, int(a)))
        ),
        has_default_route=any(_default_routes(netlink, ifindex)),
    )


def _read_addresses(netlink: IPRoute, ifindex: int) -> Iterator[IPv4Address | IPv6Address]:
    for message in netlink.get_addr(index=ifindex):
        # The own end of a point-to-point address is in IFA_LOCAL, which IPv6 leaves out elsewhere.
        text = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
        address = ip_address(text)
        if not address.is_link_local:
            yield address


def _default_routes(netlink: IPRoute, ifindex: int) -> Iterator[bool]:
    for family in (socket.AF_INET, socket.AF_INET6):
        for message in netlink.get_routes(family=family):
            if message["dst_len"] == 0:
                hops = message.get_attr("RTA_MULTIPATH") or ()
                yield message.get_attr("RTA_OIF") == ifindex or any(
                    hop["oif"] == ifindex for hop in hops
                )
