"""A bpffs, interfaces and a /run of the tests' own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from kernel.namespaces import mount_bpffs, mount_tmpfs, own_namespaces

from netagent.dataplane.abi import pin_directory


@pytest.fixture
def namespaces() -> Iterator[None]:
    """Run the test in network and mount namespaces of its own."""
    with own_namespaces():
        mount_tmpfs(Path("/run"))
        yield


@pytest.fixture
def pin_dir(namespaces: None, tmp_path: Path) -> Path:
    """Return where a data path may pin, on a BPF file system of this test's own."""
    return pin_directory(mount_bpffs(tmp_path / "bpffs"))
