"""Hosts, networks and machines, from the command line to the store and back."""

from cli_fleet import Cli


def test_machine_from_create_to_delete(fleet: Cli) -> None:
    fleet.ok("network", "create", "life")

    made = fleet.json("machine", "create", "life/web", "--host", "h1", "--label", "app=web")
    changed = fleet.json("machine", "label", "web", "tier=1", "app-")
    listed = fleet.json("machine", "list", "--network", "life")
    text = fleet.ok("machine", "delete", "life/web", "--etag", changed["etag"])

    assert (made["machine"], made["host"], made["labels"]) == ("life/web", "h1", {"app": "web"})
    assert changed["labels"] == {"tier": "1"}
    assert changed["address"] == made["address"]
    assert listed == {"machines": [changed]}
    assert text == "machine life/web deleted\n"
    assert fleet.json("network", "delete", "life") == {"deleted": "life"}


def test_labels_are_replaced_whole_when_asked(fleet: Cli) -> None:
    fleet.ok("network", "create", "whole")
    fleet.ok("machine", "create", "whole/db", "--host", "h1", "--label", "a=1", "--label", "b=2")

    changed = fleet.json("machine", "label", "whole/db", "--replace", "c=3")
    emptied = fleet.json("machine", "label", "whole/db", "--replace")

    assert changed["labels"] == {"c": "3"}
    assert emptied["labels"] == {}


def test_lists_are_aligned_text_without_colour(fleet: Cli) -> None:
    text = fleet.ok("host", "list")

    header, first, *_ = text.splitlines()
    assert header.split() == ["NAME", "REGION", "ENDPOINT", "ADDRESS", "AGENT", "REVISION"]
    assert first.split()[:3] == ["h1", "1", "192.0.2.1:51820"]
    assert header.index("ENDPOINT") == first.index("192.0.2.1")
    assert "\x1b" not in text


def test_lists_go_on_past_the_first_page(fleet: Cli) -> None:
    fleet.ok("network", "create", "pages")
    names = [f"m{number:03}" for number in range(120)]
    for name in names:
        fleet.ok("machine", "create", f"pages/{name}", "--host", "h2")

    listed = fleet.json("machine", "list", "--network", "pages", "--host", "h2")

    assert [machine["name"] for machine in listed["machines"]] == names


def test_options_after_the_command_win(fleet: Cli) -> None:
    listed = Cli("unix:///nonexistent").ok("network", "list", "--control", fleet.control)

    assert listed.startswith("NAME")


def test_options_may_stand_before_the_command(fleet: Cli) -> None:
    text = fleet.ok("--output", "json", "--timeout", "5", "host", "get", "h1")

    assert '"name": "h1"' in text


def test_not_found_is_4(fleet: Cli) -> None:
    assert "there is no machine" in fleet.refused(4, "machine", "get", "none/web")
    assert "there is no host nowhere" in fleet.refused(4, "host", "remove", "nowhere")


def test_conflicts_are_5(fleet: Cli) -> None:
    fleet.ok("network", "create", "taken")

    exists = fleet.refused(5, "network", "create", "taken")
    stale = fleet.refused(5, "network", "delete", "taken", "--etag", "ffff")

    assert exists == "error: name: network taken exists already\n"
    assert "etag: " in stale


def test_values_that_control_refuses_are_2_and_name_the_field(fleet: Cli) -> None:
    assert "error: name: 'Blue' is not a name" in fleet.refused(2, "network", "create", "Blue")


def test_state_that_forbids_is_1(fleet: Cli) -> None:
    fleet.ok("network", "create", "full")
    fleet.ok("machine", "create", "full/web", "--host", "h1")

    message = fleet.refused(1, "network", "delete", "full")

    assert message == "error: name: network full has a machine; delete it first\n"
