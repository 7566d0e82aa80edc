"""Generated fleets, policies and questions, small enough that rules meet, clash and overlap."""

from __future__ import annotations

from functools import cache
from ipaddress import IPv6Address, IPv6Network

from hypothesis import strategies as st

from netagent.model.fleet import Identity
from netagent.policy.fleet import FleetSnapshot, Member, make_snapshot
from netagent.policy.language import (
    AnySelector,
    CidrSelector,
    HostSelector,
    LabelSelector,
    LabelTest,
    MachineSelector,
    Mode,
    Party,
    Policy,
    Requirement,
    Rule,
    Traffic,
    Verdict,
)

PREFIX = IPv6Network("fd00:1:2:3::/64")
NETWORKS = {"shop": 1, "ops": 2, "lab": 3}
KEYS = {"app": ("web", "db"), "env": ("prod", "test")}
MACHINES = tuple(f"m-{n}" for n in range(5))
PREFIXES = tuple(
    IPv6Network(text)
    for text in (
        "2000::/3",
        "2001:db8::/32",
        "2001:db8:100::/40",
        "2001:db8:100:1::/64",
        "2001:db8:100:1::5/128",
        "2001:db9::/32",
    )
)

labels = st.fixed_dictionaries(
    {}, optional={key: st.sampled_from(values) for key, values in KEYS.items()}
)


@st.composite
def fleets(draw, networks=tuple(NETWORKS)) -> FleetSnapshot:
    """Fleets whose machines of equal labels share an identity."""
    identities: dict[object, Identity] = {}
    members = []
    for network in networks:
        for name in sorted(draw(st.sets(st.sampled_from(MACHINES)))):
            own = draw(labels)
            key = network, tuple(sorted(own.items()))
            identity = identities.setdefault(key, Identity(len(identities) + 2))
            members.append(Member(network, name, identity, own))
    return make_snapshot(PREFIX, NETWORKS, members)


@cache
def _requirement(key: str):
    values = st.sets(st.sampled_from(KEYS[key]), min_size=1).map(lambda one: tuple(sorted(one)))
    listed = st.tuples(st.sampled_from((LabelTest.IN, LabelTest.NOT_IN)), values)
    bare = st.sampled_from(((LabelTest.EXISTS, ()), (LabelTest.ABSENT, ())))
    return st.one_of(listed, bare).map(lambda one: Requirement(key, one[0], one[1]))


requirements = st.sets(st.sampled_from(sorted(KEYS))).flatmap(
    lambda keys: st.tuples(*(_requirement(key) for key in sorted(keys)))
)


@st.composite
def cidr_selectors(draw) -> CidrSelector:
    prefixes = draw(st.sets(st.sampled_from(PREFIXES), min_size=1, max_size=3))
    inner = [one for one in PREFIXES if any(one.subnet_of(outer) for outer in prefixes)]
    exceptions = draw(st.sets(st.sampled_from(inner), max_size=2))
    return CidrSelector(tuple(sorted(prefixes)), tuple(sorted(exceptions)))


@cache
def selectors(own: str = "shop", peer: str = "ops"):
    network = st.sampled_from((own, own, own, peer))
    return st.one_of(
        st.just(AnySelector()),
        st.just(HostSelector()),
        st.builds(LabelSelector, network, requirements),
        st.builds(LabelSelector, network, requirements),
        st.builds(MachineSelector, network, st.sampled_from(MACHINES)),
        cidr_selectors(),
    )


@cache
def peers(own: str = "shop", peer: str = "ops"):
    return st.lists(selectors(own, peer), min_size=1, max_size=2, unique=True).map(tuple)


PORTS = (0, 1, 21, 22, 23, 80, 443, 8000, 65534, 65535)


@st.composite
def traffic(draw) -> Traffic:
    protocol = draw(st.sampled_from((None, 6, 6, 6, 17, 58)))
    if protocol is None:
        return Traffic(None)
    if protocol == 58:
        kind = draw(st.sampled_from((1, 2, 128, 129)))
        return Traffic(58, kind << 8, kind << 8 | 0xFF)
    first, last = sorted((draw(st.sampled_from(PORTS)), draw(st.sampled_from(PORTS))))
    return Traffic(protocol, first, last)


@cache
def rules(name: str, own: str = "shop", peer: str = "ops"):
    return st.builds(
        Rule,
        st.just(name),
        peers(own, peer),
        peers(own, peer),
        st.sampled_from(Verdict),
        st.lists(traffic(), min_size=1, max_size=3).map(tuple),
        st.sampled_from((Mode.ENFORCE, Mode.ENFORCE, Mode.AUDIT)),
    )


@st.composite
def policies(draw, most=6, own="shop", peer="ops", least=0) -> Policy:
    """Policies of network `own` that know of themselves and of network `peer`."""
    names = draw(
        st.lists(st.sampled_from("abcdefghij"), unique=True, min_size=least, max_size=most)
    )
    return Policy(
        own,
        tuple(draw(rules(name, own, peer)) for name in names),
        draw(st.sampled_from(Verdict)),
        draw(st.sampled_from((Mode.ENFORCE, Mode.ENFORCE, Mode.AUDIT))),
    )


def interesting_ports(policy: Policy) -> list[tuple[int, int]]:
    """Protocols and ports at the edges of what the rules say, and beyond."""
    found = {(6, 0), (6, 65535), (17, 0), (47, 0), (58, 0), (58, 128 << 8)}
    for rule in policy.rules:
        for one in rule.traffic:
            for port in (one.first - 1, one.first, one.last, one.last + 1):
                if 0 <= port <= 0xFFFF and one.protocol is not None:
                    found.add((one.protocol, port))
    return sorted(found)


def interesting_addresses(policy: Policy) -> list[IPv6Address]:
    """Outside addresses at the edges of what the rules say, and beyond."""
    found = {IPv6Address("2a00::1")}
    for rule in policy.rules:
        for selector in (*rule.source, *rule.destination):
            if isinstance(selector, CidrSelector):
                for prefix in (*selector.prefixes, *selector.exceptions):
                    for value in (
                        int(prefix[0]) - 1,
                        int(prefix[0]),
                        int(prefix[-1]),
                        int(prefix[-1]) + 1,
                    ):
                        found.add(IPv6Address(value))
    return sorted(found)


def pairs_asked(policy: Policy, fleet: FleetSnapshot) -> list[tuple[Party, Party]]:
    """Every two parties that the policy's network is asked about."""
    own = [Party(machine=path) for path in fleet.members if path.startswith(f"{policy.network}/")]
    others = [
        Party(machine=path) for path in fleet.members if not path.startswith(f"{policy.network}/")
    ]
    outside = [Party(address=address) for address in interesting_addresses(policy)]
    peers = [*others, Party(is_host=True), *outside]
    return [
        *((one, two) for one in own for two in own),
        *((one, two) for one in own for two in peers),
        *((two, one) for one in own for two in peers),
    ]
