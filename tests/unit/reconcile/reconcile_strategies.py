"""Small fleets, so that hypothesis finds collisions: 3 networks, 4 machines each, 4 hosts."""

from ipaddress import IPv4Address, IPv6Network

from hypothesis import strategies as st

from netagent.model.addresses import Fleet, Locator, StableId, make_id, make_locator
from netagent.model.fleet import Endpoint, Host, Identity, Location, Transition
from netagent.reconcile.batch import Batch, LocationChange, NamedLocation, TransitionChange

FLEET = Fleet("fleet-1", IPv6Network("fd00:1:2::/64"))
NETWORKS = (1, 2, 3)


def host(number: int, key: int | None = None) -> Host:
    return Host(
        name=f"h{number}",
        region=1,
        number=number,
        public_key=bytes([number if key is None else key]) * 32,
        endpoint=Endpoint(IPv4Address(f"10.0.0.{number}"), 51820),
        stable_id=make_id(0, 1, number),
        locator=make_locator(FLEET, 1, number),
    )


HOSTS = tuple(host(number) for number in (1, 2, 3, 4))
OWN = HOSTS[0]
LOCATORS = tuple(h.locator for h in HOSTS)


def machine_id(network: int, number: int) -> StableId:
    return make_id(network, 1, number)


locators: st.SearchStrategy[Locator] = st.sampled_from(LOCATORS)
epochs = st.integers(0, 5)
locations = st.builds(Location, locators, st.integers(2, 4).map(Identity), epochs)
transitions = st.builds(Transition, locators, locators, epochs)
machine_ids = st.builds(machine_id, st.sampled_from(NETWORKS), st.integers(1, 4))


def _ids(network: int) -> st.SearchStrategy[StableId]:
    return st.integers(1, 4).map(lambda number: machine_id(network, number))


@st.composite
def location_changes(draw, network: int, *, is_whole: bool) -> LocationChange:
    rows = draw(st.dictionaries(_ids(network), locations, max_size=4))
    removed = draw(st.dictionaries(_ids(network), epochs, max_size=2))
    return LocationChange(
        network,
        f"net{network}",
        is_whole,
        {i: NamedLocation(f"m{i & 0xFFF}", row) for i, row in rows.items()},
        {i: epoch for i, epoch in removed.items() if i not in rows},
    )


@st.composite
def transition_changes(draw, network: int, *, is_whole: bool) -> TransitionChange:
    rows = draw(st.dictionaries(_ids(network), transitions, max_size=2))
    removed = draw(st.dictionaries(_ids(network), epochs, max_size=2))
    return TransitionChange(
        network, is_whole, rows, {i: e for i, e in removed.items() if i not in rows}
    )


@st.composite
def snapshots(draw, revision: int = 1) -> Batch:
    networks = draw(st.lists(st.sampled_from(NETWORKS), unique=True))
    return Batch(
        revision=revision,
        is_snapshot=True,
        hosts=(OWN, *draw(st.lists(st.sampled_from(HOSTS[1:]), unique=True))),
        locations=tuple(draw(location_changes(n, is_whole=True)) for n in networks),
        transitions=tuple(draw(transition_changes(n, is_whole=True)) for n in networks),
    )


@st.composite
def changes(draw, held: tuple[int, ...], revision: int = 2) -> Batch:
    """A batch of changes for an agent that holds the networks `held`."""
    dropped = tuple(draw(st.lists(st.sampled_from(held), unique=True, max_size=1))) if held else ()
    added = [n for n in NETWORKS if n not in held and draw(st.booleans())]
    kept = [n for n in held if n not in dropped]
    gone = draw(st.lists(st.sampled_from(HOSTS[1:]), unique=True, max_size=2))
    came = draw(st.lists(st.sampled_from(HOSTS[1:]), unique=True, max_size=2))
    return Batch(
        revision=revision,
        hosts=tuple(h for h in came if h not in gone),
        removed_hosts=tuple(h.name for h in gone),
        locations=(
            *(draw(location_changes(n, is_whole=False)) for n in kept),
            *(draw(location_changes(n, is_whole=True)) for n in added),
        ),
        transitions=tuple(draw(transition_changes(n, is_whole=False)) for n in kept),
        dropped_networks=dropped,
    )
