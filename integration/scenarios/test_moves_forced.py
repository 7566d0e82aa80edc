"""A machine is taken from a host that is thought dead: what that finds when it comes back."""

from __future__ import annotations

import pytest

from integration.lab.host import Host
from integration.lab.lab import Lab
from integration.lab.machine import Machine
from integration.lab.wait import wait_until
from netagent.api.agent.v1 import agent_service_pb2 as agent_pb
from netagent.api.control.v1 import move_service_pb2 as move_pb
from netagent.api.control.v1.move_service_pb2_grpc import MoveServiceStub
from netagent.api.types.v1 import types_pb2

pytestmark = pytest.mark.namespaces_only("hands namespaces over")

HOOK = """#!/bin/sh
env | grep ^NETAGENT_ | sort >>"$0.told"
echo >>"$0.told"
[ -e "$0.works" ]
"""


def _force(lab: Lab, machine: Machine, destination: str) -> None:
    request = move_pb.MoveAddressRequest(
        machine=machine.path, destination=destination, force=True, source_is_dead=True
    )
    steps = list(MoveServiceStub(lab.channel).MoveAddress(request, timeout=60))
    assert steps[-1].move.phase == types_pb2.MOVE_PHASE_SETTLED
    assert steps[-1].move.forced


def _taken(host: Host) -> list[str]:
    return [one.detail for one in host.status().conditions if one.code == "machine_taken"]


@pytest.mark.parametrize(
    ("is_killed", "has_another"),
    [
        pytest.param(False, True, id="cut-off"),
        pytest.param(True, True, id="killed"),
        pytest.param(True, False, id="killed-and-alone"),
    ],
)
def test_a_host_that_comes_back_finds_its_machine_taken_and_says_so(
    lab: Lab, is_killed: bool, has_another: bool
) -> None:
    web, db = lab.machine("shop/web", "host-a"), lab.machine("shop/db", "host-b")
    web.wait_reaches(db)
    if has_another:
        lab.machine("shop/other", "host-a")
    source = lab.hosts["host-a"]
    source.hooks_dir.mkdir()
    hook = source.hooks_dir / "machine-taken"
    hook.write_text(HOOK)
    hook.chmod(0o755)
    told = hook.with_name("machine-taken.told")

    if is_killed:
        source.kill_agent()
    else:
        source.partition()
    twin = lab.namespace("twin")
    lab.hosts["host-c"].attach(agent_pb.AttachRequest(machine=web.path, netns=str(twin.netns)))
    _force(lab, web, "host-c")
    db.wait_reaches(web)
    if is_killed:
        source.start_agent()
    else:
        source.heal()

    wait_until("host-a says so", lambda: _taken(source), timeout_s=60)
    assert "machine shop/web was moved to " in _taken(source)[0]
    (state,) = {one.state for one in source.status().endpoints if one.machine == web.path}
    assert state == agent_pb.ENDPOINT_STATE_FENCED
    wait_until("the hook was told", told.exists)
    told_of = dict(line.split("=", 1) for line in told.read_text().split("\n\n")[0].splitlines())
    assert told_of["NETAGENT_HOOK"] == "machine-taken"
    assert told_of["NETAGENT_MACHINE"] == "shop/web"
    assert told_of["NETAGENT_ADDRESS"] == web.address
    # A host that has no other machine of the network is not told where this one is.
    assert told_of["NETAGENT_LOCATION"] == ("host-c" if has_another else "")

    # What still runs at host-a speaks to nobody, and db still reaches the one at host-c.
    fenced = source.counters().get("drop_not_located_here", 0)
    assert not web.reaches(db.address)
    assert source.counters()["drop_not_located_here"] > fenced
    assert db.reaches(web.address)

    # It stays said over restarts, until somebody detaches what is left.
    hook.with_name("machine-taken.works").touch()
    source.kill_agent()
    source.start_agent()
    wait_until("host-a says so again", lambda: _taken(source))
    source.detach(web.path)
    wait_until("nothing is left to say", lambda: not _taken(source))
    source.kill_agent()
    source.start_agent()
    assert not _taken(source)


def test_a_move_that_the_source_knows_of_is_no_taking(lab: Lab) -> None:
    web, db = lab.machine("shop/web", "host-a"), lab.machine("shop/db", "host-b")
    lab.move(web, "host-c")
    web.wait_reaches(db)
    assert not _taken(lab.hosts["host-a"])
