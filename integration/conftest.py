"""Labs as fixtures; a test that fails prints the logs of the labs it had."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.lab.lab import Lab

HERE = Path(__file__).parent
TOOLS = ("wg", "wireguard-go", "iperf3", "tcpdump", "tc")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    absent = [tool for tool in TOOLS if not shutil.which(tool)]
    for item in items:
        if HERE not in item.path.parents:
            continue
        item.add_marker(pytest.mark.lab)
        if os.geteuid() != 0:
            item.add_marker(pytest.mark.skip(reason="needs root"))
        elif absent:
            item.add_marker(pytest.mark.skip(reason=f"needs {', '.join(absent)}"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> object:
    report = yield
    if call.when == "call" and call.excinfo is not None and hasattr(item, "funcargs"):
        for lab in {id(v): v for v in item.funcargs.values() if isinstance(v, Lab)}.values():
            with contextlib.redirect_stderr(io.StringIO()) as logs:
                lab.show_logs()
            report.sections.append((f"logs of lab {lab.name}", logs.getvalue()))
    return report


@pytest.fixture
def lab() -> Iterator[Lab]:
    """Three hosts without machines, for one test that may do what it likes to them."""
    with Lab(hosts=3) as made:
        made.network("shop")
        yield made


@pytest.fixture(scope="session")
def shared() -> Iterator[Lab]:
    """Three hosts and two networks, for tests that leave everything as they found it.

    shop: web-1 and web-2 on host-a, db-1 on host-b. lab: ops-1 on host-a, ops-2 on host-c.
    """
    with Lab(hosts=3) as made:
        made.network("shop")
        made.network("lab")
        made.machine("shop/web-1", "host-a")
        made.machine("shop/web-2", "host-a")
        made.machine("shop/db-1", "host-b")
        made.machine("lab/ops-1", "host-a")
        made.machine("lab/ops-2", "host-c")
        for path in ("shop/web-2", "shop/db-1"):
            made.machines["shop/web-1"].wait_reaches(made.machines[path])
        made.machines["lab/ops-1"].wait_reaches(made.machines["lab/ops-2"])
        yield made
