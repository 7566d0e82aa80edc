"""Holds the direction of imports, from the top of docs/architecture to the model at the bottom."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "netagent"

UPWARDS = "arrows point down the list only: whoever is below can be used and tested without it"
PURE = "a pure package is handed time, randomness and other's data as values, so that tests can"

EDGES = ("agent", "cli", "control", "dataplane", "settings", "store", "systemd")

BANS = {
    "agent": [
        ("control", "they are separate processes that know each other by the API alone"),
        ("store", "the agent keeps a replica; the store is control's"),
        ("cli", UPWARDS),
        ("settings", "the agent is handed a checked configuration"),
    ],
    "control": [
        ("agent", "they are separate processes that know each other by the API alone"),
        ("dataplane", "control runs without root and never touches a kernel"),
        ("cli", UPWARDS),
        ("settings", "control is handed a checked configuration"),
    ],
    "store": [
        *((name, UPWARDS) for name in ("agent", "cli", "control", "settings")),
        ("dataplane", "storage knows nothing of the kernel"),
        ("api", "the store keeps bytes and never knows what they mean"),
    ],
    "dataplane": [
        *((name, UPWARDS) for name in ("agent", "cli", "control", "settings")),
        ("store", "the kernel's edge gets its work handed, it reads no storage"),
        ("api", "the kernel's edge speaks of model values, never of messages"),
    ],
    "settings": [
        *((name, "the loader is generic: it is handed the class") for name in ("agent", "control")),
        *((name, "settings are plain values") for name in ("api", "cli", "dataplane", "store")),
    ],
    "systemd": [
        (name, "units and notifications know nothing of what the daemons do")
        for name in ("agent", "api", "cli", "control", "dataplane", "settings", "store")
    ],
    "api": [(name, UPWARDS) for name in EDGES],
    "reconcile": [(name, PURE) for name in (*EDGES, "api")],
    "moves": [(name, PURE) for name in (*EDGES, "api")],
    "policy": [(name, PURE) for name in (*EDGES, "api")],
    "model": [
        (name, "the model imports nothing of ours")
        for name in (*EDGES, "api", "moves", "policy", "reconcile")
    ],
    "cli": [
        ("store", "the command speaks to control, never to its files"),
        ("dataplane", "the command speaks to the agent, never to the kernel"),
    ],
}

OUTSIDE_BANS = {
    "click": (("cli",), "only the command talks to people"),
    "rich": (("cli",), "only the command talks to people"),
    "pyroute2": (("dataplane", "agent"), "netlink is an edge"),
    "ctypes": (("dataplane", "agent"), "libbpf and the C library are an edge"),
}

IO_MODULES = frozenset(
    {
        *("asyncio", "click", "ctypes", "grpc", "logging", "os", "pyroute2", "rich", "select"),
        *("shutil", "socket", "sqlite3", "subprocess", "threading", "time"),
    }
)


def read_imports(package: str) -> Iterator[tuple[str, str]]:
    """Yield (file, imported module) for a package, wherever in the file the import stands."""
    for path in sorted((PACKAGE / package).rglob("*.py")):
        if "_pb2" in path.name:
            continue
        where = str(path.relative_to(PACKAGE.parent))
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                yield from ((where, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{where}: relative imports escape this test"
                module = str(node.module)
                yield where, module
                if module == "netagent":
                    yield from ((where, f"netagent.{alias.name}") for alias in node.names)


def test_every_package_has_its_bans() -> None:
    packages = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}

    assert packages == set(BANS), "give a new package its place in the order"


@pytest.mark.parametrize(
    ("package", "banned", "reason"),
    [
        pytest.param(package, banned, reason, id=f"{package}-{banned}")
        for package, bans in BANS.items()
        for banned, reason in bans
    ],
)
def test_package_does_not_import(package: str, banned: str, reason: str) -> None:
    found = [
        where
        for where, module in read_imports(package)
        if f"{module}.".startswith(f"netagent.{banned}.")
    ]

    assert not found, f"{package} must not import {banned}: {reason}"


@pytest.mark.parametrize("module", OUTSIDE_BANS)
def test_library_stays_at_its_edge(module: str) -> None:
    allowed, reason = OUTSIDE_BANS[module]

    found = [
        where
        for package in sorted(set(BANS) - set(allowed))
        for where, imported in read_imports(package)
        if imported.partition(".")[0] == module
    ]

    assert not found, f"{module} belongs to {allowed}: {reason}"


@pytest.mark.parametrize("package", ["model", "moves", "reconcile"])
def test_pure_package_imports_no_io(package: str) -> None:
    found = {
        (where, module)
        for where, module in read_imports(package)
        if module.partition(".")[0] in IO_MODULES
    }

    assert not found, PURE


def test_only_the_cli_prints() -> None:
    found = [
        str(path.relative_to(PACKAGE))
        for path in sorted(PACKAGE.rglob("*.py"))
        if path.relative_to(PACKAGE).parts[0] != "cli"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "print"
    ]

    assert not found
