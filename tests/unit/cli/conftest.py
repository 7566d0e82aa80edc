"""Fixtures: one control process for all of a module's tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_fleet import Cli, running_control


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    """Return the command for an otherwise empty fleet with hosts h1 and h2."""
    directory: Path = tmp_path_factory.mktemp("c")
    with running_control(directory) as target:
        cli = Cli(target)
        cli.register(1)
        cli.register(2)
        yield cli
