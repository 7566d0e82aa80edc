"""BCC in the hosts counts what netagent says that it counts, and knows none of its code.

The sums that have to be equal, on each host, over all that happens here:

- handed to the WireGuard interface = pass_to_mesh + pass_forwarded, and what others put into it;
- received by it = every verdict that from_mesh gives: pass_from_mesh, pass_forwarded,
  pass_to_host, and the drops of what came from other hosts;
- received by all interfaces that bear a program = all verdicts but to_machine's;
- freed on these for the kernel's reason TC_INGRESS = all verdicts that drop, but to_machine's;
- freed for TC_EGRESS = the drops of to_machine; nothing is freed there for another reason.

Packets and bytes; bytes of a verdict count the Ethernet header where there is one.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from ipaddress import IPv6Address

from scapy.layers.inet import UDP
from scapy.layers.inet6 import IPv6

from integration.lab.host import WIREGUARD_PORT
from integration.lab.lab import CONTROL_PORT
from integration.lab.policies import apply_policy
from integration.lab.stream import end, streaming
from integration.lab.vm.host import GuestHost
from integration.lab.vm.image import get_image
from integration.lab.vm.lab import VmLab
from integration.lab.wait import wait_until
from integration.observer.disk import get_disk
from integration.observer.observer import Counts, Observer, Tally, Wire, observing
from integration.scenarios.captures import Capture, capturing
from integration.scenarios.kernel import id_of, locator_of
from integration.scenarios.traffic import can_talk, datagrams, pings, place_of, received

MESH = "netagent0"
BEARERS = re.compile(r"netagent0|na-host-gw|m\d+")
"""The interfaces whose ingress bears a program; all but MESH have an Ethernet header."""

ETHERNET_BYTES = 14
FROM_MESH = (
    *("pass_from_mesh", "pass_forwarded", "pass_to_host", "drop_source_not_at_sender"),
    *("drop_destination_not_here", "drop_not_encoded", "drop_hop_limit", "drop_denied_ingress"),
)
"""Verdicts of from_mesh; here, no other program has one of these."""

TO_MACHINE = "drop_outside"
"""The verdict of to_machine, about what a host's own stack sends; here, only that program's."""

OF_A_WHOLE = ("kfree_skb_list", "skb_release_data")
"""Where the kernel frees the parts of a packet that GRO has merged, with the packet itself."""

MARKER = b"seen-in-clear-no"
FORGED = 3
REPEATED = 5
ARRIVAL_S = 20.0
SHOP = """
network: shop
default: allow
rules: [{name: out, from: {labels: {}}, to: {network: lab}, allow: [any]}]
"""
LAB = """
network: lab
rules: [{name: in, from: {network: shop}, to: {labels: {}}, allow: [tcp/1]}]
"""
INJECT = f"""
import socket, sys
raw = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x86DD))
for _ in range({FORGED}):
    raw.sendto(bytes.fromhex(sys.argv[1]), ("{MESH}", 0x86DD))
"""


@dataclass(frozen=True, slots=True)
class Reading:
    """What observer and agent of one host had counted while no packet passed."""

    seen: Counts
    counted: Mapping[str, Tally]

    def since(self, before: Reading) -> Reading:
        """Return what has come since."""
        counted = {
            verdict: tally - before.counted.get(verdict, Tally())
            for verdict, tally in self.counted.items()
        }
        return Reading(self.seen - before.seen, counted)

    def of(self, *verdicts: str) -> Tally:
        """Return the agent's count of these verdicts together."""
        return _sum(self.counted.get(verdict, Tally()) for verdict in verdicts)

    @property
    def drops(self) -> Tally:
        """All that the agent counts as dropped."""
        return self.of(*(verdict for verdict in self.counted if verdict.startswith("drop_")))

    def arrived(self) -> Tally:
        """What all bearers have received, in bytes as programs count them."""
        return _sum(
            Tally(tally.packets, tally.bytes + header * tally.packets)
            for (device, way), tally in self.seen.passed.items()
            if way == "received" and BEARERS.fullmatch(device)
            for header in [0 if device == MESH else ETHERNET_BYTES]
        )

    def freed(self) -> Counter[str]:
        """Packets that were freed on bearers, by the kernel's reason."""
        freed: Counter[str] = Counter()
        for (device, reason, function), packets in self.seen.freed.items():
            if BEARERS.fullmatch(device) and not function.startswith(OF_A_WHOLE):
                freed[reason] += packets
        return freed


