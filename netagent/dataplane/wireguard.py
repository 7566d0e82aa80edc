"""WireGuard: the interface, this host's key, and its peers, through `wg`.

The kernel's WireGuard where there is one, `wireguard-go` where not, chosen by trying. `wg syncconf`
changes only what differs and keeps the sessions of all other peers.
Source: wg(8); the configuration goes through standard input, so no key touches a disk twice.
"""

from __future__ import annotations

import base64
import errno
import logging
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from netagent.dataplane.machine_side import ALIAS
from netagent.model.errors import DataplaneError
from netagent.model.fleet import Endpoint

log = logging.getLogger(__name__)

KEEPALIVE_S = 25
TIMEOUT_S = 20.0
EAGER_SOFTIRQS_SINCE = (6, 5)
"""The kernel from which on softirqs no longer wait for their thread, but run at the next chance.

WireGuard's worker gives them one after each packet that it has decrypted, so that GRO has nothing
to merge. Earlier kernels merge as they are, and get slower by threads: docs/lab.md has figures.
Source: Linux commit d15121be7485.
"""

SOCKET_DIR = Path("/var/run/wireguard")


@dataclass(frozen=True, slots=True)
class PeerConfig:
    """What WireGuard is to know of another host. public_key: 32 bytes, raw Curve25519."""

    public_key: bytes
    endpoint: Endpoint
    allowed: IPv6Network


@dataclass(frozen=True, slots=True)
class PeerStatus:
    """What WireGuard says of another host. last_handshake_s: Unix time, 0 before the first."""

    public_key: bytes
    endpoint: Endpoint | None
    allowed: tuple[IPv4Network | IPv6Network, ...]
    last_handshake_s: int
    received_bytes: int
    sent_bytes: int


def ensure_private_key(path: Path) -> bytes:
    """Make this host's private key at `path` (mode 0600) if there is none; return the public key.

    Raises DataplaneError when the file holds no key.
    """
    if not path.exists():
        private = _wg(["genkey"]).strip()
        partial = path.with_suffix(".new")
        fd = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(fd, "w") as file:
            file.write(private + "\n")
            file.flush()
            os.fsync(file.fileno())
        partial.rename(path)
    return base64.b64decode(_wg(["pubkey"], path.read_text()).strip())


class Mesh:
    """The WireGuard interface of this host."""

    def __init__(self, interface: str, private_key_path: Path) -> None:
        self._interface = interface
        self._private_key_path = private_key_path
        self._applied: tuple[int, tuple[PeerConfig, ...]] | None = None
        self._listen_port = 0
        self._is_kernel = False
        self._has_threads = False

    def ensure(self, listen_port: int, mtu_bytes: int) -> str:
        """Make the interface if it is not there, else adopt it; bring it up.

        Returns "kernel" or "wireguard-go". Idempotent; sessions of an adopted interface live on.
        """
        with IPRoute() as netlink:
            if not netlink.link_lookup(ifname=self._interface):
                self._applied, self._has_threads = None, False
                self._make(netlink)
            ifindex = netlink.link_lookup(ifname=self._interface)[0]
            message = netlink.get_links(ifindex)[0]
            if message.get_attr("IFLA_MTU") != mtu_bytes:
                netlink.link("set", index=ifindex, mtu=mtu_bytes)
            if message.get_attr("IFLA_IFALIAS") != ALIAS:
                netlink.link("set", index=ifindex, IFLA_IFALIAS=ALIAS)
            if not message["flags"] & 1:
                netlink.link("set", index=ifindex, state="up")
            info = message.get_attr("IFLA_LINKINFO")
        self._is_kernel = info is not None and info.get_attr("IFLA_INFO_KIND") == "wireguard"
        if listen_port != self._listen_port:
            self._listen_port = listen_port
            self._applied = None
        return "kernel" if self._is_kernel else "wireguard-go"

    def _make(self, netlink: IPRoute) -> None:
        try:
            netlink.link("add", ifname=self._interface, kind="wireguard")
        except NetlinkError as error:
            if error.code not in (errno.EOPNOTSUPP, errno.ENOENT):
                subject = f"interface {self._interface}"
                raise DataplaneError("make", subject, str(error), error.code) from error
            self._start_userspace()

    def _start_userspace(self) -> None:
        program = shutil.which("wireguard-go")
        subject = f"interface {self._interface}"
        if program is None:
            detail = "this kernel has no WireGuard and there is no wireguard-go; install it"
            raise DataplaneError("make", subject, detail, errno.EOPNOTSUPP)
        # It answers on the socket of a predecessor that was killed, unless that is gone.
        (SOCKET_DIR / f"{self._interface}.sock").unlink(missing_ok=True)
        _run([program, self._interface], "make", subject)
        # It goes on setting the interface up (its MTU too) after the command has returned, and
        # answers only then.
        _wg(["show", self._interface, "listen-port"])

    def apply(self, peers: Iterable[PeerConfig]) -> bool:
        """Bring WireGuard to these peers, each with its one allowed /64; False when it was so.

        Peers that do not change are not touched. Raises DataplaneError when `wg` refuses.
        """
        wanted = self._listen_port, tuple(sorted(peers, key=lambda peer: peer.public_key))
        if wanted == self._applied:
            return False
        lines = ["[Interface]", f"PrivateKey = {self._private_key()}", f"ListenPort = {wanted[0]}"]
        for peer in wanted[1]:
            lines += [
                "[Peer]",
                f"PublicKey = {base64.b64encode(peer.public_key).decode()}",
                f"Endpoint = {peer.endpoint}",
                f"AllowedIPs = {peer.allowed}",
                f"PersistentKeepalive = {KEEPALIVE_S}",
            ]
        _wg(["syncconf", self._interface, "/dev/stdin"], "\n".join(lines) + "\n")
        self._applied = wanted
        if wanted[1] and not self._has_threads:  # the kernel refuses while there is no peer
            self._has_threads = True
            if self._is_kernel and _kernel_version() >= EAGER_SOFTIRQS_SINCE:
                _receive_in_threads(self._interface, self.ifindex())
        return True

    def observe(self) -> list[PeerStatus]:
        """Return what WireGuard says of its peers, by public key."""
        return _peers_of(self._dump())

    def is_applied(self, peers: Iterable[PeerConfig]) -> bool:
        """Whether WireGuard itself holds our key and port, and exactly these peers.

        Of peers, their endpoints and allowed networks are compared.
        """
        rows = self._dump()
        own_key, _, listen_port, _ = rows[0]
        if (own_key, listen_port) != (self._private_key(), str(self._listen_port)):
            return False
        found = {(p.public_key, p.endpoint, p.allowed) for p in _peers_of(rows)}
        return found == {(p.public_key, p.endpoint, (p.allowed,)) for p in peers}

    def _dump(self) -> list[list[str]]:
        dump = _wg(["show", self._interface, "dump"])
        return [line.split("\t") for line in dump.splitlines()]

    def _private_key(self) -> str:
        return self._private_key_path.read_text().strip()

    def forget(self) -> None:
        """Make the next `apply` write, whatever was applied before."""
        self._applied = None

    def ifindex(self) -> int | None:
        """Return the interface's index, or None when it is gone."""
        with IPRoute() as netlink:
            found = netlink.link_lookup(ifname=self._interface)
        return int(found[0]) if found else None

    def remove(self) -> bool:
        """Remove the interface (wireguard-go ends with it); False when it was gone."""
        self._applied = None
        with IPRoute() as netlink:
            found = netlink.link_lookup(ifname=self._interface)
            if found:
                netlink.link("del", index=found[0])
        return bool(found)


