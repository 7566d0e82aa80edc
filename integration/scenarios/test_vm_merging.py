"""What the kernel's WireGuard has decrypted is merged before netagent's programs see it."""

from __future__ import annotations

from integration.bench.guests import join_mesh, wait_connected
from integration.bench.kernel_wireguard import measure_stream
from integration.lab.vm.lab import VmLab

LEAST_MERGED = 1.5
"""Segments in a packet, on average; 1 is none merged, 3 to 5 are usual in emulation."""

STREAM_S = 5


def test_tcp_is_merged_where_it_is_received(vm_lab: VmLab) -> None:
    hosts = [vm_lab.hosts["host-a"], vm_lab.hosts["host-b"]]
    there = join_mesh(vm_lab, hosts)
    try:
        wait_connected(there)
        assert measure_stream(there, STREAM_S).merged > LEAST_MERGED
    finally:
        for place in (there.client, there.server):
            place.shell.run("ip", "netns", "del", place.name)
