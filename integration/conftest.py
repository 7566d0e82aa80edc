"""Labs as fixtures, on the backend of `--lab`; a test that fails prints the logs of its labs."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from integration.lab.backend import CannotDo
from integration.lab.lab import Lab
from integration.lab.results import add_results
from integration.lab.vagrant.lab import VagrantLab
from integration.lab.vagrant.place import TOOLS as VAGRANT_TOOLS
from integration.lab.vm.image import HOST_TOOLS
from integration.lab.vm.kernels import DEFAULT, check_kernels
from integration.lab.vm.lab import VmLab
from integration.lab.vm.pool import Pool

HERE = Path(__file__).parent
TOOLS = {
    "netns": ("wg", "wireguard-go", "iperf3", "tcpdump", "tc"),
    "vm": ("iperf3", "tcpdump", *HOST_TOOLS),
    "vagrant": ("iperf3", "tcpdump", *HOST_TOOLS, *VAGRANT_TOOLS),
}
LABS = {"vm": partial(VmLab, is_control_guest=False), "vagrant": VagrantLab}
"""Of virtual machines, by backend. Control is in a namespace where it can be, which is quicker."""
LAB_FIXTURES = frozenset({"lab", "shared", "fill_lab", "make_lab", "vm_lab", "vm_only"})
TIMEOUT_S = {"vm": 1800, "vagrant": 3600}
"""Of one test; the first of a run boots the lab, and may build the image. Vagrant keeps nothing."""

KERNELS = "6.1,6.12"
"""Of the hosts of virtual machines, unless `--lab-kernels` says otherwise."""

_ran = pytest.StashKey[int]()
_nothing_ran = pytest.StashKey[bool]()


def _backend(config: pytest.Config) -> str:
    return str(config.getoption("--lab") or "netns")


def _kernels(config: pytest.Config) -> list[str]:
    """Return the kernels of hosts, in turn; a fleet of both is what shows most in one run."""
    usual = KERNELS if _backend(config) == "vm" else DEFAULT
    kernels = str(config.getoption("--lab-kernels") or usual).split(",")
    try:
        check_kernels(kernels)
    except ValueError as error:
        raise pytest.UsageError(f"--lab-kernels: {error}") from error
    return kernels


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    backend = _backend(config)
    _kernels(config)  # a wrong one is said before anything is started
    absent = [tool for tool in TOOLS[backend] if not shutil.which(tool)]
    for item in items:
        if HERE not in item.path.parents:
            continue
        item.add_marker(pytest.mark.lab)
        if os.geteuid() != 0:
            item.add_marker(pytest.mark.skip(reason="needs root"))
        elif absent:
            item.add_marker(pytest.mark.skip(reason=f"needs {', '.join(absent)}"))
        elif why := _cannot_run(item, backend):
            item.add_marker(pytest.mark.skip(reason=why))
        if backend in LABS:
            item.add_marker(pytest.mark.timeout(TIMEOUT_S[backend]))


def _cannot_run(item: pytest.Item, backend: str) -> str:
    """Return why a scenario is not one of this backend, or nothing."""
    fixtures = LAB_FIXTURES & set(getattr(item, "fixturenames", ()))
    marker = item.get_closest_marker("namespaces_only")
    if backend != "netns" and marker is not None:
        return str(marker.args[0])
    if backend in LABS and not fixtures:
        return "is about namespaces of this machine"
    if backend == "netns" and fixtures & {"vm_lab", "vm_only"}:
        return "needs hosts with kernels of their own: --lab vm"
    return ""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Iterator[None]:
    """Make what a test needs; what its backend cannot make is why it is skipped."""
    with _skipping(item):
        yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Run a test; what its backend cannot do is why it is skipped."""
    with _skipping(item):
        yield


@contextlib.contextmanager
def _skipping(item: pytest.Item) -> Iterator[None]:
    try:
        yield
    except CannotDo as error:
        pytest.skip(f"{_backend(item.config)} cannot do: {error}")


