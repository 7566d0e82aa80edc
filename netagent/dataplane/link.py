"""One interface as the kernel has it."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from netagent.model.errors import DataplaneError


@dataclass(frozen=True, slots=True)
class Link:
    """An interface as the kernel has it. mac: 6 bytes, or none for WireGuard."""

    name: str
    ifindex: int
    mac: bytes
    mtu_bytes: int
    is_up: bool


@contextmanager
def refusals(operation: str, subject: str) -> Iterator[None]:
    """Tell what the kernel refuses, or pyroute2 cannot send, as a DataplaneError."""
    try:
        yield
    except NetlinkError as error:
        raise DataplaneError(operation, subject, str(error), error.code) from error
    except OSError as error:
        raise DataplaneError(operation, subject, str(error), error.errno) from error


def find_link(netlink: IPRoute, **by: Any) -> Link | None:
    """Return the interface with that `ifname` or `index`, or None."""
    try:
        messages = list(netlink.link("get", **by))
    except NetlinkError as error:
        if error.code == errno.ENODEV:
            return None
        raise DataplaneError("find", f"interface {by}", str(error), error.code) from error
    return read_link(messages[0]) if messages else None


def read_link(message: Any) -> Link:
    """Return the interface of an RTM_NEWLINK message."""
    mac = str(message.get_attr("IFLA_ADDRESS") or "")
    return Link(
        name=message.get_attr("IFLA_IFNAME"),
        ifindex=message["index"],
        mac=bytes.fromhex(mac.replace(":", "")),
        mtu_bytes=message.get_attr("IFLA_MTU"),
        is_up=bool(message["flags"] & 1),
    )


def link_gone(name: str) -> DataplaneError:
    """Return the error for an interface that is not there."""
    return DataplaneError("find", f"interface {name}", "there is none of that name", errno.ENODEV)