def _sum(tallies: Iterator[Tally]) -> Tally:
    listed = list(tallies)
    return Tally(sum(each.packets for each in listed), sum(each.bytes for each in listed))


def _read(host: GuestHost, observer: Observer) -> Reading:
    """Read both; again, unless the observer says that nothing has passed in between."""

    def of_bearers(counts: Counts) -> dict[tuple[str, str], Tally]:
        return {key: value for key, value in counts.passed.items() if BEARERS.fullmatch(key[0])}

    def read_at_rest() -> Reading | None:
        before = observer.read()
        counters = host.status().counters
        after = observer.read()
        counted = {each.verdict: Tally(each.packets, each.bytes) for each in counters}
        return Reading(after, counted) if of_bearers(before) == of_bearers(after) else None

    reading = wait_until(f"nothing passes {host.name} for a moment", read_at_rest, timeout_s=60)
    assert reading is not None
    return reading


@contextmanager
def _capturing_all(lab: VmLab) -> Iterator[dict[str, Capture]]:
    """Capture what each host has on the underlay, and host-a on the cables of its machines."""
    ports = [host.vm.underlay_port for host in lab.hosts.values()]
    ports.append(lab.hosts["host-a"].vm.trunk_port)
    with ExitStack() as stack:
        yield {port: stack.enter_context(capturing(lab.fabric, port)) for port in ports}


def _is_expected(wire: Wire) -> bool:
    """Whether the underlay has packets of this kind: WireGuard, control, and what it needs itself.

    IPv6, which is what machines speak, only as the link's own neighbour discovery.
    """
    if wire.ethertype == 0x0806:
        return True
    if wire.ethertype == 0x86DD:
        return wire.source in (0, 0xFE80) and wire.destination in (0xFE80, 0xFF02)
    if wire.protocol == 6:
        return CONTROL_PORT in (wire.source, wire.destination)
    return (wire.protocol, wire.source, wire.destination) == (17, WIREGUARD_PORT, WIREGUARD_PORT)


def _is_controls(frame: bytes) -> bool:
    ports = int.from_bytes(frame[34:36], "big"), int.from_bytes(frame[36:38], "big")
    return frame[12:14] == b"\x08\x00" and frame[23] == 6 and CONTROL_PORT in ports


