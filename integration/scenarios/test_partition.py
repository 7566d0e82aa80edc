"""A host loses its underlay, the fleet moves on, the host comes back and converges."""

from __future__ import annotations

from integration.lab.lab import Lab
from integration.lab.wait import wait_until
from integration.scenarios.kernel import LOCATION, TRANSITION, id_of, locator_of, table
from integration.scenarios.traffic import pings, place_of


def test_a_host_that_was_away_converges(lab: Lab) -> None:
    web, db = lab.machine("shop/web", "host-a"), lab.machine("shop/db", "host-c")
    near = lab.machine("shop/near", "host-c")
    web.wait_reaches(db)
    away = lab.hosts["host-c"]

    away.partition()
    steps = lab.move(web, "host-b")

    lagging = {name for step in steps for name in step.lagging_hosts}
    connected = {one.name for one in lab.list_hosts() if one.connected}
    # Once control knows that it is away, it does not wait for it any more.
    assert lagging == {"host-c"} or (not lagging and "host-c" not in connected)
    assert pings(place_of(near), db.address), "machines on one host need no underlay"
    assert not pings(place_of(web), db.address)

    away.heal()
    away.wait_in_step()
    db.wait_reaches(web, timeout_s=40)
    web.wait_reaches(near)
    with table(away, LOCATION) as locations, table(away, TRANSITION) as transitions:

        def is_right() -> bool:
            row = locations.get(id_of(web.address))
            return row is not None and row.locator == locator_of(lab.hosts["host-b"])

        wait_until("its location table is right", is_right)
        wait_until("no transition is left", lambda: not transitions.items())
    wait_until("no condition is left", lambda: not away.status().conditions, timeout_s=40)
