"""What tests/ and integration/ share: the option `--long`, and no time limits on drawn examples."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

BACKENDS = ("netns", "vm", "vagrant")

# Several labs may run on the machine: how long an example takes says nothing about our code.
settings.register_profile("shared", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare `--long`, and which lab the scenarios run on."""
    parser.addoption("--long", action="store_true", help="also run tests marked `long`")
    parser.addoption(
        "--lab",
        choices=BACKENDS,
        help="what hosts of the lab are: namespaces, VMs, Vagrant's VMs",
    )
    parser.addoption(
        "--lab-results", type=Path, metavar="FILE", help="where to add what became of scenarios"
    )
    parser.addoption(
        "--lab-kernels", help="of VMs, by host in turn: 6.1,6.12 unless set, 6.1 or 6.12"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip the long tests unless they are asked for."""
    if config.getoption("--long"):
        return
    skip = pytest.mark.skip(reason="runs only with --long")
    for item in items:
        if item.get_closest_marker("long"):
            item.add_marker(skip)
