"""Fixtures: a control process in the test's own loop."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from control_fleet import Fleet, Stubs, running_fleet


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Fleet]:
    """Return an empty fleet."""
    async with running_fleet(tmp_path) as running:
        yield running


@pytest.fixture
async def stubs(fleet: Fleet) -> Stubs:
    """Return stubs of an empty fleet."""
    return fleet.stubs
