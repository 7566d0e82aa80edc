"""Hears from the kernel when an interface comes or goes, so that nobody has to poll.

Only a bell: it says which name rang, the auditor looks what is the matter. When the kernel says
that messages were lost, it rings for everything. Source: rtnetlink(7), RTMGRP_LINK.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

_RTM_NEWLINK = 16
_RTM_DELLINK = 17
_RTMGRP_LINK = 1
_IFLA_IFNAME = 3
_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr
_INFO_BYTES = 16  # struct ifinfomsg
_ATTRIBUTE = struct.Struct("=HH")  # struct rtattr


@dataclass(frozen=True, slots=True)
class LinkEvent:
    """An interface came or changed, or went. name: empty when messages were lost."""

    name: str
    is_gone: bool


def parse_events(datagram: bytes) -> Iterator[LinkEvent]:
    """Yield the events of one datagram; other messages are passed over."""
    offset = 0
    while offset + _HEADER.size <= len(datagram):
        length, kind, *_ = _HEADER.unpack_from(datagram, offset)
        if length < _HEADER.size:
            return
        if kind in (_RTM_NEWLINK, _RTM_DELLINK):
            body = datagram[offset + _HEADER.size + _INFO_BYTES : offset + length]
            yield LinkEvent(_interface_name(body), kind == _RTM_DELLINK)
        offset += -(-length // 4) * 4


def _interface_name(attributes: bytes) -> str:
    offset = 0
    while offset + _ATTRIBUTE.size <= len(attributes):
        length, kind = _ATTRIBUTE.unpack_from(attributes, offset)
        if length < _ATTRIBUTE.size:
            break
        if kind == _IFLA_IFNAME:
            raw = attributes[offset + _ATTRIBUTE.size : offset + length]
            return raw.rstrip(b"\0").decode(errors="replace")
        offset += -(-length // 4) * 4
    return ""


async def watch_links(on_event: Callable[[LinkEvent], None]) -> None:
    """Call `on_event` for every event in this network namespace, for ever."""
    loop = asyncio.get_running_loop()
    with socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE
    ) as netlink:
        netlink.bind((0, _RTMGRP_LINK))
        while True:
            try:
                datagram = await loop.sock_recv(netlink, 65_536)
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                on_event(LinkEvent("", is_gone=True))
                continue
            for event in parse_events(datagram):
                on_event(event)
