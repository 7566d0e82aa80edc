"""Every implementation of the store contract runs through the same tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from netagent.store.contract import Store
from netagent.store.sqlite import SqliteStore


async def open_sqlite(directory: Path) -> Store:
    return await SqliteStore.open(directory / "store.sqlite")


IMPLEMENTATIONS = {"sqlite": open_sqlite}


@pytest.fixture(params=sorted(IMPLEMENTATIONS))
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    opened = await IMPLEMENTATIONS[request.param](tmp_path)
    yield opened
    await opened.close()
