"""Tables: what is written is what is read, in the kernel's own maps."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from netagent.dataplane.abi import EndpointRow, TransitionRow
from netagent.dataplane.bpf_map import BATCH_ROWS
from netagent.dataplane.datapath import Datapath
from netagent.dataplane.tables import ENDPOINT, LOCATION, Table
from netagent.model.addresses import Locator, StableId
from netagent.model.errors import AbiMismatchError, DataplaneError
from netagent.model.fleet import Identity, Location

pytestmark = pytest.mark.root

ONE = StableId(0x0000000100100001)
HERE, THERE = Locator(0xFC1A000100010001), Locator(0xFC1A000100020001)


@pytest.fixture
def datapath(pin_dir: Path) -> Iterator[Datapath]:
    with Datapath.open(pin_dir) as opened:
        yield opened


def rows_of(count: int) -> dict[StableId, Location]:
    return {StableId(number): Location(HERE, Identity(number), 1) for number in range(count)}


def test_a_row_comes_back_as_it_was_written(datapath: Datapath) -> None:
    location = Location(HERE, Identity(2**32 - 1), 2**64 - 1)
    transition = TransitionRow(HERE, THERE, 2**64 - 1, 5)
    endpoint = EndpointRow(7, b"\2n\0\0\0\1", True)
    datapath.location.update({ONE: location})
    datapath.transition.update({ONE: transition})
    datapath.endpoint.update({ONE: endpoint})
    assert datapath.location.get(ONE) == location
    assert datapath.transition.items() == {ONE: transition}
    assert datapath.endpoint.get(ONE) == endpoint


def test_an_absent_row_is_none_and_its_deletion_is_success(datapath: Datapath) -> None:
    assert datapath.location.get(ONE) is None
    datapath.location.delete([ONE])


@pytest.mark.parametrize("count", [0, 1, 2, BATCH_ROWS - 1, BATCH_ROWS, 2 * BATCH_ROWS + 3])
def test_a_batch_of_any_size_is_written_whole(datapath: Datapath, count: int) -> None:
    rows = rows_of(count)
    datapath.location.update(rows)
    assert datapath.location.items() == rows


def test_an_update_replaces_and_leaves_the_rest(datapath: Datapath) -> None:
    datapath.location.update(rows_of(10))
    moved = {StableId(3): Location(THERE, Identity(3), 2)}
    datapath.location.update(moved)
    assert datapath.location.items() == rows_of(10) | moved
    datapath.location.delete([StableId(number) for number in range(5)])
    assert sorted(datapath.location.items()) == [5, 6, 7, 8, 9]


def test_a_full_table_says_so(datapath: Datapath) -> None:
    capacity = datapath.endpoint.capacity
    rows = {StableId(number): EndpointRow(1, bytes(6), False) for number in range(capacity + 1)}
    with pytest.raises(DataplaneError, match="map endpoint"):
        datapath.endpoint.update(rows)


def test_another_process_adopts_the_rows(datapath: Datapath, pin_dir: Path) -> None:
    datapath.location.update(rows_of(3))
    with Datapath.open(pin_dir) as adopted:
        assert adopted.location.map_id == datapath.location.map_id
        assert adopted.location.items() == rows_of(3)


def test_a_map_of_another_layout_is_refused_and_left_alone(
    datapath: Datapath, pin_dir: Path
) -> None:
    datapath.location.update(rows_of(1))
    with pytest.raises(AbiMismatchError, match="8 and 24 bytes, not 8 and 16"):
        Table(ENDPOINT, pin_dir / "location")
    assert Table(LOCATION, pin_dir / "location").items() == rows_of(1)


def test_a_directory_that_is_no_bpffs_is_named(namespaces: None, tmp_path: Path) -> None:
    with pytest.raises(DataplaneError, match=str(tmp_path)):
        Datapath.open(tmp_path / "netagent" / "v1")
