"""The BPF data path of one host: pinned maps, pinned programs, and where these are attached.

Outlives the agent: closing it leaves everything pinned and attached, opening it adopts what is
there. A program is pinned under the digest of its object, constants and maps, so that one that is
loaded already is never loaded again, and one of another release is exchanged in place.
Blocking; one thread at a time.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import time
from enum import Enum
from importlib.resources import as_file, files
from pathlib import Path
from types import TracebackType
from typing import Any

from pyroute2 import IPRoute

from netagent.dataplane import libbpf
from netagent.dataplane.abi import (
    Constants,
    Counter,
    EndpointRow,
    Misdirected,
    TransitionRow,
    Verdict,
    pin_root,
)
from netagent.dataplane.abi_flows import FlowRow, FlowStateRow, FragmentRow, FragmentStateRow
from netagent.dataplane.conntrack import Connections
from netagent.dataplane.events import Events
from netagent.dataplane.filters import (
    Direction,
    Filter,
    attach_filter,
    observe_filter,
    remove_filters,
)
from netagent.dataplane.grace import wait_for_programs
from netagent.dataplane.policy_maps import PolicyMaps
from netagent.dataplane.tables import (
    CONNTRACK,
    ENDPOINT,
    FRAGMENTS,
    LOCATION,
    MISDIRECTED,
    TRANSITION,
    Counters,
    Table,
)
from netagent.model.addresses import Locator, StableId
from netagent.model.errors import DataplaneError
from netagent.model.fleet import Location

OBJECTS = files("netagent.dataplane") / "objects"


class Attachment(Enum):
    """A kind of interface; the value says which program goes where."""

    MACHINE = ((Direction.INGRESS, "from_machine"), (Direction.EGRESS, "to_machine"))
    HOST = ((Direction.INGRESS, "from_host"),)
    MESH = ((Direction.INGRESS, "from_mesh"),)


PROGRAMS = tuple(sorted({program for kind in Attachment for _, program in kind.value}))


class Datapath:
    """The maps and programs of one host."""

    location: Table[StableId, Location]
    transition: Table[StableId, TransitionRow]
    endpoint: Table[StableId, EndpointRow]
    conntrack: Table[FlowRow, FlowStateRow]
    fragments: Table[FragmentRow, FragmentStateRow]
    connections: Connections
    policies: PolicyMaps
    events: Events

    def __init__(self, pin_dir: Path) -> None:
        """Make the pinned maps, or adopt those that are there.

        Raises AbiMismatchError when a pin has another layout, DataplaneError when `pin_dir` is not
        on a BPF file system or the kernel refuses.
        """
        self._pin_dir = pin_dir
        self._programs: dict[str, tuple[str, int]] = {}
        _make_pin_dir(pin_dir / "programs")
        with (
            as_file(OBJECTS / "maps.bpf.o") as path,
            libbpf.BpfObject(path, pin_dir) as maps,
        ):
            maps.load()
        self.location = Table(LOCATION, pin_dir / "location")
        self.transition = Table(TRANSITION, pin_dir / "transition")
        self.endpoint = Table(ENDPOINT, pin_dir / "endpoint")
        self.conntrack = Table(CONNTRACK, pin_dir / "conntrack")
        self.fragments = Table(FRAGMENTS, pin_dir / "fragments")
        self._misdirected = Table(MISDIRECTED, pin_dir / "misdirected")
        self.connections = Connections(pin_dir / "conntrack", time.monotonic_ns)
        self.policies = PolicyMaps(pin_dir)
        self.events = Events(pin_dir)
        self._counters = Counters(pin_dir / "counters")
        self._netlink = IPRoute()

    @classmethod
    def open(cls, pin_dir: Path) -> Datapath:
        """Return the data path pinned at `pin_dir`, made if need be."""
        return cls(pin_dir)

    def load(self, constants: Constants) -> None:
        """Load the programs for these constants, or adopt them where they are pinned. Idempotent.

        Attaches nothing: `attach` exchanges program by program, `prune` lets old ones go.
        """
        raw = constants.pack()
        # A program is bound to its maps for life: one that has others, because somebody removed the
        # pins, is not the one that we want.
        bound = raw + ",".join(map(str, self._map_ids())).encode()
        loaded: dict[str, tuple[str, int]] = {}
        for name in PROGRAMS:
            content = (OBJECTS / f"{name}.bpf.o").read_bytes()
            full_name = f"{name}-{hashlib.sha256(content + bound).hexdigest()[:16]}"
            pinned = self._pin_dir / "programs" / full_name
            if not pinned.exists():
                self._load_program(name, raw, pinned)
            loaded[name] = full_name, libbpf.open_pinned(pinned)
        self._close_programs()
        self._programs = loaded

    def _map_ids(self) -> list[int]:
        ids = [table.map_id for table in self._tables()]
        return [*ids, *self.policies.map_ids, *self.events.map_ids, self._counters.map_id]

    def _tables(self) -> tuple[Table[Any, Any], ...]:
        state = self.conntrack, self.fragments, self._misdirected
        return self.location, self.transition, self.endpoint, *state

    def _load_program(self, name: str, constants: bytes, pinned: Path) -> None:
        with (
            as_file(OBJECTS / f"{name}.bpf.o") as path,
            libbpf.BpfObject(path, self._pin_dir) as loading,
        ):
            loading.set_constants(constants)
            loading.load()
            fd = loading.program(name)
            try:
                libbpf.pin(fd, pinned)
            finally:
                os.close(fd)

    def prune(self) -> list[str]:
        """Unpin programs of other constants, and all that releases with other maps have pinned.

        To be called when everything is attached. Returns the names of programs, and of directories
        with another version. What is still attached lives on where it is, with its maps.
        """
        current = {full_name for full_name, _ in self._programs.values()}
        stale = [p for p in (self._pin_dir / "programs").iterdir() if p.name not in current]
        for path in stale:
            path.unlink()
        versions = [p for p in self._pin_dir.parent.iterdir() if re.fullmatch(r"v\d+", p.name)]
        others = [path for path in versions if path.name != self._pin_dir.name]
        for path in others:
            shutil.rmtree(path)
        return sorted(path.name for path in (*stale, *others))

    def await_programs(self) -> None:
        """Return when every program that is at a packet now has ended. Blocks for some 15 ms."""
        wait_for_programs()

    def program(self, name: str) -> int:
        """Return the descriptor of a loaded program; it stays ours."""
        return self._programs[name][1]

    def attach(self, ifindex: int, attachment: Attachment) -> bool:
        """Attach the loaded programs to an interface, in place; False when it was so already.

        Raises DataplaneError when the interface is gone or the kernel refuses.
        """
        missing = [
            (wanted, fd)
            for wanted, fd in self._wanted(ifindex, attachment)
            if observe_filter(self._netlink, ifindex, wanted.direction) != wanted
        ]
        for wanted, fd in missing:
            attach_filter(self._netlink, wanted, fd)
        return bool(missing)

    def is_attached(self, ifindex: int, attachment: Attachment) -> bool:
        """Whether exactly the loaded programs are attached there."""
        return all(
            observe_filter(self._netlink, ifindex, wanted.direction) == wanted
            for wanted, _ in self._wanted(ifindex, attachment)
        )

    def detach(self, ifindex: int) -> bool:
        """Take our programs off an interface; False when there were none."""
        return remove_filters(self._netlink, ifindex)

    def _wanted(self, ifindex: int, attachment: Attachment) -> list[tuple[Filter, int]]:
        wanted = []
        for direction, name in attachment.value:
            full_name, fd = self._programs[name]
            wanted.append((Filter(ifindex, direction, full_name), fd))
        return wanted

    def counters(self) -> dict[Verdict, Counter]:
        """Return packets and bytes by verdict, summed over processors."""
        return self._counters.read()

    def misdirected(self) -> dict[Locator, Misdirected]:
        """Return what hosts sent here for ids that are elsewhere, by their locators."""
        return self._misdirected.items()

    def close(self) -> None:
        """Close all descriptors; everything stays pinned and attached."""
        self._close_programs()
        for table in self._tables():
            table.close()
        self.connections.close()
        self.policies.close()
        self.events.close()
        self._counters.close()
        self._netlink.close()

    def _close_programs(self) -> None:
        for _, fd in self._programs.values():
            os.close(fd)
        self._programs = {}

    @staticmethod
    def detach_all() -> list[str]:
        """Take our programs off every interface, of whatever release; return the names of these."""
        with IPRoute() as netlink:
            links = [(int(m["index"]), str(m.get_attr("IFLA_IFNAME"))) for m in netlink.get_links()]
            return sorted(name for ifindex, name in links if remove_filters(netlink, ifindex))

    @staticmethod
    def remove(bpffs: Path) -> list[str]:
        """Unpin everything, of whatever release; return the paths that were pinned.

        Attached programs stay attached, with the maps that they use.
        """
        root = pin_root(bpffs)
        if not root.is_dir():
            return []
        pinned = sorted(str(path) for path in root.rglob("*") if not path.is_dir())
        shutil.rmtree(root)
        return pinned

    def __enter__(self) -> Datapath:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _make_pin_dir(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        detail = f"{error.strerror}; is a BPF file system mounted there (mount -t bpf)?"
        raise DataplaneError("make", f"directory {path}", detail, error.errno) from error
