"""Programs: loaded once, exchanged in place, and left where they are by a closing agent."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from kernel.namespaces import make_interface
from pyroute2 import IPRoute

from netagent.dataplane.abi import Constants
from netagent.dataplane.datapath import Attachment, Datapath
from netagent.dataplane.filters import Direction, observe_filter
from netagent.model.addresses import Fleet, Locator, StableId, random_prefix
from netagent.model.errors import DataplaneError

pytestmark = pytest.mark.root

PORT = 200
FLEET = Fleet("fleet", random_prefix())
SMALL = Constants(FLEET, Locator(0xFC1A000100010001), StableId(1), 1280, 100)
LARGE = Constants(FLEET, Locator(0xFC1A000100010001), StableId(1), 8912, 100)


@pytest.fixture
def datapath(pin_dir: Path) -> Iterator[Datapath]:
    make_interface("port", PORT)
    with Datapath.open(pin_dir) as opened:
        opened.load(SMALL)
        yield opened


def programs_pinned(pin_dir: Path) -> set[str]:
    return {path.name for path in (pin_dir / "programs").iterdir()}


def attached_program(direction: Direction) -> str | None:
    with IPRoute() as netlink:
        found = observe_filter(netlink, PORT, direction)
    return found.program if found else None


def test_attaching_twice_changes_nothing(datapath: Datapath) -> None:
    assert datapath.attach(PORT, Attachment.MACHINE)
    assert not datapath.attach(PORT, Attachment.MACHINE)
    assert datapath.is_attached(PORT, Attachment.MACHINE)


def test_a_machines_interface_has_a_program_each_way(datapath: Datapath) -> None:
    datapath.attach(PORT, Attachment.MACHINE)
    assert (attached_program(Direction.INGRESS) or "").startswith("from_machine-")
    assert (attached_program(Direction.EGRESS) or "").startswith("to_machine-")


def test_loading_again_adopts_what_is_pinned(datapath: Datapath, pin_dir: Path) -> None:
    before = programs_pinned(pin_dir)
    datapath.load(SMALL)
    assert programs_pinned(pin_dir) == before


def test_new_constants_exchange_the_program_in_place(datapath: Datapath) -> None:
    datapath.attach(PORT, Attachment.MESH)
    before = attached_program(Direction.INGRESS)
    datapath.load(LARGE)
    assert not datapath.is_attached(PORT, Attachment.MESH)
    assert attached_program(Direction.INGRESS) == before
    assert datapath.attach(PORT, Attachment.MESH)
    assert attached_program(Direction.INGRESS) not in (None, before)
    with IPRoute() as netlink:
        ours = [message for message in netlink.get_filters(index=PORT, parent=0xFFFFFFF2)]
    assert sum(1 for message in ours if "netagent/" in str(message)) == 1


def test_programs_go_on_when_the_agent_stops(datapath: Datapath, pin_dir: Path) -> None:
    with Datapath.open(pin_dir) as stopping:
        stopping.load(SMALL)
        stopping.attach(PORT, Attachment.MACHINE)
    assert datapath.is_attached(PORT, Attachment.MACHINE)
    assert not datapath.attach(PORT, Attachment.MACHINE)


def test_programs_whose_maps_lost_their_pins_are_exchanged(
    datapath: Datapath, pin_dir: Path
) -> None:
    """Else the old programs would keep the old maps, which nobody fills any more."""
    datapath.attach(PORT, Attachment.MACHINE)
    for pin in [path for path in pin_dir.rglob("*") if not path.is_dir()]:
        pin.unlink()

    with Datapath.open(pin_dir) as fresh:
        fresh.load(SMALL)
        assert not fresh.is_attached(PORT, Attachment.MACHINE)
        assert fresh.attach(PORT, Attachment.MACHINE)
        assert fresh.is_attached(PORT, Attachment.MACHINE)


def test_what_another_release_has_pinned_goes_once_everything_is_attached(
    datapath: Datapath, pin_dir: Path
) -> None:
    with Datapath.open(pin_dir.parent / "v1") as older:
        older.load(SMALL)
        older.attach(PORT, Attachment.MACHINE)
    datapath.attach(PORT, Attachment.MACHINE)

    assert datapath.prune() == ["v1"]

    assert [path.name for path in pin_dir.parent.iterdir()] == [pin_dir.name]
    assert datapath.is_attached(PORT, Attachment.MACHINE)
    assert datapath.prune() == []


def test_detaching_takes_ours_and_leaves_others(datapath: Datapath) -> None:
    datapath.attach(PORT, Attachment.MACHINE)
    with IPRoute() as netlink:
        others = {"fd": datapath.program("from_mesh"), "name": "somebody-else"}
        netlink.tc("add-filter", "bpf", PORT, parent=0xFFFFFFF2, prio=9, protocol=3, **others)
        assert datapath.detach(PORT)
        assert not datapath.detach(PORT)
        left = list(netlink.get_filters(index=PORT, parent=0xFFFFFFF2))
    assert left
    assert attached_program(Direction.INGRESS) is None


def test_detaching_everywhere_names_the_interfaces(datapath: Datapath) -> None:
    datapath.attach(PORT, Attachment.MACHINE)
    assert Datapath.detach_all() == ["port"]
    assert Datapath.detach_all() == []


def test_attaching_to_what_is_gone_is_named(datapath: Datapath) -> None:
    with pytest.raises(DataplaneError, match="interface 4711"):
        datapath.attach(4711, Attachment.MACHINE)


def test_removal_unpins_everything_of_ours(datapath: Datapath, pin_dir: Path) -> None:
    bpffs = pin_dir.parent.parent
    somebody_elses = bpffs / "somebody-else"
    somebody_elses.mkdir()
    removed = Datapath.remove(bpffs)
    assert str(pin_dir / "location") in removed
    assert somebody_elses.exists()
    assert not pin_dir.parent.exists()
    assert Datapath.remove(bpffs) == []
