"""WireGuard through the program that runs here: kernel or wireguard-go."""

from __future__ import annotations

import base64
import subprocess
import time
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Network
from pathlib import Path

import pytest

from netagent.dataplane.wireguard import Mesh, PeerConfig, ensure_private_key
from netagent.model.errors import DataplaneError
from netagent.model.fleet import Endpoint

pytestmark = pytest.mark.root

LOOPBACK = IPv4Address("127.0.0.1")
HANDSHAKE_DEADLINE_S = 20.0


@pytest.fixture
def meshes(namespaces: None, tmp_path: Path) -> Iterator[tuple[Mesh, Mesh]]:
    """Return the WireGuard interfaces of two hosts on one loopback; no peers yet."""
    made = []
    for number in (1, 2):
        ensure_private_key(tmp_path / f"key{number}")
        made.append(Mesh(f"mesh{number}", tmp_path / f"key{number}"))
        made[-1].ensure(7000 + number, 1408)
    yield made[0], made[1]
    for mesh in made:
        mesh.remove()


def peer(tmp_path: Path, number: int) -> PeerConfig:
    public = ensure_private_key(tmp_path / f"key{number}")
    allowed = IPv6Network(f"fc1a:0:{number}::/64")
    return PeerConfig(public, Endpoint(LOOPBACK, 7000 + number), allowed)


def stranger(number: int) -> PeerConfig:
    private = subprocess.run(["wg", "genkey"], check=True, capture_output=True).stdout
    public = subprocess.run(["wg", "pubkey"], input=private, check=True, capture_output=True).stdout
    raw = base64.b64decode(public)
    return PeerConfig(raw, Endpoint(LOOPBACK, 7000 + number), IPv6Network(f"fc1a:0:{number}::/64"))


def handshakes(mesh: Mesh) -> dict[bytes, int]:
    return {status.public_key: status.last_handshake_s for status in mesh.observe()}


def wait_for_handshake(mesh: Mesh, public_key: bytes) -> int:
    deadline = time.monotonic() + HANDSHAKE_DEADLINE_S
    while not (found := handshakes(mesh).get(public_key, 0)):
        assert time.monotonic() < deadline, "no handshake"
    return found


def test_a_private_key_is_made_once_and_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "key"
    public = ensure_private_key(path)
    assert len(public) == 32
    assert path.stat().st_mode & 0o777 == 0o600
    assert ensure_private_key(path) == public


def test_a_file_that_holds_no_key_is_refused(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("not a key\n")
    with pytest.raises(DataplaneError):
        ensure_private_key(tmp_path / "key")


def test_peers_shake_hands_and_a_new_peer_leaves_their_session(
    meshes: tuple[Mesh, Mesh], tmp_path: Path
) -> None:
    one, two = peer(tmp_path, 1), peer(tmp_path, 2)
    assert meshes[0].apply([two])
    assert meshes[1].apply([one])
    since = wait_for_handshake(meshes[0], two.public_key)
    assert meshes[0].apply([two, stranger(3)])
    assert handshakes(meshes[0])[two.public_key] == since
    assert meshes[0].is_applied([two]) is False


def test_applying_what_is_there_writes_nothing(meshes: tuple[Mesh, Mesh], tmp_path: Path) -> None:
    wanted = [peer(tmp_path, 2)]
    assert meshes[0].apply(wanted)
    assert not meshes[0].apply(wanted)
    assert meshes[0].is_applied(wanted)
    assert meshes[0].apply([])
    assert meshes[0].observe() == []


def test_an_interface_that_is_there_is_adopted_with_its_peers(
    meshes: tuple[Mesh, Mesh], tmp_path: Path
) -> None:
    wanted = [peer(tmp_path, 2)]
    meshes[0].apply(wanted)
    before = meshes[0].ifindex()
    adopting = Mesh("mesh1", tmp_path / "key1")
    assert adopting.ensure(7001, 1408) in ("kernel", "wireguard-go")
    assert adopting.ifindex() == before
    assert adopting.is_applied(wanted)


def test_drift_is_seen_and_mended(meshes: tuple[Mesh, Mesh], tmp_path: Path) -> None:
    wanted = [peer(tmp_path, 2)]
    meshes[0].apply(wanted)
    key = subprocess.run(
        ["wg", "show", "mesh1", "peers"], check=True, capture_output=True, text=True
    )
    subprocess.run(["wg", "set", "mesh1", "peer", key.stdout.strip(), "remove"], check=True)
    assert not meshes[0].is_applied(wanted)
    meshes[0].forget()
    assert meshes[0].apply(wanted)
    assert meshes[0].is_applied(wanted)


def test_a_changed_port_is_applied(meshes: tuple[Mesh, Mesh], tmp_path: Path) -> None:
    wanted = [peer(tmp_path, 2)]
    meshes[0].apply(wanted)

    again = Mesh("mesh1", tmp_path / "key1")
    again.ensure(7009, 1408)

    assert not again.is_applied(wanted)
    assert again.apply(wanted)
    assert again.is_applied(wanted)
    shown = subprocess.run(
        ["wg", "show", "mesh1", "listen-port"], check=True, capture_output=True, text=True
    )
    assert shown.stdout.strip() == "7009"


def test_a_foreign_network_of_a_peer_is_drift(meshes: tuple[Mesh, Mesh], tmp_path: Path) -> None:
    wanted = [peer(tmp_path, 2)]
    meshes[0].apply(wanted)
    (status,) = meshes[0].observe()
    key = subprocess.run(
        ["wg", "show", "mesh1", "peers"], check=True, capture_output=True, text=True
    ).stdout.strip()
    foreign = f"{status.allowed[0]},192.0.2.0/24"
    subprocess.run(["wg", "set", "mesh1", "peer", key, "allowed-ips", foreign], check=True)

    assert not meshes[0].is_applied(wanted)
    meshes[0].forget()
    assert meshes[0].apply(wanted)
    assert meshes[0].is_applied(wanted)


def test_removal_may_be_repeated(meshes: tuple[Mesh, Mesh]) -> None:
    assert meshes[0].remove()
    assert not meshes[0].remove()
    assert meshes[0].ifindex() is None
