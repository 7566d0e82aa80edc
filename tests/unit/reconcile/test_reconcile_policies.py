"""Policies in batches: what is held afterwards, what is refused, what has flows judged again."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reconcile_policies import APPS, NETWORKS, compiled, difference, whole
from reconcile_strategies import HOSTS, OWN, machine_id
from simulated_kernel import SimulatedKernel

from netagent.model.errors import ExhaustedError, InvalidError
from netagent.model.fleet import Identity, Location
from netagent.policy.entries import CompiledPolicy, Direction
from netagent.reconcile.batch import Batch, LocationChange, NamedLocation
from netagent.reconcile.delta import Capacities, check_capacity, plan_delta
from netagent.reconcile.operations import Rank, RemovePolicies, SetPolicies
from netagent.reconcile.plan import changes_verdicts, plan_changes
from netagent.reconcile.view import HeldPolicy, View

ONE = compiled(["web-db"])
TWO = compiled(["web-db", "web-cache"], version=2)
BLUE = compiled(["web-db"], network="blue")
WEB = machine_id(1, 1)
ROOM = Capacities(locations=99, transitions=99, endpoints=99)


def at(identity: int = 10, epoch: int = 1, host: int = 1) -> NamedLocation:
    return NamedLocation("web", Location(HOSTS[host].locator, Identity(identity), epoch))


def located(**fields: NamedLocation) -> tuple[LocationChange, ...]:
    rows = {machine_id(1, int(name[1:])): row for name, row in fields.items()}
    return (LocationChange(1, "red", False, rows),)


def view_of(*batches: Batch) -> View:
    view = View()
    for batch in batches:
        view.apply(plan_delta(view, batch))
    return view


def snapshot(*policies, revision: int = 1) -> Batch:
    rows = {WEB: at()}
    return Batch(
        revision,
        True,
        HOSTS,
        locations=(LocationChange(1, "red", True, rows), LocationChange(2, "blue", True, {})),
        policies=policies,
    )


def plan(view: View, batch: Batch):
    return plan_changes(view, plan_delta(view, batch), OWN.name, OWN.locator, set())


def test_a_policy_arrives_whole_and_then_by_what_changes() -> None:
    view = view_of(snapshot(whole(ONE, b"1")), Batch(2, policies=(difference(ONE, TWO, b"2"),)))

    assert view.policies == {1: HeldPolicy(TWO, b"2")}


def test_what_a_change_leaves_alone_is_shared_with_what_was_held() -> None:
    view = view_of(snapshot(whole(ONE, b"1")))
    held = view.policies[1].compiled
    web, other = Identity(10), compiled(["web-db", "db-cache"], version=2)

    for change in (difference(ONE, other, b"2"), whole(other, b"2")):
        delta = plan_delta(view, Batch(2, policies=(change,)))

        after = delta.policies[1].compiled
        assert after == other
        assert after.pairs[Direction.INSIDE][web] is held.pairs[Direction.INSIDE][web]
        assert delta.former_policies == {1: view.policies[1]}


def test_a_policy_that_is_held_already_changes_nothing() -> None:
    view = view_of(snapshot(whole(ONE, b"1")))

    for change in (whole(ONE, b"1"), difference(ONE, ONE, b"1")):
        assert plan_delta(view, Batch(2, policies=(change,))).is_empty


def test_another_name_for_the_same_entries_is_kept() -> None:
    view = view_of(snapshot(whole(ONE, b"1")))

    view.apply(plan_delta(view, Batch(2, policies=(difference(ONE, ONE, b"2"),))))

    assert view.policies[1].content == b"2"


def test_several_changes_of_one_policy_in_a_batch_come_to_the_last() -> None:
    changes = (whole(ONE, b"1"), difference(ONE, TWO, b"2"))

    assert view_of(snapshot(*changes)).policies == {1: HeldPolicy(TWO, b"2")}


def test_policies_go_when_they_are_dropped_and_when_a_snapshot_lacks_them() -> None:
    view = view_of(snapshot(whole(ONE, b"1"), whole(BLUE, b"b")))

    assert plan_delta(view, Batch(2, dropped_policies=(2, 7))).dropped_policies == {2}
    assert plan_delta(view, snapshot(whole(ONE, b"1"))).dropped_policies == {2}
    view.apply(plan_delta(view, Batch(2, dropped_policies=(2,))))
    assert set(view.policies) == {1}


def test_a_snapshot_may_keep_a_policy_by_a_difference_that_changes_nothing() -> None:
    view = view_of(snapshot(whole(ONE, b"1")))

    delta = plan_delta(view, snapshot(difference(ONE, ONE, b"1"), revision=2))

    assert not delta.dropped_policies
    assert not delta.policies


def test_a_policy_dropped_and_sent_anew_in_one_batch_is_there() -> None:
    view = view_of(snapshot(whole(ONE, b"1")))

    delta = plan_delta(view, Batch(2, policies=(whole(TWO, b"2"),), dropped_policies=(1,)))

    assert delta.policies == {1: HeldPolicy(TWO, b"2")}
    assert not delta.dropped_policies


def test_a_network_may_be_held_without_a_policy_and_a_policy_without_locations() -> None:
    view = view_of(Batch(1, True, HOSTS, policies=(whole(ONE, b"1"),)))

    assert set(view.policies) == {1}
    assert view_of(snapshot()).policies == {}


OTHER_CONTENT = replace(
    ONE,
    number=2,
    network="blue",
    classes={i: replace(TWO.classes[min(TWO.classes)], class_id=i) for i in ONE.classes},
)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        pytest.param(difference(BLUE, BLUE, b"b"), "policies[2].whole", id="not held, in part"),
        pytest.param(whole(OTHER_CONTENT, b"b"), "policies[2].classes", id="a class of two minds"),
    ],
)
def test_a_policy_that_cannot_be_meant_is_refused(change, field: str) -> None:
    view = view_of(snapshot(whole(ONE, b"1")))

    with pytest.raises(InvalidError) as caught:
        plan_delta(view, Batch(2, policies=(change,)))

    assert caught.value.field == field


links = st.lists(
    st.sampled_from([f"{one}-{two}" for one in APPS for two in APPS]), unique=True, max_size=4
)


@given(st.lists(st.tuples(st.sampled_from(sorted(NETWORKS)), st.none() | links), max_size=8))
def test_whatever_comes_by_whichever_way_the_kernel_holds_what_control_said(steps: list) -> None:
    view, kernel = view_of(snapshot()), SimulatedKernel()
    said: dict[int, CompiledPolicy] = {}
    for revision, (network, wanted) in enumerate(steps, start=2):
        number = NETWORKS[network]
        if wanted is None:
            batch = Batch(revision, dropped_policies=(number,))
            said.pop(number, None)
        else:
            policy = compiled(wanted, revision, network)
            content = bytes([revision])
            before = said.get(number)
            change = difference(before, policy, content) if before else whole(policy, content)
            batch = Batch(revision, policies=(change,))
            said[number] = policy
        generation = kernel.generation
        delta = plan_delta(view, batch)

        kernel.apply(plan_changes(view, delta, OWN.name, OWN.locator, set()))
        view.apply(delta)

        assert {number: held.compiled for number, held in view.policies.items()} == said
        assert kernel.policies == said
        assert kernel.generation == generation + (not delta.is_empty)


def test_policies_that_do_not_fit_together_are_refused_with_figures() -> None:
    row = dict.fromkeys(map(Identity, range(200_000)), ONE.defaults[Direction.EGRESS])
    wide = [
        replace(policy, pairs={**policy.pairs, Direction.EGRESS: {Identity(10): row}})
        for policy in (ONE, BLUE)
    ]
    view = view_of(snapshot(whole(wide[0], b"1")))
    delta = plan_delta(view, Batch(2, policies=(whole(wide[1], b"2"),)))

    with pytest.raises(ExhaustedError, match=r"pairs: 400,\d+ needed, 262,144 fit"):
        check_capacity(view, delta, 1, ROOM)

    instead = Batch(2, policies=(whole(wide[1], b"2"),), dropped_policies=(1,))
    check_capacity(view, plan_delta(view, instead), 1, ROOM)


def test_entries_come_before_the_identities_that_use_them_and_all_before_flows_are_judged() -> None:
    view = view_of(snapshot(whole(ONE, b"1"), whole(BLUE, b"b")))
    batch = Batch(
        2,
        locations=located(m1=at(identity=11), m2=at(identity=12)),
        policies=(difference(ONE, TWO, b"2"),),
        dropped_policies=(2,),
    )

    operations = plan(view, batch)

    assert operations[0] == SetPolicies((TWO,))
    assert RemovePolicies((2,)) in operations
    assert [operation.rank for operation in operations] == [
        Rank.SET_POLICIES,
        Rank.SET_LOCATIONS,
        Rank.REMOVE_POLICIES,
        Rank.RAISE_GENERATION,
    ]


@pytest.mark.parametrize(
    ("batch", "changes"),
    [
        pytest.param(Batch(2, locations=located(m1=at(epoch=2, host=2))), False, id="it moved"),
        pytest.param(Batch(2, locations=located(m2=at())), False, id="one came"),
        pytest.param(Batch(2, locations=located(m1=at(identity=11))), True, id="other labels"),
        pytest.param(
            Batch(2, locations=(LocationChange(1, "red", False, {}, {WEB: 1}),)), True, id="it went"
        ),
        pytest.param(Batch(2, dropped_networks=(1,)), True, id="its network went"),
        pytest.param(Batch(2, removed_hosts=("h2",)), False, id="a host went"),
        pytest.param(Batch(2, policies=(difference(ONE, TWO, b"2"),)), True, id="other policy"),
        pytest.param(Batch(2, dropped_policies=(1,)), True, id="no policy"),
        pytest.param(Batch(2), False, id="nothing"),
    ],
)
def test_flows_are_judged_again_for_what_can_change_their_verdict(
    batch: Batch, changes: bool
) -> None:
    view = view_of(snapshot(whole(ONE, b"1")))

    assert changes_verdicts(view, plan_delta(view, batch)) is changes