def _kernel_version() -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", os.uname().release)[:2])


def _receive_in_threads(interface: str, ifindex: int | None) -> None:
    """Have the kernel hand on what it has decrypted from threads, one a peer, not from softirqs.

    Also for peers to come. Who wants it otherwise writes 0 to the same file.
    """
    attributes = Path("/sys/class/net") / interface
    try:
        # /sys may show the interfaces of another network namespace.
        if int((attributes / "ifindex").read_text()) == ifindex:
            (attributes / "threaded").write_text("1")
    except OSError as error:
        log.warning("%s: receiving in threads was refused: %s", interface, error)


def _peers_of(rows: Sequence[Sequence[str]]) -> list[PeerStatus]:
    return sorted((_peer_status(row) for row in rows[1:]), key=lambda peer: peer.public_key)


def _peer_status(row: Sequence[str]) -> PeerStatus:
    key, _, endpoint, allowed, handshake, received, sent, _ = row
    return PeerStatus(
        public_key=base64.b64decode(key),
        endpoint=None if endpoint == "(none)" else _parse_endpoint(endpoint),
        allowed=tuple(ip_network(part) for part in allowed.split(",") if part and part != "(none)"),
        last_handshake_s=int(handshake),
        received_bytes=int(received),
        sent_bytes=int(sent),
    )


def _parse_endpoint(text: str) -> Endpoint:
    address, _, port = text.rpartition(":")
    return Endpoint(ip_address(address.strip("[]")), int(port))


def _wg(arguments: Sequence[str], stdin: str = "") -> str:
    return _run(["wg", *arguments], "run", f"wg {arguments[0]}", stdin)


def _run(command: Sequence[str], operation: str, subject: str, stdin: str = "") -> str:
    try:
        done = subprocess.run(
            command, input=stdin, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
    except FileNotFoundError as error:
        detail = f"{command[0]} is not installed (Debian: wireguard-tools)"
        raise DataplaneError(operation, subject, detail, errno.ENOENT) from error
    except subprocess.TimeoutExpired as error:
        detail = f"no answer within {TIMEOUT_S:g} s"
        raise DataplaneError(operation, subject, detail, errno.ETIMEDOUT) from error
    if done.returncode != 0:
        raise DataplaneError(operation, subject, done.stderr.strip() or f"exit {done.returncode}")
    return done.stdout
