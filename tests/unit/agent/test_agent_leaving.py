"""Machines that leave a host, or were taken from it: what stays of them, and for how long."""

from dataclasses import replace
from pathlib import Path

from agent_rig import (
    H1,
    H2,
    WEB,
    Rig,
    at,
    located,
    machine_in,
    moving,
    settled,
)

from netagent.agent.attached import EndpointState, FormerLink
from netagent.agent.facts import TakenMachine
from netagent.model.addresses import GATEWAY_MAC
from netagent.reconcile.moving import Taking


def test_source_keeps_forwarding_until_settled_and_then_lets_go(rig: Rig) -> None:
    engine = rig.start({WEB: at(H1, 1)})
    rig.attach()
    engine.take_batch(moving(WEB, H1, H2, 2, revision=2))
    engine.take_batch(located({WEB: at(H2, 2)}, revision=3))
    rig.state.active[Path("/run/netns/web")] = "the destination's"
    assert engine.retire() == ()
    assert "na-web" in rig.state.links

    engine.take_batch(settled(WEB, 2, revision=4))

    assert engine.retire() == (WEB,)
    assert "na-web" not in rig.state.links
    assert WEB not in rig.state.endpoint.rows


def test_source_keeps_a_machine_that_nobody_has_taken_over(rig: Rig) -> None:
    engine = rig.start({WEB: at(H1, 1)})
    rig.attach()
    engine.take_batch(moving(WEB, H1, H2, 2, revision=2))
    engine.take_batch(located({WEB: at(H2, 2)}, revision=3))
    engine.take_batch(settled(WEB, 2, revision=4))
    assert engine.retire() == ()
    assert engine.state(WEB) is EndpointState.FENCED

    engine.take_batch(moving(WEB, H2, H1, 3, revision=5))
    engine.take_batch(located({WEB: at(H1, 3)}, revision=6))
    engine.take_batch(settled(WEB, 3, revision=7))
    assert engine.retire() == ()
    assert engine.state(WEB) is EndpointState.LIVE
    assert "na-web" in rig.state.links


def test_source_lets_go_once_the_machine_is_taken_over(rig: Rig) -> None:
    engine = rig.start({WEB: at(H1, 1)})
    rig.attach()
    engine.take_batch(moving(WEB, H1, H2, 2, revision=2))
    engine.take_batch(located({WEB: at(H2, 2)}, revision=3))
    engine.take_batch(settled(WEB, 2, revision=4))
    assert engine.retire() == ()

    rig.state.active[Path("/run/netns/web")] = "the destination's"

    assert engine.retire() == (WEB,)
    assert "na-web" not in rig.state.links


def test_a_machine_that_was_taken_stays_fenced_until_somebody_detaches_it(rig: Rig) -> None:
    engine = rig.start({WEB: at(H1, 1)})
    machine = rig.attach()
    engine.take_batch(located({WEB: at(H2, 2)}, revision=2))

    assert engine.retire() == ()
    assert engine.state(WEB) is EndpointState.FENCED
    assert engine.find_taken() == {WEB: TakenMachine(machine, Taking("h2", 2))}
    taken, view, attached = dict(engine.taken), engine.view, dict(engine.interfaces.attached)
    engine = rig.restart()
    engine.restore(view, attached, taken)
    assert list(engine.find_taken()) == [WEB]

    engine.detach(WEB)

    assert engine.find_taken() == {}


def test_a_machine_that_moved_while_this_host_was_away_is_let_go(rig: Rig) -> None:
    engine = rig.start({WEB: at(H1, 1)})
    rig.attach()
    rig.state.active[Path("/run/netns/web")] = "the destination's"

    engine.take_batch(located({WEB: at(H2, 2)}, revision=2))

    assert engine.find_taken() == {}
    assert engine.retire() == (WEB,)


