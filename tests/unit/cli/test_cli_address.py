"""Floating addresses, from the command line to the store and back."""

import json

from cli_fleet import Cli


def _populate(fleet: Cli, network: str) -> None:
    fleet.ok("network", "create", network)
    fleet.ok("machine", "create", f"{network}/one", "--host", "h1")
    fleet.ok("machine", "create", f"{network}/two", "--host", "h2")


def test_an_address_from_create_to_delete(fleet: Cli) -> None:
    _populate(fleet, "float")

    made = fleet.json("address", "create", "float/vip", "--to", "one")
    text = fleet.ok("address", "list", "--network", "float")
    listed = fleet.json("address", "list", "--network", "float")

    assert (made["name"], made["holder"], made["host"]) == ("float/vip", "float/one", "h1")
    assert listed == {"addresses": [made]}
    header, line = text.splitlines()
    assert fleet.json("machine", "get", "float/one")["floating_addresses"] == ["float/vip"]
    assert "floating_addresses  float/vip" in fleet.ok("machine", "get", "float/one")
    assert fleet.json("machine", "get", "float/two")["floating_addresses"] == []
    assert header.split() == ["NAME", "ADDRESS", "HOLDER", "HOST", "EPOCH"]
    assert line.split() == ["float/vip", made["address"], "float/one", "h1", "1"]
    assert fleet.ok("address", "delete", "float/vip") == "floating address float/vip deleted\n"
    assert fleet.json("address", "list", "--network", "float") == {"addresses": []}


def test_a_fail_over_names_the_holder_that_it_expects(fleet: Cli) -> None:
    _populate(fleet, "over")
    made = fleet.json("address", "create", "over/vip", "--to", "one")

    said = fleet.ok("address", "assign", "over/vip", "--to", "two", "--from", "one")
    late = fleet.refused(5, "address", "assign", "over/vip", "--to", "two", "--from", "one")
    stale = fleet.refused(5, "address", "release", "over/vip", "--etag", made["etag"])
    again = fleet.json("address", "assign", made["address"], "--to", "one")

    first, away = said.splitlines()
    assert first.endswith(" s  over/vip is over/two's on host h2")
    assert away.split() == ["not", "connected:", "h1,", "h2", "(they", "catch", "up)"]
    assert late == "error: expected_holder: over/two has over/vip now, not over/one\n"
    assert stale.startswith("error: etag: floating address over/vip has changed")
    assert (again["holder"], again["epoch"], again["away_hosts"]) == ("over/one", 3, ["h1", "h2"])
    assert again["lagging_hosts"] == []
    assert again["elapsed_s"] > 0


def test_a_released_address_is_nobodys(fleet: Cli) -> None:
    _populate(fleet, "free")
    fleet.ok("address", "create", "free/vip", "--to", "one")
    assert "free/vip is nobody's" in fleet.ok("address", "release", "free/vip")
    fleet.ok("address", "assign", "free/vip", "--to", "one")
    fleet.ok("machine", "delete", "free/one")
    (found,) = fleet.json("address", "list", "--network", "free")["addresses"]
    assert (found["holder"], found["host"], found["epoch"]) == (None, None, 4)
    assert "has floating addresses" in _refused_network(fleet)


def _refused_network(fleet: Cli) -> str:
    fleet.ok("machine", "delete", "free/two")
    return fleet.refused(1, "network", "delete", "free")


def test_a_name_without_its_network_is_wrong_usage(fleet: Cli) -> None:
    refused = fleet.refused(2, "address", "create", "vip")
    assert "'vip' is not NETWORK/NAME, as blue/vip" in refused
    assert "there is no floating address" in fleet.refused(4, "address", "release", "none/vip")


def test_created_without_a_holder_in_text(fleet: Cli) -> None:
    _populate(fleet, "bare")
    fields = dict(
        line.split(maxsplit=1) for line in fleet.ok("address", "create", "bare/vip").splitlines()
    )
    assert fields["name"] == "bare/vip"
    assert fields["holder"] == fields["host"] == "-"
    assert json.loads(fleet.ok("address", "list", "-o", "json"))["addresses"]
