"""`netagent policy snapshot`: what control has, as a file that the offline commands read."""

from __future__ import annotations

from ipaddress import IPv6Address, IPv6Network
from pathlib import Path

from cli_fleet import Cli

from netagent.cli.policy_snapshot import format_fleet
from netagent.policy.fleet_file import parse_fleet


def test_snapshot_is_a_fleet_that_check_accepts(fleet: Cli, tmp_path: Path) -> None:
    fleet.ok("network", "create", "blue")
    fleet.ok("network", "create", "idle")
    made = fleet.json("machine", "create", "blue/web", "--host", "h1", "--label", "app=web")
    fleet.ok("machine", "create", "blue/bare", "--host", "h2")
    policy = tmp_path / "blue.yaml"
    policy.write_text("network: blue\ntests:\n- {from: web, to: bare, deny: [any]}\n")
    file = tmp_path / "fleet.yaml"

    file.write_text(fleet.ok("policy", "snapshot"))

    found = parse_fleet(file.read_bytes(), "fleet.yaml")
    assert sorted(found.networks) == ["blue", "idle"]
    assert found.members["blue/web"].labels == {"app": "web"}
    assert found.members["blue/bare"].labels == {}
    assert found.prefix is not None
    assert IPv6Address(made["address"]) in found.prefix
    assert "1 test passed" in fleet.ok("policy", "check", str(policy), "--fleet", str(file))


def test_snapshot_as_json_is_a_fleet_file_too(fleet: Cli) -> None:
    fleet.ok("network", "create", "red")
    fleet.ok("machine", "create", "red/db", "--host", "h1", "--label", "app=db")

    text = fleet.ok("policy", "snapshot", "--output", "json")

    yaml = parse_fleet(fleet.ok("policy", "snapshot"), "fleet.yaml")
    assert parse_fleet(text, "fleet.json") == yaml
    assert yaml.members["red/db"].labels == {"app": "db"}


def test_snapshot_goes_on_past_the_first_page(fleet: Cli) -> None:
    fleet.ok("network", "create", "many")
    for number in range(120):
        fleet.ok("machine", "create", f"many/m{number:03}", "--host", "h1")

    found = parse_fleet(fleet.ok("policy", "snapshot"), "fleet.yaml")

    assert sum(path.startswith("many/") for path in found.members) == 120


def test_snapshot_without_control_prints_nothing() -> None:
    message = Cli("unix:///nonexistent/control.sock").refused(3, "policy", "snapshot")

    assert "is `netagent control run` running there?" in message


def test_words_that_yaml_takes_for_something_else_come_back_as_they_were() -> None:
    words = ["", "null", "Null", "NULL", "nULL", "no", "true", "1.10", "0x1f", "1e3", "2026-01-01"]
    labels = {f"key-{number}": word for number, word in enumerate(words)}
    machines = {"null": {"1": labels, "no": {"a.b/c_d-e": "x", "null": "y"}}, "true": {}}
    prefix = IPv6Network("fd00::/64")

    found = parse_fleet(format_fleet(prefix, machines), "fleet.yaml")

    assert found.prefix == prefix
    assert list(found.networks) == ["null", "true"]
    assert {path: dict(one.labels) for path, one in found.members.items()} == {
        "null/1": labels,
        "null/no": {"a.b/c_d-e": "x", "null": "y"},
    }


def test_a_fleet_without_anything() -> None:
    found = parse_fleet(format_fleet(None, {}), "fleet.yaml")

    assert (found.prefix, dict(found.networks), dict(found.members)) == (None, {}, {})
