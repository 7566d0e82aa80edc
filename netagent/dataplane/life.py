"""Sees the first sign of life of a machine on its interface, before our own programs drop it.

A sign is what a machine that has just been resumed sends: the broadcast RARP of QEMU, or any packet
from its own address; both from its own MAC. What an interface sends while it is merely brought up,
neighbour discovery from `::` or a link-local address, is none. Packet sockets hear what arrives
ahead of tc, so the machine may still be located elsewhere.
"""

from __future__ import annotations

import ctypes as c
import socket
import struct
from ipaddress import IPv6Address
from types import TracebackType

from netagent.model.errors import DataplaneError

_ETH_P_ALL, _ETH_P_IPV6, _ETH_P_RARP = 0x0003, 0x86DD, 0x8035
_SO_ATTACH_FILTER = 26

_LOAD_WORD, _LOAD_HALF, _JUMP_EQUAL, _RETURN = 0x20, 0x28, 0x15, 0x06
_SOURCE_MAC_AT, _TYPE_AT, _SOURCE_ADDRESS_AT = 6, 12, 22


class LifeSocket:
    """Hears of one machine on one interface. fileno() is readable once it has shown life."""

    def __init__(self, interface: str, mac: bytes, address: IPv6Address) -> None:
        """Listen. mac: 6 bytes, wire order.

        Raises DataplaneError when there is no interface, or no right to listen (CAP_NET_RAW).
        """
        program = _assemble(mac, address)
        try:
            # Deaf until it is bound, so that it hears nothing that the filter has not seen.
            kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK
            self._socket = socket.socket(socket.AF_PACKET, kind, 0)
        except OSError as error:
            raise _refusal(interface, error) from error
        try:
            code = c.create_string_buffer(program)
            fprog = struct.pack("HxxxxxxQ", len(program) // 8, c.addressof(code))
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, fprog)
            self._socket.bind((interface, _ETH_P_ALL))
        except OSError as error:
            self._socket.close()
            raise _refusal(interface, error) from error

    def fileno(self) -> int:
        """Return the descriptor; it stays ours."""
        return self._socket.fileno()

    def has_heard(self) -> bool:
        """Whether the machine has shown life."""
        try:
            return bool(self._socket.recv(1))
        except OSError:  # nothing there, or the interface has gone
            return False

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()

    def __enter__(self) -> LifeSocket:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _refusal(interface: str, error: OSError) -> DataplaneError:
    detail = error.strerror or str(error)
    return DataplaneError("watch", f"interface {interface}", detail, error.errno)


def _assemble(mac: bytes, address: IPv6Address) -> bytes:
    """Return the classic BPF program that accepts a machine's signs of life alone."""
    high, low = struct.unpack(">IH", mac)
    words = struct.unpack(">4I", address.packed)
    # (operation, operand, where to when equal); else to the end, which rejects.
    checks: list[tuple[int, int, str]] = [
        (_LOAD_WORD, _SOURCE_MAC_AT, ""),
        (_JUMP_EQUAL, high, "next"),
        (_LOAD_HALF, _SOURCE_MAC_AT + 4, ""),
        (_JUMP_EQUAL, low, "next"),
        (_LOAD_HALF, _TYPE_AT, ""),
        (_JUMP_EQUAL, _ETH_P_RARP, "accept or next"),
        (_JUMP_EQUAL, _ETH_P_IPV6, "next"),
    ]
    for number, word in enumerate(words):
        checks.append((_LOAD_WORD, _SOURCE_ADDRESS_AT + 4 * number, ""))
        checks.append((_JUMP_EQUAL, word, "next"))
    accept, reject = len(checks), len(checks) + 1
    lines = []
    for number, (operation, operand, where) in enumerate(checks):
        if operation != _JUMP_EQUAL:
            lines.append(struct.pack("HBBI", operation, 0, 0, operand))
        elif where == "next":
            lines.append(struct.pack("HBBI", operation, 0, reject - number - 1, operand))
        else:
            lines.append(struct.pack("HBBI", operation, accept - number - 1, 0, operand))
    lines.append(struct.pack("HBBI", _RETURN, 0, 0, 1))
    lines.append(struct.pack("HBBI", _RETURN, 0, 0, 0))
    return b"".join(lines)
