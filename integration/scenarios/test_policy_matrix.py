"""Every cell of the semantics table with real traffic: see policy_cells."""

from __future__ import annotations

import resource
from collections.abc import Iterator

import pytest

from integration.lab.lab import Lab
from integration.lab.outside import connect_outside
from integration.lab.policies import apply_policy
from integration.scenarios.policy_cells import CONSENTING, PEERS, Peer, Way, cells, policy_text
from integration.scenarios.traffic import Place, place_of
from integration.scenarios.volley import Echo, Probe, echoing, fire

OUTSIDE = ("2001:db8:100::2", "2001:db8:100:1::2")
VARIANTS = [("deny", "enforce"), ("allow", "enforce"), ("deny", "audit")]


class Table:
    """A lab with red/me and its peers, and everybody's echoes."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.variant: tuple[str, str] | None = None
        self.places: dict[str, Place] = {}
        self.echoes: dict[str, Echo] = {}

    def build(self) -> None:
        lab = self.lab
        for network in ("red", "blue"):
            lab.network(network)
            peer = {"app": "peer", "role": "peer"}
            lab.machine(f"{network}/near", "host-a", peer)
            lab.machine(f"{network}/far", "host-b", peer)
            lab.machine(f"{network}/other", "host-a", {"role": "other"})
        me = lab.machine("red/me", "host-a", {"role": "me"})
        prefix = str(me.address).rpartition("::")[0].split(":")[:4]
        outside = lab.namespace("outside")
        connect_outside(outside, lab.hosts["host-a"], OUTSIDE, f"{':'.join(prefix)}::/64")
        self.places = {path: place_of(machine) for path, machine in lab.machines.items()}
        self.places |= {name: place_of(host) for name, host in lab.hosts.items()}
        self.places |= {address: Place(address, outside, address) for address in OUTSIDE}
        apply_policy(lab, CONSENTING)

    def turn(self, variant: tuple[str, str]) -> None:
        """Bring a variant of red's policy into force, unless it is."""
        if variant != self.variant:
            apply_policy(self.lab, policy_text(*variant))
            self.variant = variant


@pytest.fixture(scope="module")
def table() -> Iterator[Table]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(16_384, hard), hard))
    with Lab(hosts=2) as lab:
        made = Table(lab)
        made.build()
        yield made
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("peer", PEERS, ids=[peer.name for peer in PEERS])
@pytest.mark.parametrize("variant", VARIANTS, ids=["default-deny", "default-allow", "audit"])
def test_every_cell_is_as_the_words_say(table: Table, variant: tuple[str, str], peer: Peer) -> None:
    table.turn(variant)
    me, other = table.places["red/me"], table.places[peer.name]
    wrong = []

    for way in Way:
        source, destination = (me, other) if way is Way.OUT else (other, me)
        of_way = [cell for cell in cells() if cell.way is way]
        wanted = {Probe(kind, cell.port): cell for cell in of_way for kind in ("tcp", "udp")}
        typed = [cell for cell in of_way if cell.icmp_type is not None]
        wanted |= {Probe("icmp6", cell.icmp_type or 0): cell for cell in typed}
        with echoing(destination, [cell.port for cell in of_way]) as echo:
            passed = fire(source, destination, echo, wanted)
        wrong += [
            (probe, cell, "passed" if probe in passed else "dropped")
            for probe, cell in wanted.items()
            if (probe in passed) is not cell.expects(peer, *variant)
        ]

    assert not wrong, f"{len(wrong)} cells are wrong, as {wrong[:5]}"
