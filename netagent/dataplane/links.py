"""Interfaces: the host's own veth pair, machines' interfaces, and their addresses and routes.

Every interface that we make bears an alias that begins with ALIAS, by which `owned` finds it again
whoever made it; an interface that we were only handed never gets one.
Blocking; one thread at a time.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from pathlib import Path
from types import TracebackType
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from netagent.dataplane.link import Link, find_link, link_gone, read_link, refusals
from netagent.dataplane.link_use import LinkUse, observe_use
from netagent.dataplane.machine_route import MachineRoute
from netagent.dataplane.machine_side import (
    ALIAS,
    bring_up,
    leads_elsewhere,
    leads_out,
    name_machine_side,
    set_default_route,
    set_machine_side,
)
from netagent.dataplane.netns import open_netns, run_in_netns
from netagent.model.addresses import GATEWAY_ADDRESS, GATEWAY_MAC
from netagent.model.errors import DataplaneError

LOOPBACK_INDEX = 1

HOST_SIDE_MTU_BYTES = 65535
"""Of our side of each pair: a machine that raised its own MTU is to hear Packet Too Big from us,
not to have its packets dropped without a word by a smaller interface."""

_ADDR_GEN_NONE = 1


def _nothing(ifindex: int) -> None:
    """Do nothing before an interface is set up."""


class Links:
    """The interfaces of the network namespace in which this was opened."""

    def __init__(self) -> None:
        self._netlink = IPRoute()
        self._prepared: dict[str, MachineRoute] = {}

    def find(self, name: str) -> Link | None:
        """Return the interface of that name, or None."""
        return find_link(self._netlink, ifname=name)

    def find_index(self, ifindex: int) -> Link | None:
        """Return the interface of that index, or None."""
        return find_link(self._netlink, index=ifindex)

    def owned(self) -> list[Link]:
        """Return the interfaces that bear our alias, by name."""
        links = [
            read_link(message)
            for message in self._netlink.get_links()
            if str(message.get_attr("IFLA_IFALIAS") or "").startswith(ALIAS)
        ]
        return sorted(links, key=lambda link: link.name)

    def ensure_host_interface(
        self, name: str, address: IPv6Address, prefix: IPv6Network, mtu_bytes: int
    ) -> tuple[Link, Link]:
        """Put the host's own stack behind a pair of interfaces, as if it were a machine.

        Returns (the host's side, which has the address and the route to `prefix`; the gateway's
        side, on which from_host is attached). Idempotent.
        """
        gateway_name = f"{name}-gw"
        if self.find(name) is None:
            self._make_pair(gateway_name, peer={"ifname": name})
        self._ready_gateway_side(gateway_name)
        gateway = self._bring_up(gateway_name)
        link = self._must_find(name)
        set_machine_side(self._netlink, link.ifindex, address, None, mtu_bytes)
        _set_route(self._netlink, link.ifindex, prefix)
        return link, gateway

    def make_machine_interface(
        self,
        name: str,
        netns: Path,
        address: IPv6Address,
        mac: bytes,
        mtu_bytes: int,
        before_up: Callable[[int], None] = _nothing,
    ) -> Link:
        """Make a machine's interface in its namespace, with address, gateway and MTU; no route yet.

        name: of the host's side, at most 15 characters. In the machine it is the first free ethN.
        before_up: what is to be done with the host's side, by index, before anything passes it.
        Idempotent: an interface of that name is completed. Returns the host's side, which is set up
        last, so that one that is up is complete.
        """
        with open_netns(netns) as fd:
            if self.find(name) is None:
                # Made with both ends here, under a name that no other machine's can have, then
                # moved: the machine may have an interface of any name.
                self._make_pair(name, peer={"ifname": _peer_name(name)})
            peer = self.find(_peer_name(name))
            if peer is not None:
                self._move(peer, fd)
        before_up(self._ready_gateway_side(name).ifindex)
        self.mend_machine_interface(name, netns, address, mac, mtu_bytes)
        return self._bring_up(name)

    def mend_machine_interface(
        self, name: str, netns: Path, address: IPv6Address, mac: bytes, mtu_bytes: int
    ) -> bool:
        """Give the machine's side what it lacks, as after it was set down; False when nothing."""
        ifindex = self._other_end(name)

        def complete() -> bool:
            with IPRoute() as inside:
                wrote = name_machine_side(inside, ifindex)
                wrote |= set_machine_side(inside, ifindex, address, mac, mtu_bytes)
                return bring_up(inside, LOOPBACK_INDEX) or wrote

        return run_in_netns(netns, complete)

    def is_way_out(self, name: str, netns: Path) -> bool:
        """Whether the machine's default route leads through this interface."""
        ifindex = self._other_end(name)

        def ask() -> bool:
            with IPRoute() as inside:
                return leads_out(inside, ifindex)

        return run_in_netns(netns, ask)

    def leads_elsewhere(self, name: str, netns: Path) -> bool:
        """Whether another host leads the machine's default route, through its own interface."""
        ifindex = self._other_end(name)

        def ask() -> bool:
            with IPRoute() as inside:
                return leads_elsewhere(inside, ifindex)

        return run_in_netns(netns, ask)

    def prepare_machine_route(self, name: str, netns: Path) -> None:
        """Do all of activate_machine_interface that can be done ahead. Idempotent.

        The machine's namespace lives as long as this is held: until the interface is activated,
        removed or released.
        """
        if name in self._prepared:
            return
        ifindex = self._other_end(name)
        self._prepared[name] = run_in_netns(netns, lambda: MachineRoute(GATEWAY_ADDRESS, ifindex))

    def release_machine_route(self, name: str) -> None:
        """Let go of what was prepared; nothing happens when nothing was."""
        prepared = self._prepared.pop(name, None)
        if prepared is not None:
            prepared.close()

    def activate_machine_interface(self, name: str, netns: Path) -> bool:
        """Send what the machine sends through this interface; False when it did so already."""
        prepared = self._prepared.get(name)
        if prepared is not None:
            try:
                prepared.switch()
            finally:
                self.release_machine_route(name)
            return True
        ifindex = self._other_end(name)

        def switch() -> bool:
            with IPRoute() as inside:
                return set_default_route(inside, ifindex)

        return run_in_netns(netns, switch)

    def prepare_existing_interface(
        self, name: str, before_up: Callable[[int], None] = _nothing
    ) -> Link:
        """Bring up an interface that somebody else made, with the gateway's MAC.

        before_up: as for make_machine_interface. Raises DataplaneError (ENODEV) when there is none
        of that name.
        """
        before_up(self._must_find(name).ifindex)
        self._set(name, address=GATEWAY_MAC.hex(":"))
        return self._bring_up(name)

    def observe_use(self, name: str) -> LinkUse:
        """Return how an interface is used. Raises DataplaneError (ENODEV) when there is none."""
        return observe_use(self._netlink, self._must_find(name).ifindex)

    def give_back(self, name: str, mac: bytes, *, is_up: bool) -> bool:
        """Make an existing interface what it was before; False when it is so, or is gone."""
        link = self.find(name)
        if link is None or (link.mac, link.is_up) == (mac, is_up):
            return False
        if link.is_up and not is_up:
            self._set(name, state="down")
        if link.mac != mac:
            self._set(name, address=mac.hex(":"))
        return True

    def remove(self, name: str) -> bool:
        """Remove an interface; False when it was gone already."""
        self.release_machine_route(name)
        link = self.find(name)
        if link is None:
            return False
        try:
            self._netlink.link("del", index=link.ifindex)
        except NetlinkError as error:
            if error.code == errno.ENODEV:
                return False
            raise DataplaneError("remove", f"interface {name}", str(error), error.code) from error
        return True

    def underlay_mtu(self, address: IPv4Address | IPv6Address) -> int:
        """Return the MTU in bytes of the interface that has `address`.

        Raises DataplaneError when none has it.
        """
        for message in self._netlink.get_addr():
            if message.get_attr("IFA_ADDRESS") == str(address):
                link = self.find_index(message["index"])
                if link is not None:
                    return link.mtu_bytes
        detail = "no interface of this host has it; give an address of the underlay"
        raise DataplaneError("find", f"underlay address {address}", detail)

    def close(self) -> None:
        """Close the sockets; interfaces stay."""
        for name in tuple(self._prepared):
            self.release_machine_route(name)
        self._netlink.close()

    def __enter__(self) -> Links:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _make_pair(self, name: str, peer: dict[str, str]) -> None:
        try:
            self._netlink.link("add", ifname=name, kind="veth", peer=peer)
        except NetlinkError as error:
            if error.code != errno.EEXIST:
                raise DataplaneError("make", f"interface {name}", str(error), error.code) from error
        self._set(name, IFLA_IFALIAS=ALIAS)

    def _ready_gateway_side(self, name: str) -> Link:
        """Ready our side of a pair to be set up: the gateway's MAC, no addresses of its own."""
        link = self._must_find(name)
        if link.mac != GATEWAY_MAC:
            self._set(name, address=GATEWAY_MAC.hex(":"))
        if link.mtu_bytes != HOST_SIDE_MTU_BYTES:
            self._set(name, mtu=HOST_SIDE_MTU_BYTES)
        if not link.is_up:
            self._set(name, IFLA_AF_SPEC=_no_generated_addresses())
        return self._must_find(name)

    def _bring_up(self, name: str) -> Link:
        if not self._must_find(name).is_up:
            self._set(name, state="up")
        return self._must_find(name)

    def _other_end(self, name: str) -> int:
        """Return the index that the other end of a pair has in its own namespace."""
        link = self._must_find(name)
        with refusals("find", f"the other end of interface {name}"):
            (message,) = self._netlink.link("get", index=link.ifindex)
        # The kernel leaves it out where both ends have the same index.
        return int(message.get_attr("IFLA_LINK") or link.ifindex)

    def _move(self, link: Link, netns_fd: int) -> None:
        with refusals("move", f"interface {link.name} into the machine"):
            self._netlink.link("set", index=link.ifindex, net_ns_fd=netns_fd)

    def _set(self, name: str, **attributes: Any) -> None:
        link = self._must_find(name)
        with refusals("set up", f"interface {name}"):
            self._netlink.link("set", index=link.ifindex, **attributes)

    def _must_find(self, name: str) -> Link:
        link = self.find(name)
        if link is None:
            raise link_gone(name)
        return link


def _peer_name(name: str) -> str:
    """Return the name of the machine's side until it is in the machine."""
    return f"{name[:14]}+"


def _no_generated_addresses() -> dict[str, Any]:
    """No link-local address, and so no router solicitations and no MLD of ours to a machine."""
    inet6 = {"attrs": [("IFLA_INET6_ADDR_GEN_MODE", _ADDR_GEN_NONE)]}
    return {"attrs": [("AF_INET6", inet6)]}


def _set_route(netlink: IPRoute, ifindex: int, prefix: IPv6Network) -> None:
    with refusals("set", f"the route to {prefix}"):
        netlink.route("replace", dst=str(prefix), gateway=str(GATEWAY_ADDRESS), oif=ifindex)
