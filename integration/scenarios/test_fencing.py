"""A copy of a machine where it is not located: it neither sends nor receives, and harms nobody."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from integration.lab.host import Host
from integration.lab.lab import Lab
from integration.lab.machine import Machine
from integration.lab.probe import probing
from integration.scenarios.traffic import Place, can_talk, datagrams, pings, place_of, received
from netagent.api.agent.v1 import agent_service_pb2 as agent_pb


@contextmanager
def _a_copy(lab: Lab, machine: Machine, host: Host) -> Iterator[Place]:
    """Attach a second namespace under a machine's name and address, and give it a way out."""
    copy = lab.copy_of(machine, "copy")
    try:
        endpoint = copy.attach(host)
        assert endpoint.state == agent_pb.ENDPOINT_STATE_FENCED
        copy.run("ip", "-6", "route", "replace", "default", "via", "fe80::1", "dev", "eth0")
        yield Place("copy", copy.namespace, machine.address)
    finally:
        copy.namespace.kill()


def test_a_copy_elsewhere_is_fenced_and_its_end_harms_nobody(lab: Lab) -> None:
    web, db = lab.machine("shop/web", "host-a"), lab.machine("shop/db", "host-b")
    near = lab.machine("shop/near", "host-c")
    host = lab.hosts["host-c"]
    web.wait_reaches(db)
    web.wait_reaches(near)

    with (
        probing(place_of(db), place_of(web), lab.directory) as probe,
        _a_copy(lab, web, host) as copy,
        datagrams(place_of(db), 7300) as at_db,
        datagrams(place_of(near), 7300) as at_near,
        datagrams(copy, 7301) as at_copy,
        datagrams(place_of(web), 7301) as at_web,
    ):
        before = host.counters().get("drop_not_located_here", 0)
        for hearer in (at_db, at_near):
            at_copy.sendto(b"from the copy", hearer.getsockname())
            assert received(hearer) is None
        assert host.counters()["drop_not_located_here"] - before >= 2
        for speaker in (at_db, at_near):
            speaker.sendto(b"to the machine", (web.address, 7301))
            assert received(at_web) == b"to the machine"
        assert received(at_copy) is None
        host.detach(web.path)
        assert web.path not in {each.machine for each in host.status().endpoints}
        record = probe.stop()

    assert record.whole().lost == 0
    assert can_talk(place_of(web), place_of(near))


def test_the_old_copy_is_fenced_once_the_new_place_has_the_machine(lab: Lab) -> None:
    old, db = lab.machine("shop/web", "host-a"), lab.machine("shop/db", "host-a")
    new = lab.copy_of(old, "new")
    old.wait_reaches(db)
    staged = new.attach(lab.hosts["host-b"])

    steps = lab.move(old, "host-b", attach=False)

    assert staged.state == agent_pb.ENDPOINT_STATE_FENCED
    assert not steps[-1].lagging_hosts
    new.wait_reaches(db)
    with datagrams(place_of(db), 7302) as at_db, datagrams(place_of(new), 7302) as at_new:
        at_db.sendto(b"after the move", at_new.getsockname())
        assert received(at_new) == b"after the move"
    assert not pings(place_of(old), db.address)

    # A late clean-up at the old place finds nothing of its own, and touches nothing of the new.
    with probing(place_of(db), place_of(new), lab.directory) as probe:
        old.attach(lab.hosts["host-a"])
        assert not pings(place_of(old), db.address)
        lab.hosts["host-a"].detach(old.path)
        record = probe.stop()
    assert record.whole().lost == 0
