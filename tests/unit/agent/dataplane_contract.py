"""What the agent relies on, asked of the data path in memory and of the kernel's alike.

As a program it asks the kernel's, in the namespaces in which it is started.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from pathlib import Path

import pytest
from agent_policies import DB_IDENTITY, WEB_IDENTITY, allowing
from agent_rig import DB, FLEET, H1, H2, WEB

from netagent.agent.ports import DatapathPort, LinksPort, MeshPort, PolicyPort
from netagent.dataplane.abi import Constants, EndpointRow, TransitionRow
from netagent.dataplane.datapath import Attachment, Datapath
from netagent.dataplane.link_use import LinkUse
from netagent.dataplane.links import Links
from netagent.dataplane.wireguard import Mesh, PeerConfig, ensure_private_key
from netagent.model.addresses import GATEWAY_MAC, locator_network
from netagent.model.errors import DataplaneError
from netagent.model.fleet import Endpoint, Identity, Location
from netagent.policy.entries import Direction
from netagent.policy.language import Verdict

NETNS = Path("/run/netns/web")
ADDRESS = IPv6Address("fd00:1:2::1:10:1")
MIRROR = IPv6Address("2001:db8::7")
MAC = b"\x02\x6e\0\0\0\1"
PEER = PeerConfig(
    b"\x07" * 32, Endpoint(IPv4Address("10.9.0.2"), 51820), locator_network(H2.locator)
)


def check_tables(datapath: DatapathPort) -> None:
    location = Location(H2.locator, Identity(2), 7)
    moving = TransitionRow(H1.locator, H2.locator, 5, 8)
    bound = EndpointRow(4, MAC, True)
    datapath.location.update({WEB: location, DB: location})
    datapath.transition.update({WEB: moving})
    datapath.endpoint.update({WEB: bound})

    assert datapath.location.items() == {WEB: location, DB: location}
    assert datapath.transition.get(WEB) == moving
    assert datapath.endpoint.get(WEB) == bound
    assert datapath.endpoint.get(DB) is None
    datapath.location.delete([DB, DB])
    assert datapath.location.items() == {WEB: location}
    datapath.location.update({})
    assert datapath.location.capacity > 0
    datapath.await_programs()
    assert datapath.endpoint.get(WEB) == bound


def check_policies(policies: PolicyPort) -> None:
    first, second = allowing("tcp/5432"), allowing("tcp/80", "icmp6/echo", version=2)
    ends = WEB_IDENTITY, DB_IDENTITY
    generation = policies.generation()
    assert policies.ask(1, Direction.INSIDE, *ends, 6, 5432) is None

    assert policies.apply(first) > 0
    assert policies.apply(first) == 0

    answer = policies.ask(1, Direction.INSIDE, *ends, 6, 5432)
    assert answer is not None
    assert (answer.verdict, answer.rule, answer.version) == (Verdict.ALLOW, 1, 1)
    outside = policies.ask(1, Direction.EGRESS, WEB_IDENTITY, MIRROR, 6, 443)
    assert outside is not None
    assert (outside.verdict, outside.rule) == (Verdict.ALLOW, 2)
    assert outside.destination == first.prefixes[IPv6Network("2001:db8::/32")]
    assert policies.apply(second) > 0
    answer = policies.ask(1, Direction.INSIDE, *ends, 6, 5432)
    assert answer is not None
    assert (answer.verdict, answer.rule, answer.version) == (Verdict.DENY, 0, 2)
    assert policies.held() == policies.observe()
    policies.forget()
    assert policies.apply(second) == 0, "what is read from the kernel is what was written"
    assert policies.generation() == generation + 2, "each revision was put in force"
    assert policies.raise_generation() == generation + 3
    assert policies.generation() == generation + 3
    counters = policies.rule_counters()
    rules = [(1, 0), (1, 0), (1, 1), (1, 1), (1, 2), (1, 2)]
    assert [(rule.network, rule.number) for rule, _ in counters] == rules
    assert policies.drop(1) > 0
    assert policies.drop(1) == 0
    assert policies.ask(1, Direction.INSIDE, *ends, 6, 80) is None


def check_mesh(mesh: MeshPort) -> None:
    assert mesh.ifindex() is None
    assert mesh.ensure(51820, 1408) in ("kernel", "wireguard-go")
    index = mesh.ifindex()
    assert index is not None
    mesh.ensure(51820, 1408)
    assert mesh.ifindex() == index
    assert not mesh.is_applied([PEER]), "it has not even a key"
    assert mesh.apply([PEER])
    assert not mesh.apply([PEER])
    assert mesh.is_applied([PEER])
    assert [peer.public_key for peer in mesh.observe()] == [PEER.public_key]
    mesh.forget()
    assert mesh.apply([PEER])


def check_links_and_programs(datapath: DatapathPort, links: LinksPort, mesh: MeshPort) -> None:
    index = mesh.ifindex()
    assert index is not None
    datapath.load(Constants(FLEET, H1.locator, H1.stable_id, 1408, index))
    assert datapath.attach(index, Attachment.MESH)
    assert not datapath.attach(index, Attachment.MESH)
    host_side, gateway_side = links.ensure_host_interface(
        "na-host", ADDRESS, IPv6Network("fd00:1:2::/64"), 1408
    )
    again = links.ensure_host_interface("na-host", ADDRESS, IPv6Network("fd00:1:2::/64"), 1408)
    assert [link.ifindex for link in again] == [host_side.ifindex, gateway_side.ifindex]

    link = links.make_machine_interface("na-web", NETNS, ADDRESS, MAC, 1408)

    assert (link.name, link.mac, link.is_up) == ("na-web", GATEWAY_MAC, True)
    assert links.find("na-web") == link
    assert links.make_machine_interface("na-web", NETNS, ADDRESS, MAC, 1408) == link
    assert links.activate_machine_interface("na-web", NETNS)
    assert not links.activate_machine_interface("na-web", NETNS)
    links.make_machine_interface("na-new", NETNS, ADDRESS, MAC, 1408)
    links.prepare_machine_route("na-new", NETNS)
    links.prepare_machine_route("na-new", NETNS)
    assert links.activate_machine_interface("na-new", NETNS)
    assert not links.activate_machine_interface("na-new", NETNS)
    links.prepare_machine_route("na-web", NETNS)
    links.release_machine_route("na-web")
    links.release_machine_route("na-web")
    assert not links.activate_machine_interface("na-new", NETNS)
    assert datapath.attach(link.ifindex, Attachment.MACHINE)
    assert not datapath.attach(link.ifindex, Attachment.MACHINE)
    datapath.load(Constants(FLEET, H1.locator, H1.stable_id, 1408, index + 1))
    assert datapath.attach(link.ifindex, Attachment.MACHINE), "other constants, other program"
    assert datapath.detach(link.ifindex)
    assert not datapath.detach(link.ifindex)
    assert links.remove("na-web")
    assert not links.remove("na-web")
    assert links.find("na-web") is None


def check_handed(links: LinksPort) -> None:
    before = links.find("tap0")
    assert before is not None
    assert links.observe_use("tap0") == LinkUse("tun", True, False, None, (), False)

    handed = links.prepare_existing_interface("tap0")

    assert (handed.mac, handed.is_up) == (GATEWAY_MAC, True)
    assert links.give_back("tap0", before.mac, is_up=before.is_up)
    assert links.find("tap0") == before
    assert not links.give_back("tap0", before.mac, is_up=before.is_up)
    assert not links.give_back("none", before.mac, is_up=True)


def check_failures(datapath: DatapathPort, links: LinksPort) -> None:
    attempts: tuple[Callable[[], object], ...] = (
        lambda: datapath.attach(9_999, Attachment.MACHINE),
        lambda: links.prepare_existing_interface("none"),
        lambda: links.activate_machine_interface("none", NETNS),
        lambda: links.make_machine_interface("na-x", Path("/run/netns/gone"), ADDRESS, MAC, 1408),
    )
    for attempt in attempts:
        with pytest.raises((DataplaneError, FileNotFoundError)):
            attempt()


def check_all(datapath: DatapathPort, links: LinksPort, mesh: MeshPort) -> None:
    check_tables(datapath)
    check_policies(datapath.policies)
    check_handed(links)
    check_mesh(mesh)
    check_links_and_programs(datapath, links, mesh)
    check_failures(datapath, links)


def main() -> None:
    for command in (
        "mount --make-rprivate /",
        "mount -t tmpfs tmpfs /run",
        "mkdir -p /run/bpf /run/wireguard /run/netns",
        "mount -t bpf bpf /run/bpf",
        "ip netns add web",
        "ip tuntap add tap0 mode tap",
    ):
        subprocess.run(command.split(), check=True)
    ensure_private_key(Path("/run/key"))
    with Datapath.open(Path("/run/bpf/netagent/v2")) as datapath, Links() as links:
        check_all(datapath, links, Mesh("netagent0", Path("/run/key")))


if __name__ == "__main__":
    main()