def _note(item: pytest.Item, report: Any) -> None:
    """Keep what became of a test, for the table of scenarios; at once, a run may be cut short."""
    where: Path | None = item.config.getoption("--lab-results")
    if where is None:
        return
    backend = _backend(item.config)
    own = ".".join(os.uname().release.split(".")[:2])
    kernels = _kernels(item.config) if backend in LABS else [own]
    column = f"{backend}, {' + '.join(kernels)}"
    reason = ""
    if report.skipped and isinstance(report.longrepr, tuple):
        reason = str(report.longrepr[2]).removeprefix("Skipped: ")
    add_results(where, column, {item.nodeid: (report.outcome, reason)})


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> object:
    report = yield
    if call.when == "call" or report.outcome != "passed":
        _note(item, report)
    if call.when == "call":
        if not report.skipped:
            item.session.stash[_ran] = item.session.stash.get(_ran, 0) + 1
        if report.failed:
            for lab in {
                id(v): v for v in getattr(item, "funcargs", {}).values() if isinstance(v, Lab)
            }.values():
                with contextlib.redirect_stderr(io.StringIO()) as logs:
                    lab.show_logs()
                report.sections.append((f"logs of lab {lab.name}", logs.getvalue()))
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a run on a chosen backend in which nothing ran: it has shown nothing."""
    is_chosen = session.config.getoption("--lab") is not None
    is_dry = session.config.getoption("collectonly")
    if is_chosen and not is_dry and not session.stash.get(_ran, 0):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        session.config.stash[_nothing_ran] = True


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say why a run without a failure has failed."""
    if terminalreporter.config.stash.get(_nothing_ran, False):
        terminalreporter.write_line("nothing ran on this lab: the run has shown nothing", red=True)


@pytest.fixture(scope="session")
def pool(pytestconfig: pytest.Config) -> Iterator[Pool]:
    """The virtual machines of this run; none before one is asked for."""
    made = Pool(LABS[_backend(pytestconfig)], _kernels(pytestconfig))
    try:
        yield made
    finally:
        made.stop()


@pytest.fixture
def make_lab(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """What makes a lab of another shape: a context manager with the arguments of Lab."""
    if _backend(request.config) in LABS:
        pool: Pool = request.getfixturevalue("pool")
        return pool.open
    return Lab


@pytest.fixture
def lab(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Three hosts without machines, for one test that may do what it likes to them."""
    if _backend(request.config) in LABS:
        pool: Pool = request.getfixturevalue("pool")
        yield pool.take(_fill_little, is_left_as_found=False)
        return
    with Lab(hosts=3) as made:
        _fill_little(made)
        yield made


@pytest.fixture(scope="module")
def fill_lab(request: pytest.FixtureRequest) -> Iterator[Callable[[Callable[[Any], None]], Any]]:
    """What makes a lab as a function fills it, for tests that leave it as they found it."""
    if _backend(request.config) in LABS:
        pool: Pool = request.getfixturevalue("pool")
        yield lambda fill: pool.take(fill, is_left_as_found=True)
        return
    with contextlib.ExitStack() as stack:

        def make(fill: Callable[[Any], None]) -> Lab:
            made = stack.enter_context(Lab(hosts=3))
            fill(made)
            return made

        yield make


@pytest.fixture
def vm_only() -> None:
    """Says of a test that makes its own lab that this has to be one of virtual machines."""


@pytest.fixture
def vm_lab(lab: Any) -> Any:
    """The same, for what only virtual machines show."""
    return lab


def _scope(fixture_name: str, config: pytest.Config) -> Any:
    """Namespaces are cheap: one lab more for the run. Virtual machines come from the pool."""
    return "function" if _backend(config) in LABS else "session"


@pytest.fixture(scope=_scope)
def shared(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Three hosts and two networks, for tests that leave everything as they found it.

    shop: web-1 and web-2 on host-a, db-1 on host-b. lab: ops-1 on host-a, ops-2 on host-c.
    """
    if _backend(request.config) in LABS:
        pool: Pool = request.getfixturevalue("pool")
        failed_before = request.session.testsfailed
        yield pool.take(_fill, is_left_as_found=True)
        if request.session.testsfailed > failed_before:
            pool.spoil()
        return
    with Lab(hosts=3) as made:
        _fill(made)
        yield made


def _fill_little(made: Any) -> None:
    made.network("shop")


def _fill(made: Any) -> None:
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
