"""`netagent move`: what is streamed, and how it ends."""

import json

from cli_fleet import Cli, connected_agent


def test_move_streams_its_phases_and_is_listed(fleet: Cli) -> None:
    fleet.ok("network", "create", "blue")
    fleet.ok("machine", "create", "blue/web", "--host", "h1")

    with connected_agent(fleet, "h1"), connected_agent(fleet, "h2"):
        lines = fleet.ok("move", "blue/web", "--to", "h2", "-o", "json").splitlines()

    phases = [json.loads(line) for line in lines]
    assert [phase["phase"] for phase in phases] == ["preparing", "committed", "settled"]
    assert [phase["lagging_hosts"] for phase in phases] == [[], [], []]
    assert phases[0]["elapsed_s"] <= phases[2]["elapsed_s"] < 5
    (listed,) = fleet.json("moves", "list", "--machine", "web")["moves"]
    assert listed == fleet.json("moves", "get", listed["move_id"])
    assert (listed["source"], listed["destination"], listed["phase"]) == ("h1", "h2", "settled")
    assert fleet.json("machine", "get", "web")["host"] == "h2"
    assert fleet.json("moves", "list", "--active") == {"moves": []}


def test_hosts_that_lag_are_named(fleet: Cli) -> None:
    fleet.ok("network", "create", "slow")
    fleet.ok("machine", "create", "slow/db", "--host", "h1")
    fleet.ok("machine", "create", "slow/peer", "--host", "h2")

    with connected_agent(fleet, "h1", answers=False), connected_agent(fleet, "h2"):
        text = fleet.ok("move", "db", "--to", "h2")

    assert "slow/db moves from h1 to h2" in text
    assert "not yet applied by: h1" in text


def test_machine_without_host_is_placed(fleet: Cli) -> None:
    fleet.ok("network", "create", "fresh")
    fleet.ok("machine", "create", "fresh/web", "--host", "")

    with connected_agent(fleet, "h1"), connected_agent(fleet, "h2"):
        text = fleet.ok("move", "fresh/web", "--to", "h1")

    assert "fresh/web is placed on h1 (move " in text
    assert " from " not in text
    assert fleet.json("machine", "get", "fresh/web")["host"] == "h1"
    (listed,) = fleet.json("moves", "list", "--machine", "fresh/web")["moves"]
    assert listed["source"] is None


def test_move_that_takes_too_long_goes_on(fleet: Cli) -> None:
    fleet.ok("network", "create", "late")
    fleet.ok("machine", "create", "late/web", "--host", "h1")

    with connected_agent(fleet, "h1"), connected_agent(fleet, "h2", answers=False):
        result = fleet.run("move", "late/web", "--to", "h2", "--timeout", "0.1")
        (move,) = fleet.json("moves", "list", "--machine", "late/web")["moves"]

    follow = f"the move goes on; see `netagent moves get {move['move_id']}`"
    assert (result.exit_code, result.stderr) == (3, f"error: not done within 0.1 s; {follow}\n")


def test_move_to_a_host_without_agent_is_refused(fleet: Cli) -> None:
    fleet.ok("network", "create", "lone")
    fleet.ok("machine", "create", "lone/web", "--host", "h1")

    message = fleet.refused(1, "move", "lone/web", "--to", "h2")

    assert "the agent of host h2 is not connected" in message


def test_move_to_where_it_is_or_to_nowhere(fleet: Cli) -> None:
    fleet.ok("network", "create", "same")
    fleet.ok("machine", "create", "same/web", "--host", "h1")

    assert "is on host h1 already" in fleet.refused(2, "move", "same/web", "--to", "h1")
    assert "there is no host h9" in fleet.refused(4, "move", "same/web", "--to", "h9")
    assert "there is no move" in fleet.refused(4, "moves", "get", "none")