def test_an_agent_that_starts_takes_no_route_from_another_host_before_control_has_spoken(
    rig: Rig,
) -> None:
    engine = rig.start({WEB: at(H1, 1)})
    machine = rig.attach()
    assert machine.netns is not None
    view, attached = engine.view, dict(engine.interfaces.attached)
    rig.state.active[machine.netns] = "the destination's"
    engine = rig.restart()
    engine.restore(view, attached)

    engine.reconcile()

    assert rig.state.active[machine.netns] == "the destination's"
    engine.take_batch(located({WEB: at(H1, 1)}, revision=2))
    assert rig.state.active[machine.netns] == machine.interface


def test_a_machine_that_was_taken_and_came_back_is_as_it_was(rig: Rig) -> None:
    engine = rig.start({WEB: at(H1, 1)})
    rig.attach()
    engine.take_batch(located({WEB: at(H2, 2)}, revision=2))
    engine.take_batch(located({WEB: at(H1, 3)}, revision=3))

    assert engine.find_taken() == {}
    assert engine.retire() == ()
    assert engine.state(WEB) is EndpointState.LIVE


def test_source_does_not_take_the_route_back_before_it_hears_of_the_commit(rig: Rig) -> None:
    engine = rig.start({WEB: at(H1, 1)})
    machine = rig.attach()
    assert machine.netns is not None
    engine.take_batch(moving(WEB, H1, H2, 2, revision=2))
    rig.state.active[machine.netns] = "the destination's"

    assert engine.state(WEB) is EndpointState.LIVE
    assert engine.reconcile().writes == 0

    assert rig.state.active[machine.netns] == "the destination's"


def test_a_machine_that_came_back_before_the_clean_up_is_not_touched(rig: Rig) -> None:
    engine = rig.start({WEB: at(H1, 1)})
    rig.attach()
    engine.take_batch(moving(WEB, H1, H2, 2, revision=2))
    engine.take_batch(located({WEB: at(H2, 2)}, revision=3))
    engine.take_batch(settled(WEB, 2, revision=4))

    engine.take_batch(moving(WEB, H2, H1, 3, revision=5))

    assert engine.retire() == ()
    assert "na-web" in rig.state.links


def test_a_machine_that_was_attached_anew_before_the_clean_up_is_not_touched(rig: Rig) -> None:
    engine = rig.start({WEB: at(H1, 1)})
    machine = rig.attach()
    engine.take_batch(moving(WEB, H1, H2, 2, revision=2))
    engine.take_batch(located({WEB: at(H2, 2)}, revision=3))
    engine.take_batch(settled(WEB, 2, revision=4))

    engine.attach(machine)

    assert engine.retire() == ()
    assert "na-web" in rig.state.links


def test_an_interface_of_somebody_else_outlives_the_move_with_its_filter(rig: Rig) -> None:
    engine = rig.start({WEB: at(H1, 1)})
    tap = rig.state.make_link("tap0")
    engine.attach(machine_in(None, "tap0"))
    engine.take_batch(moving(WEB, H1, H2, 2, revision=2))
    engine.take_batch(located({WEB: at(H2, 2)}, revision=3))
    engine.take_batch(settled(WEB, 2, revision=4))

    engine.retire()

    assert "tap0" in rig.state.links
    assert tap.ifindex in rig.state.attached
    assert WEB not in rig.state.endpoint.rows


def test_detaching_gives_an_interface_of_somebody_else_back(rig: Rig) -> None:
    engine = rig.start({WEB: at(H1, 1)})
    former = FormerLink(b"\x02\0\0\0\0\x05", is_up=False)
    tap = rig.state.make_link("tap0", former.mac)
    engine.attach(replace(machine_in(None, "tap0"), former=former))
    assert rig.state.links["tap0"].mac == GATEWAY_MAC

    engine.detach(WEB)

    assert rig.state.links["tap0"] == replace(tap, is_up=False)
    assert tap.ifindex not in rig.state.attached
