"""netagent against plain WireGuard where both are the kernel's: speed, merging, processor time.

Guests in software emulation are slow, and alike slow to both: only ratios say something.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from integration.bench.figures import Spread, ratios, spread
from integration.bench.guests import NETAGENT, PLAIN, GuestPlace, make_ways
from integration.bench.throughput import Way, run_stream
from integration.lab.namespace import child_of
from integration.lab.vm.lab import VmLab

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_FIELD_USER, _FIELD_SYSTEM = 11, 12
"""Of /proc/PID/stat behind the command's name."""


@dataclass(frozen=True, slots=True)
class Stream:
    """One TCP stream from machine to machine, seen where it is received.

    cpu_s_per_gb: processor seconds that both guests' QEMUs took for 10⁹ bytes.
    messages: what WireGuard has decrypted. packets: what of it the machine got, after GRO.
    packet_bytes: the mean of these, with IPv6 and TCP headers.
    """

    mbit: float
    cpu_s_per_gb: float
    messages: int
    packets: int
    packet_bytes: float

    @property
    def merged(self) -> float:
        """How many segments a packet was made of, on average."""
        return self.messages / self.packets


def measure_guests(kernels: Sequence[str], rounds: int, seconds: int) -> dict[str, Any]:
    """Measure on two guests, print, and return what --json writes. kernels: of them, in turn."""
    with VmLab(hosts=2, kernels=kernels) as lab:
        releases = [host.run("uname", "-r").strip() for host in lab.hosts.values()]
        print(f"two virtual machines, kernels {', '.join(releases)}, WireGuard of the kernel")
        print("TCP from machine to machine, in turn:")
        streams = _interleave(make_ways(lab), rounds, seconds)
    document = _summarize(streams)
    _show(streams, document)
    return {
        "kernels": releases,
        **{key: value.as_json() for key, value in document.items()},
    }


def _interleave(ways: Sequence[Way], rounds: int, seconds: int) -> dict[str, list[Stream]]:
    found: dict[str, list[Stream]] = {way.name: [] for way in ways}
    for way in ways:
        measure_stream(way, 2)
    for number in range(rounds):
        for way in ways:
            stream = measure_stream(way, seconds)
            found[way.name].append(stream)
            print(
                f"  round {number + 1}: {way.name}: {stream.mbit:.1f} Mbit/s, "
                f"{stream.cpu_s_per_gb:.0f} s of processor per GB, "
                f"{stream.merged:.1f} segments a packet",
                flush=True,
            )
    return found


def measure_stream(way: Way, seconds: int) -> Stream:
    """Run one stream between machines of guests."""
    places = (way.client, way.server)
    assert all(isinstance(place, GuestPlace) for place in places)
    cpu_s, messages = _cpu_s(places), _messages(way.server)
    packets, octets = _received(way.server)
    result = run_stream(way, seconds)
    cpu_s, messages = _cpu_s(places) - cpu_s, _messages(way.server) - messages
    packets, octets = (
        after - before
        for after, before in zip(_received(way.server), (packets, octets), strict=True)
    )
    return Stream(
        result["bits_per_second"] / 1e6,
        cpu_s / (result["bytes"] / 1e9),
        messages,
        packets,
        octets / packets,
    )


def _cpu_s(places: Sequence[GuestPlace]) -> float:
    """Return the processor seconds that the guests' QEMUs have taken so far."""
    total = 0
    for place in places:
        stat = Path(f"/proc/{child_of(place.host.vm.pid)}/stat").read_text()
        fields = stat.rpartition(")")[2].split()
        total += int(fields[_FIELD_USER]) + int(fields[_FIELD_SYSTEM])
    return total / _TICKS_PER_S


def _messages(place: GuestPlace) -> int:
    """Return how many messages of other hosts a host's WireGuard has decrypted."""
    counter = f"/sys/class/net/{place.device}/statistics/rx_packets"
    return int(place.shell.run("cat", counter).stdout)


def _received(place: GuestPlace) -> tuple[int, int]:
    """Return (packets, bytes) that a machine's IPv6 was handed; merged ones count once."""
    lines = place.run("cat", "/proc/net/snmp6").stdout.splitlines()
    counters = dict(line.split()[:2] for line in lines)
    return int(counters["Ip6InReceives"]), int(counters["Ip6InOctets"])


def _summarize(streams: dict[str, list[Stream]]) -> dict[str, Spread]:
    ours, theirs = streams[NETAGENT], streams[PLAIN]
    return {
        "tcp_ratio_vs_plain_wireguard": ratios(
            (each.mbit for each in ours), (each.mbit for each in theirs)
        ),
        "cpu_per_gb_ratio_vs_plain_wireguard": ratios(
            (each.cpu_s_per_gb for each in ours), (each.cpu_s_per_gb for each in theirs)
        ),
        "segments_a_packet": spread(each.merged for each in ours),
        "segments_a_packet_plain_wireguard": spread(each.merged for each in theirs),
        "packet_bytes": spread(each.packet_bytes for each in ours),
        "packet_bytes_plain_wireguard": spread(each.packet_bytes for each in theirs),
    }


def _show(streams: dict[str, list[Stream]], document: dict[str, Spread]) -> None:
    print("\nmedian (minimum to maximum)")
    labels = (
        "TCP, netagent / plain kernel WireGuard",
        "processor time per GB, netagent / plain",
        "segments that GRO makes one packet, netagent",
        "segments that GRO makes one packet, plain",
        "bytes of a packet at the machine, netagent",
        "bytes of a packet at the machine, plain",
    )
    for label, value in zip(labels, document.values(), strict=True):
        print(f"  {label:<46} {value}")
    total = {name: sum(each.messages for each in found) for name, found in streams.items()}
    print("  segments received before they were merged: ", end="")
    print(", ".join(f"{name} {count:,}" for name, count in total.items()))
