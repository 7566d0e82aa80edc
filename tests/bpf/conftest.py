"""Hosts with real maps and programs, in namespaces of their own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fleet_of_three import HOSTS, INTERFACES, constants_of
from host_routes import set_up_routes
from host_under_test import HostUnderTest
from kernel.namespaces import make_interface, mount_bpffs, own_namespaces


@pytest.fixture(scope="module")
def namespaces() -> Iterator[None]:
    with own_namespaces():
        yield


@pytest.fixture(scope="module")
def hosts(
    namespaces: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, HostUnderTest]]:
    """Return the three hosts of `fleet_of_three`, each with maps and programs of its own."""
    bpffs = mount_bpffs(tmp_path_factory.mktemp("bpffs"))
    for name, ifindex in INTERFACES.items():
        make_interface(name, ifindex)
    set_up_routes()
    opened = {name: HostUnderTest(bpffs / name, constants_of(name)) for name in HOSTS}
    yield opened
    for host in opened.values():
        host.close()
