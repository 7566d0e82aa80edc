"""What the kernel of a host holds, read and altered behind its agent's back."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from ipaddress import IPv6Address, IPv6Network
from pathlib import Path
from typing import TypeVar

from integration.lab.host import Host
from netagent.dataplane.abi import pin_directory
from netagent.dataplane.tables import CONNTRACK, ENDPOINT, LOCATION, TRANSITION, Layout, Table
from netagent.model.addresses import Locator, StableId

K = TypeVar("K")
V = TypeVar("V")

__all__ = [
    "CONNTRACK",
    "ENDPOINT",
    "LOCATION",
    "TRANSITION",
    "id_of",
    "locator_of",
    "pinned",
    "table",
]


def pinned(host: Host) -> Path:
    """Return a host's pin directory as this process sees it."""
    return pin_directory(Path(f"/proc/{host.namespace.pid}/root/sys/fs/bpf"))


@contextlib.contextmanager
def table(host: Host, layout: Layout[K, V]) -> Iterator[Table[K, V]]:
    """Open one pinned map of a host, for the block."""
    opened = host.open_table(layout)
    try:
        yield opened
    finally:
        opened.close()


def id_of(address: str) -> StableId:
    """Return the id within a stable address."""
    return StableId(int(IPv6Address(address)) & ((1 << 64) - 1))


def locator_of(host: Host) -> Locator:
    """Return the locator of a host, from its own status."""
    return Locator(int(IPv6Network(host.status().locator).network_address) >> 64)
