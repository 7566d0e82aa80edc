"""One host's real maps and programs with a policy of a given size, and packets to run them on."""

from __future__ import annotations

import itertools
import re
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from ipaddress import IPv6Network
from pathlib import Path

from netagent.dataplane import libbpf
from netagent.dataplane.abi import Constants, EndpointRow, Verdict, pin_directory
from netagent.dataplane.datapath import Datapath
from netagent.model.addresses import Fleet, machine_mac, make_id, make_locator, stable_address
from netagent.model.fleet import Identity, Location
from netagent.policy.entries import ClassId, CompiledPolicy, Direction, Interval, PolicyClass
from netagent.policy.language import Verdict as Answer

FROM_MACHINE, FROM_MESH = "from_machine", "from_mesh"

_FLEET = Fleet("bench", IPv6Network("fd4e:6574:6167:1::/64"))
_NETWORK, _LOOPBACK, _MESH, _MTU_BYTES = 1, 1, 1, 1408
_HERE, _THERE = make_locator(_FLEET, 1, 1), make_locator(_FLEET, 1, 2)
_NEAR, _FAR = make_id(_NETWORK, 1, 1), make_id(_NETWORK, 1, 2)
_FIRST_IDENTITY = 2
_PASSED = {FROM_MACHINE: Verdict.PASS_TO_MESH, FROM_MESH: Verdict.PASS_FROM_MESH}
_CLASSES, _RANGES = 8, 8
_UDP, _PAYLOAD = 17, bytes(64)
_SOURCE_PORTS = 60_000
_SK_BUFF_BYTES, _IFINDEX = 192, 40


class BenchHost:
    """A host with one machine; another is elsewhere. pairs: entries of their network's policy."""

    def __init__(self, datapath: Datapath, pins: Path, pairs: int) -> None:
        self._datapath = datapath
        self._pins = pins
        self.pairs = pairs

    def pinned(self, program: str) -> Path:
        """Return where a program is pinned."""
        (found,) = (self._pins / "programs").glob(f"{program}-*")
        return found

    def time(self, program: str, packets: Sequence[bytes]) -> float:
        """Return ns a packet of a program; AssertionError unless it passes every one."""
        with self.passing(program, len(packets)):
            return time_program(self._datapath.program(program), packets)

    @contextmanager
    def passing(self, program: str, count: int) -> Iterator[None]:
        """Make sure that a program passes so many packets in the block."""
        before = self._datapath.counters()[_PASSED[program]].packets
        yield
        passed = self._datapath.counters()[_PASSED[program]].packets - before
        assert passed == count, f"{program} passed {passed} of {count} packets"


@contextmanager
def bench_host(bpf_file_system: Path, pairs: int) -> Iterator[BenchHost]:
    """Make maps and programs in a directory of a BPF file system, for the block."""
    pins = pin_directory(bpf_file_system)
    with Datapath.open(pins) as datapath:
        datapath.load(Constants(_FLEET, _HERE, make_id(0, 1, 1), _MTU_BYTES, _MESH))
        source, destination = Identity(_FIRST_IDENTITY), Identity(_FIRST_IDENTITY + 1)
        datapath.location.update(
            {_NEAR: Location(_HERE, source, 1), _FAR: Location(_THERE, destination, 1)}
        )
        datapath.endpoint.update({_NEAR: EndpointRow(_LOOPBACK, machine_mac(_NEAR), False)})
        datapath.policies.apply(_make_policy(pairs))
        datapath.policies.raise_generation()
        yield BenchHost(datapath, pins, pairs)


def time_program(program: int, packets: Sequence[bytes]) -> float:
    """Return ns a packet as the kernel's run-time statistics, which have to be on, count them."""
    runs, ns = _read_statistics(program)
    for packet in packets:
        libbpf.run_program(program, packet, ctx=CONTEXT, room_bytes=64)
    runs_after, ns_after = _read_statistics(program)
    return (ns_after - ns) / (runs_after - runs)


def make_packets(program: str, first_flow: int, count: int) -> list[bytes]:
    """Return the first packet of each of so many flows, as the program meets it: UDP, 64 bytes."""
    flows = range(first_flow, first_flow + count)
    return [_make_packet(program, number) for number in flows]


def _make_packet(program: str, flow: int) -> bytes:
    source_port, destination_port = 1_024 + flow % _SOURCE_PORTS, 2_000 + flow // _SOURCE_PORTS
    length = 8 + len(_PAYLOAD)
    udp = struct.pack("!HHHH", source_port, destination_port, length, 1) + _PAYLOAD
    fixed = struct.pack("!IHBB", 6 << 28, length, _UDP, 64)
    if program == FROM_MESH:
        ends = _THERE, _FAR, _HERE, _NEAR
        return fixed + b"".join(half.to_bytes(8, "big") for half in ends) + udp
    addresses = (stable_address(_FLEET, one).packed for one in (_NEAR, _FAR))
    frame = bytes(6) + machine_mac(_NEAR) + b"\x86\xdd"
    return frame + fixed + b"".join(addresses) + udp


def _make_policy(pairs: int) -> CompiledPolicy:
    """Return a policy that lets UDP pass between any two; 0 pairs: by default, as the built-in."""
    classes = [_make_class(number) for number in range(_CLASSES)]
    everything = tuple([Interval(0, 65_535, Answer.ALLOW, 0, None)])
    default = PolicyClass(ClassId(1), {0: everything})
    side = 1 + int(pairs**0.5)
    identities = [Identity(_FIRST_IDENTITY + number) for number in range(max(side, 2))]
    # Both ways between the two machines first, so that the smallest policy has them.
    every = itertools.product(identities, repeat=2)
    listed = dict.fromkeys([(identities[0], identities[1]), (identities[1], identities[0]), *every])
    rows: dict[Identity, dict[Identity, ClassId]] = {}
    for number, (source, destination) in enumerate(itertools.islice(listed, pairs)):
        rows.setdefault(source, {})[destination] = classes[number % _CLASSES].class_id
    held = {one.class_id: one for one in (*(classes if pairs else ()), default)}
    return CompiledPolicy(
        "bench",
        _NETWORK,
        1,
        {Direction.INSIDE: rows, Direction.EGRESS: {}, Direction.INGRESS: {}},
        dict.fromkeys(Direction, default.class_id),
        held,
        {},
        {number: f"rule-{number}" for number in range(1, 1 + _CLASSES * _RANGES)},
    )


def _make_class(number: int) -> PolicyClass:
    """Return a class with ranges of UDP ports, each allowed by a rule of its own."""
    bounds = [0, *(1_000 * step for step in range(1, _RANGES)), 65_536]
    intervals = tuple(
        Interval(first, after - 1, Answer.ALLOW, 1 + number * _RANGES + at, None)
        for at, (first, after) in enumerate(itertools.pairwise(bounds))
    )
    other = (Interval(0, 65_535, Answer.DENY, 0, None),)
    return PolicyClass(ClassId(2 + number), {0: other, _UDP: intervals})


def _read_statistics(program: int) -> tuple[int, int]:
    """Return runs and ns in all of a program."""
    text = Path(f"/proc/self/fdinfo/{program}").read_text()
    found = dict(re.findall(r"^(run_\w+):\s+(\d+)$", text, re.MULTILINE))
    return int(found["run_cnt"]), int(found["run_time_ns"])


def _make_context() -> bytes:
    context = bytearray(_SK_BUFF_BYTES)
    struct.pack_into("=I", context, _IFINDEX, _LOOPBACK)
    return bytes(context)


CONTEXT = _make_context()
