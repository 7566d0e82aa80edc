"""Signs of life: what a resumed machine sends, and nothing else that comes over its interface."""

from __future__ import annotations

import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from ipaddress import IPv6Address

import pytest

from netagent.dataplane.life import LifeSocket
from netagent.model.errors import DataplaneError

pytestmark = pytest.mark.root

MAC, OTHER_MAC = b"\x02\x6e\0\0\0\1", b"\x02\x6e\0\0\0\2"
ADDRESS, OTHER_ADDRESS = IPv6Address("fd00:1:2::10:1"), IPv6Address("fd00:1:2::10:2")
RARP, IPV6, IPV4 = 0x8035, 0x86DD, 0x0800


def frame(mac: bytes, kind: int, payload: bytes = bytes(46)) -> bytes:
    return b"\xff" * 6 + mac + struct.pack(">H", kind) + payload


def packet(source: IPv6Address) -> bytes:
    return struct.pack(">IHBB", 6 << 28, 0, 59, 64) + source.packed + ADDRESS.packed


@pytest.fixture
def machine(namespaces: None) -> Iterator[socket.socket]:
    """A machine at the far end of the interface tap0, as a socket that sends its frames."""
    for command in (
        "ip link add tap0 type veth peer name far",
        "sysctl -qw net.ipv6.conf.tap0.disable_ipv6=1 net.ipv6.conf.far.disable_ipv6=1",
        "ip link set tap0 up",
        "ip link set far up",
    ):
        subprocess.run(command.split(), check=True)
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
        sender.bind(("far", 0))
        yield sender


def hears(ear: LifeSocket) -> bool:
    deadline = time.monotonic() + 1
    while time.monotonic() < deadline:
        if ear.has_heard():
            return True
    return False


@pytest.mark.parametrize(
    "sign",
    [
        pytest.param(frame(MAC, RARP), id="rarp"),
        pytest.param(frame(MAC, IPV6, packet(ADDRESS)), id="a-packet-of-its-own"),
    ],
)
def test_a_sign_of_life_is_heard_after_whatever_else(machine: socket.socket, sign: bytes) -> None:
    with LifeSocket("tap0", MAC, ADDRESS) as ear:
        for other in (
            frame(OTHER_MAC, RARP),
            frame(OTHER_MAC, IPV6, packet(ADDRESS)),
            frame(MAC, IPV6, packet(OTHER_ADDRESS)),
            frame(MAC, IPV6, packet(IPv6Address("::"))),
            frame(MAC, IPV6, packet(IPv6Address("fe80::1"))),
            frame(MAC, IPV4, packet(ADDRESS)),
            frame(MAC, RARP)[:12],
        ):
            machine.send(other.ljust(14, b"\0"))
        assert not ear.has_heard()
        machine.send(sign)
        assert hears(ear)
        assert not ear.has_heard()


def test_what_is_sent_towards_the_machine_is_no_sign(machine: socket.socket) -> None:
    with LifeSocket("far", MAC, ADDRESS) as ear:
        machine.send(frame(OTHER_MAC, RARP))
        assert not ear.has_heard()


def test_an_interface_that_is_not_there_is_named(namespaces: None) -> None:
    with pytest.raises(DataplaneError, match="interface tap9"):
        LifeSocket("tap9", MAC, ADDRESS)


def test_without_the_right_to_listen_the_interface_is_named() -> None:
    attempt = (
        "from ipaddress import IPv6Address; from netagent.dataplane.life import LifeSocket;"
        "LifeSocket('lo', bytes(6), IPv6Address('::1'))"
    )
    done = subprocess.run(
        ["setpriv", "--bounding-set=-net_raw", sys.executable, "-c", attempt],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "DataplaneError" in done.stderr
    assert "interface lo" in done.stderr