def test_an_observer_that_shares_no_code_counts_the_same(vm_lab: VmLab) -> None:
    lab = vm_lab
    lab.network("lab")
    web, db = lab.machine("shop/web", "host-a"), lab.machine("shop/db", "host-b")
    ops = lab.machine("lab/ops", "host-c")
    # Where it will move, ahead: what an interface hears before it bears a program has no verdict.
    web.attach(lab.hosts["host-c"])
    web.wait_reaches(db)
    apply_policy(lab, SHOP)
    apply_policy(lab, LAB)
    hosts = lab.hosts
    forged = IPv6(
        src=str(IPv6Address(locator_of(hosts["host-c"]) << 64 | id_of(web.address))),
        dst=str(IPv6Address(locator_of(hosts["host-b"]) << 64 | id_of(db.address))),
    ) / UDP(sport=1, dport=7401)
    forged = bytes(forged / b"forged")

    with observing(hosts.values(), get_disk(get_image())) as observers:
        before = {name: _read(host, observers[name]) for name, host in hosts.items()}
        with _capturing_all(lab) as captures:
            # Allowed.
            wait_until("web talks to db", lambda: can_talk(place_of(web), place_of(db)))
            with datagrams(place_of(db), 7200) as heard, datagrams(place_of(web)) as speaks:
                heard.settimeout(ARRIVAL_S)
                for _ in range(REPEATED):
                    speaks.sendto(MARKER * 200, (db.address, 7200))  # in fragments
                    assert received(heard) == MARKER * 200
            # Denied at the receiver, and by the sender's host: nobody has opened the way back.
            with datagrams(place_of(ops), 7201) as silent, datagrams(place_of(web)) as speaks:
                for _ in range(REPEATED):
                    speaks.sendto(MARKER, (ops.address, 7201))
                assert received(silent) is None
            with datagrams(place_of(ops)) as speaks:
                for _ in range(REPEATED):
                    speaks.sendto(MARKER, (web.address, 7201))
            # Spoofed by a machine, and by a host.
            web.run("ip", "-6", "addr", "add", f"{ops.address}/128", "dev", "eth0", "nodad")
            as_ops = place_of(web).impersonating(ops.address)
            assert not pings(as_ops, db.address, "-I", ops.address)
            web.run("ip", "-6", "addr", "del", f"{ops.address}/128", "dev", "eth0")
            hosts["host-c"].run("python3", "-c", INJECT, forged.hex())
            # A move.
            with streaming(db.namespace, web.namespace, web.address) as stream:
                connection = stream.connection()
                ping = ("ping", "-6", "-n", "-q", "-i", "0.1", "-p", MARKER.hex(), web.address)
                pinging = db.start(*ping)
                lab.move(web, "host-c", attach=False)
                assert stream.is_alive_after(connection)
                end(pinging)
            wait_until("web talks to db", lambda: can_talk(place_of(web), place_of(db)))
            after = {name: _read(host, observers[name]) for name, host in hosts.items()}

    change = {name: after[name].since(before[name]) for name in hosts}
    for name, reading in change.items():
        print(f"\n{name}, netagent: {reading.counted}")
        print(f"{name}, BCC: {reading.seen}")
    assert change["host-a"].of("drop_spoofed_address").packets >= 1
    assert change["host-b"].of("drop_source_not_at_sender").packets == FORGED
    assert change["host-c"].of("drop_denied_ingress").packets == REPEATED
    assert change["host-c"].of("drop_denied_egress").packets == REPEATED
    for name, reading in change.items():
        injected = Tally(FORGED, FORGED * len(forged)) if name == "host-c" else Tally()
        _check_sums(reading, injected)
        unexpected = [wire for wire in reading.seen.wires if not _is_expected(wire)]
        assert not unexpected, f"{name}: {unexpected}"
    _check_captures(lab, captures)


def _check_sums(reading: Reading, injected: Tally) -> None:
    seen = reading.seen
    to_mesh, forwarded = reading.of("pass_to_mesh"), reading.of("pass_forwarded")
    sent = Tally(
        to_mesh.packets + forwarded.packets + injected.packets,
        to_mesh.bytes - ETHERNET_BYTES * to_mesh.packets + forwarded.bytes + injected.bytes,
    )
    assert seen.sent(MESH) == sent
    assert seen.received(MESH) == reading.of(*FROM_MESH)
    assert reading.arrived() == reading.of(*reading.counted) - reading.of(TO_MACHINE)
    freed = reading.freed()
    assert freed["TC_EGRESS"] == reading.of(TO_MACHINE).packets
    assert freed["TC_INGRESS"] == (reading.drops - reading.of(TO_MACHINE)).packets
    assert not freed.keys() - {"TC_INGRESS", "TC_EGRESS"}
    assert sent.packets > 0
    assert reading.drops.packets > 0


def _check_captures(lab: VmLab, captures: dict[str, Capture]) -> None:
    cables = captures.pop(lab.hosts["host-a"].vm.trunk_port)
    assert any(MARKER in frame for frame in cables.frames), "the marker is not seen anywhere"
    addresses = [IPv6Address(machine.address).packed for machine in lab.machines.values()]
    for port, capture in captures.items():
        frames = capture.frames
        assert frames, port
        for frame in frames:
            assert MARKER not in frame, f"{port}: {frame.hex()}"
            if not _is_controls(frame):
                assert not [one for one in addresses if one in frame], f"{port}: {frame.hex()}"
