"""What somebody on the underlay sees: WireGuard, and not one byte more than WireGuard needs."""

from __future__ import annotations

from collections import Counter
from ipaddress import IPv6Address, IPv6Network

from integration.lab.host import WIREGUARD_PORT
from integration.lab.lab import CONTROL_PORT, Lab
from integration.lab.wait import wait_until
from integration.scenarios.captures import Capture, capturing
from integration.scenarios.traffic import datagrams, place_of, received

ETHERNET_BYTES = 14
UDP_OVER_IPV4_BYTES = 28
WIREGUARD_BYTES = 32
KEEPALIVE_BYTES = WIREGUARD_BYTES
DATA_MESSAGE = 4
INNER_HEADERS_BYTES = 48
PATTERN = b"this-must-never-be-seen-in-clear"


def _outer_bytes(inner_bytes: int) -> int:
    """Return the length of the IPv4 packet that carries an inner packet."""
    padded = (inner_bytes + 15) // 16 * 16
    return UDP_OVER_IPV4_BYTES + WIREGUARD_BYTES + padded


def _wireguard(frame: bytes) -> bytes | None:
    """Return the IPv4 packet if it is WireGuard's between two hosts."""
    packet = frame[ETHERNET_BYTES:]
    is_udp = frame[12:14] == b"\x08\x00" and packet[9] == 17
    ports = int.from_bytes(packet[20:22], "big"), int.from_bytes(packet[22:24], "big")
    return packet if is_udp and ports == (WIREGUARD_PORT, WIREGUARD_PORT) else None


def _is_expected(frame: bytes) -> bool:
    """Whether a frame is WireGuard's, control's, or what the underlay itself needs."""
    kind, packet = frame[12:14], frame[ETHERNET_BYTES:]
    if kind == b"\x08\x06":
        return True
    if kind == b"\x86\xdd":
        return packet[8] == 0xFE or packet[24] == 0xFF  # neighbour discovery of the underlay
    if kind == b"\x08\x00" and packet[9] == 6:
        ports = int.from_bytes(packet[20:22], "big"), int.from_bytes(packet[22:24], "big")
        return CONTROL_PORT in ports
    return _wireguard(frame) is not None


def _data_from(source: bytes, capture: Capture) -> Counter[int]:
    """Return how many data packets of which length (IPv4) a host has sent."""
    outer = Counter(
        int.from_bytes(packet[2:4], "big")
        for frame in capture.frames
        if (packet := _wireguard(frame)) is not None
        if packet[12:16] == source and packet[28] == DATA_MESSAGE
    )
    outer.pop(UDP_OVER_IPV4_BYTES + KEEPALIVE_BYTES, None)
    return outer


def _all_wireguard(capture: Capture) -> list[bytes]:
    return [frame for frame in capture.frames if _wireguard(frame) is not None]


def test_the_mesh_adds_nothing_beyond_wireguard(shared: Lab) -> None:
    web, db = place_of(shared.machines["shop/web-1"]), place_of(shared.machines["shop/db-1"])
    mtu_bytes = shared.hosts["host-a"].status().mtu_bytes
    sizes = [INNER_HEADERS_BYTES, 49, 64, 65, 100, 1000, 1279, 1280, mtu_bytes - 1, mtu_bytes]
    count = 5

    with (
        capturing(shared.fabric, "port-a") as capture,
        datagrams(db, 7200) as heard,
        datagrams(web) as speaks,
    ):
        for size in sizes * count:
            speaks.sendto(bytes(size - INNER_HEADERS_BYTES), (db.address, 7200))
            assert received(heard) is not None
        # tcpdump writes a moment later than the machine hears.
        source = shared.hosts["host-a"].address.packed
        everything = len(sizes) * count
        wait_until("all is captured", lambda: _data_from(source, capture).total() >= everything)

    outer = _data_from(source, capture)
    assert outer == Counter(_outer_bytes(size) for size in sizes * count)


def test_nothing_crosses_the_underlay_in_clear(shared: Lab) -> None:
    web, db = place_of(shared.machines["shop/web-1"]), place_of(shared.machines["shop/db-1"])

    with (
        capturing(shared.fabric, "port-a") as capture,
        datagrams(db, 7201) as heard,
        datagrams(web) as speaks,
    ):
        speaks.sendto(PATTERN * 100, (db.address, 7201))  # in fragments
        assert received(heard) == PATTERN * 100
        heard.sendto(PATTERN, speaks.getsockname())
        assert received(speaks) == PATTERN
        # Three fragments and the answer.
        wait_until("all is captured", lambda: len(_all_wireguard(capture)) >= 4)

    locators = [IPv6Network(host.status().locator) for host in shared.hosts.values()]
    secrets = [PATTERN[:16], *(locator.network_address.packed[:8] for locator in locators)]
    secrets += [IPv6Address(place.address).packed[:8] for place in (web, db)]
    for frame in capture.frames:
        assert _is_expected(frame), frame.hex()
        if _wireguard(frame) is not None:
            assert not [secret for secret in secrets if secret in frame], frame.hex()
