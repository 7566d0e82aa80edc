"""Plain routed WireGuard under a guest: three hosts, the guest's /128 in a peer's AllowedIPs."""

from __future__ import annotations

import shutil
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from tempfile import mkdtemp
from types import TracebackType

from integration.lab.fabric import FIRST_HOST_NUMBER, make_bridge, plug_in, underlay_address
from integration.lab.namespace import HOST_MOUNTS, Namespace, start_namespace
from integration.vm_migration.guest import TAP
from netagent.model.addresses import GATEWAY_MAC

PORT = 51820
GUEST, OBSERVER = "fd0b::1", "fd0b::2"
MAC = "02:6e:00:00:00:01"
HOSTS = ("host-a", "host-b", "host-c")
WATCH = "host-c"

SCRIPT_HOST = f"""
sysctl -qw net.ipv6.conf.all.forwarding=1
wireguard-go wg0 2>/dev/null || ip link add wg0 type wireguard
wg genkey >/run/key
wg set wg0 private-key /run/key listen-port {PORT}
ip link set wg0 mtu 1408 up
"""
SCRIPT_OBSERVER = f"""
ip link set eth0 mtu 1408 up
ip addr add {OBSERVER}/128 dev eth0 nodad
ip -6 route add default via fe80::1 dev eth0
"""
SCRIPT_CABLE = f"""
ip addr add fe80::1/64 dev cable nodad
ip link set cable up
ip -6 route add {OBSERVER}/128 dev cable
"""
SCRIPT_TAP = f"""
ip tuntap add dev {TAP} mode tap
ip link set {TAP} address {GATEWAY_MAC.hex(":")} up
ip addr add fe80::1/64 dev {TAP} nodad
ip -6 neigh replace {GUEST} lladdr {MAC} dev {TAP} nud permanent
"""


class PlainWireGuard:
    """Hosts a and b for the guest, host c with the observer."""

    def __init__(self) -> None:
        self.directory = Path(mkdtemp(prefix="netagent-plain-"))
        self.hosts: dict[str, Namespace] = {}
        self._spaces: list[Namespace] = []
        self._keys: dict[str, str] = {}
        self._pool = ThreadPoolExecutor(len(HOSTS))

    def start(self) -> None:
        """Bring everything up, with the guest's address at host-a."""
        fabric = self._namespace("fabric")
        make_bridge(fabric, 1500)
        for number, name in enumerate(HOSTS):
            host = self.hosts[name] = self._namespace(name, HOST_MOUNTS)
            address = underlay_address(4, FIRST_HOST_NUMBER + number)
            plug_in(fabric, f"port-{number}", host, address, 1500)
            host.run("sh", "-ec", SCRIPT_HOST)
            self._keys[name] = host.run("sh", "-c", "wg pubkey </run/key").stdout.strip()
        for name, host in self.hosts.items():
            for number, other in enumerate(HOSTS):
                if other != name:
                    endpoint = f"{underlay_address(4, FIRST_HOST_NUMBER + number)}:{PORT}"
                    peer = ("wg", "set", "wg0", "peer", self._keys[other], "endpoint", endpoint)
                    host.run(*peer, "persistent-keepalive", "5")
        self.observer = self._namespace("observer")
        watch = self.hosts[WATCH]
        cable = ["ip", "link", "add", "cable", "type", "veth", "peer", "name", "eth0"]
        watch.run_outside(
            ["nsenter", "-t", str(watch.pid), "-n", "--", *cable, "netns", str(self.observer.pid)]
        )
        self.observer.run("sh", "-ec", SCRIPT_OBSERVER)
        watch.run("sh", "-ec", SCRIPT_CABLE)
        for name in HOSTS:
            if name != WATCH:
                self._allow(name, WATCH, OBSERVER)
                self.hosts[name].run("ip", "-6", "route", "add", f"{OBSERVER}/128", "dev", "wg0")

    def make_tap(self, place: str) -> None:
        """Make the host's end of the guest's network card."""
        self.hosts[place].run("sh", "-ec", SCRIPT_TAP)

    def flip(self, place: str) -> Future[object]:
        """Have every host find the guest at a place: all hosts at once."""
        done = [self._pool.submit(self._flip_at, name, place) for name in HOSTS]
        return self._pool.submit(lambda: [each.result() for each in done])

    def _flip_at(self, name: str, place: str) -> None:
        if name != place:
            self._allow(name, place, *([OBSERVER] if place == WATCH else []), GUEST)
        device = TAP if name == place else "wg0"
        self.hosts[name].run("ip", "-6", "route", "replace", f"{GUEST}/128", "dev", device)

    def _allow(self, name: str, place: str, *addresses: str) -> None:
        allowed = ",".join(f"{address}/128" for address in addresses)
        self.hosts[name].run("wg", "set", "wg0", "peer", self._keys[place], "allowed-ips", allowed)

    def stop(self) -> None:
        """End everything."""
        self._pool.shutdown()
        for space in reversed(self._spaces):
            space.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _namespace(self, name: str, mounts: str = "") -> Namespace:
        made = start_namespace(name, self.directory, mounts=mounts, is_bound=True)
        self._spaces.append(made)
        return made

    def __enter__(self) -> PlainWireGuard:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
