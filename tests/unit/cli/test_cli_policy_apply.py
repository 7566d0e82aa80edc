"""`netagent policy apply`, `rollback` and what shows versions, against a real control."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
from pathlib import Path

import pytest
from cli_fleet import COMMAND, Cli, connected_agent, running_control

from netagent.policy.fleet_file import parse_fleet

WEB_TO_DB = """\
network: {network}
rules:
  - name: web-to-db
    from: {{labels: {{app: web}}}}
    to: {{labels: {{app: db}}}}
    allow: [{ports}]
tests:
  - {{from: web, to: db, allow: [tcp/5432], deny: [tcp/22]}}
"""


def make_network(fleet: Cli, network: str) -> None:
    """Make a network with a web and a database."""
    fleet.ok("network", "create", network)
    for name, host in (("web", "h1"), ("db", "h2")):
        label = ("--label", f"app={name}")
        fleet.ok("machine", "create", f"{network}/{name}", "--host", host, *label)


def policy_of(network: str, ports: str = "tcp/5432") -> str:
    return WEB_TO_DB.format(network=network, ports=ports)


def write(directory: Path, network: str, ports: str = "tcp/5432", name: str = "p.yaml") -> str:
    file = directory / name
    file.write_text(policy_of(network, ports))
    return str(file)


def test_what_was_applied_comes_back_as_it_was(fleet: Cli, tmp_path: Path) -> None:
    make_network(fleet, "same")
    file = write(tmp_path, "same")

    text = fleet.ok("policy", "apply", file)
    got = fleet.ok("policy", "get", "same")
    again = fleet.ok("policy", "apply", "-", stdin=got)

    assert "closes    same/web -> same/db: tcp/0-5431,5433-65535, every other protocol\n" in text
    assert text.endswith("network same: version 1 is in force\n")
    assert got == policy_of("same")
    assert again == "network same: version 1 is in force already; nothing to do\n"


def test_what_is_applied_for_programs(fleet: Cli, tmp_path: Path) -> None:
    make_network(fleet, "lines")
    one, two = write(tmp_path, "lines"), write(tmp_path, "lines", "tcp/5432, tcp/80", "two.yaml")

    lines = fleet.ok("policy", "apply", one, two, "-o", "json").splitlines()

    first, second = map(json.loads, lines)
    assert (first["version"], first["applied"], first["dry_run"]) == (1, True, False)
    assert (second["version"], second["warnings"], second["rolled_back_to"]) == (2, [], None)
    assert second["revision"] > first["revision"]
    assert second["changes"] == [
        {"effect": "opens", "from": "lines/web", "to": "lines/db", "traffic": "tcp/80"}
    ]


def test_a_dry_run_changes_nothing(fleet: Cli, tmp_path: Path) -> None:
    make_network(fleet, "dry")

    text = fleet.ok("policy", "apply", write(tmp_path, "dry"), "--dry-run")

    assert "closes    " in text
    assert text.endswith("network dry: version 1 would be in force (dry run)\n")
    assert fleet.ok("policy", "history", "dry") == (
        "network dry has the built-in policy; none was applied yet\n"
    )
    assert fleet.json("policy", "history", "dry") == {"network": "dry", "versions": []}


def test_all_errors_of_a_file_are_told_and_nothing_is_applied(fleet: Cli, tmp_path: Path) -> None:
    make_network(fleet, "wrong")
    file = tmp_path / "wrong.yaml"
    file.write_text("network: wrong\nruels: []\ndefault: maybe\n")

    lines = fleet.refused(1, "policy", "apply", str(file)).splitlines()

    assert lines[0].startswith(f"error: {file}:2:1: unknown key 'ruels'")
    assert lines[1].startswith(f"error: {file}:3:10: default: 'maybe' is not known")
    assert len(lines) == 2
    assert "wrong" not in fleet.ok("policy", "list")


def test_a_test_that_fails_names_who_decided(fleet: Cli, tmp_path: Path) -> None:
    make_network(fleet, "failing")

    message = fleet.refused(1, "policy", "apply", write(tmp_path, "failing", "tcp/80"))

    assert ":8:33: test failed: failing/web -> failing/db should allow tcp/5432" in message
    assert "denied by default of network failing" in message


def test_warnings_go_to_standard_error(fleet: Cli) -> None:
    make_network(fleet, "warned")
    text = policy_of("warned") + "groups: {front: [{labels: {app: web}}]}\n"

    result = fleet.run("policy", "apply", "-", stdin=text)

    assert result.exit_code == 0
    assert result.stderr.startswith("warning: stdin:9:10: group 'front' is not used")
    assert "warning" not in result.stdout


def test_a_file_that_is_not_utf8_is_told_at_its_line(fleet: Cli, tmp_path: Path) -> None:
    file = tmp_path / "latin.yaml"
    file.write_bytes(b"network: shop\n# caf\xe9\n")

    assert f"{file}:2:1: byte 19 is not UTF-8" in fleet.refused(1, "policy", "apply", str(file))


def test_the_first_of_several_files_that_fails_ends_it(fleet: Cli, tmp_path: Path) -> None:
    make_network(fleet, "several")
    good = write(tmp_path, "several", name="good.yaml")
    bad = write(tmp_path, "severla", name="bad.yaml")
    late = write(tmp_path, "several", "tcp/5432, tcp/80", "late.yaml")

    result = fleet.run("policy", "apply", good, bad, late)

    assert result.exit_code == 4
    assert "network several: version 1 is in force" in result.stdout
    lines = result.stderr.splitlines()
    assert lines[0].startswith("error: network: there is no network severla; ")
    assert lines[0].endswith("; did you mean 'several'?")
    assert lines[-2:] == [
        f"error: not applied: {bad}, {late}",
        f"error: applied before that, and still in force: {good} (network several, version 1)",
    ]


def test_nothing_is_applied_when_one_file_cannot_be_read(fleet: Cli, tmp_path: Path) -> None:
    make_network(fleet, "whole-read")
    absent = str(tmp_path / "absent.yaml")

    message = fleet.refused(2, "policy", "apply", write(tmp_path, "whole-read"), absent)

    assert message == f"error: {absent}: No such file or directory\n"
    assert fleet.json("policy", "history", "whole-read")["versions"] == []


def test_another_version_than_expected_is_5_and_says_what_to_do(fleet: Cli, tmp_path: Path) -> None:
    make_network(fleet, "expect")
    file = write(tmp_path, "expect")
    fleet.ok("policy", "apply", file, "--expect-version", "0")
    other = write(tmp_path, "expect", "tcp/5432, tcp/80", "other.yaml")

    stale = fleet.refused(5, "policy", "apply", other, "--expect-version", "0")
    back = fleet.refused(5, "policy", "rollback", "expect", "0", "--expect-version", "7")
    fleet.ok("policy", "apply", other, "--expect-version", "1")

    first, second = stale.splitlines()
    assert "version 1 of the policy of network expect is in force, not 0" in first
    assert f"nothing was applied; `netagent policy diff {other}` says what it would" in second
    assert "`netagent policy rollback expect 0 --dry-run` says what" in back


def test_rollback_is_the_next_version(fleet: Cli, tmp_path: Path) -> None:
    make_network(fleet, "back")
    fleet.ok("policy", "apply", write(tmp_path, "back"))
    fleet.ok("policy", "apply", write(tmp_path, "back", "tcp/5432, tcp/80"))

    tried = fleet.ok("policy", "rollback", "back", "1", "--dry-run")
    done = fleet.ok("policy", "rollback", "back", "1")
    versions = fleet.json("policy", "history", "back")["versions"]
    rows = [line.split() for line in fleet.ok("policy", "history", "back").splitlines()]

    assert tried.splitlines()[-1] == (
        "network back: version 3, the text of version 1, would be in force (dry run)"
    )
    assert done.splitlines() == [
        "closes    back/web -> back/db: tcp/80",
        "network back: version 3, the text of version 1, is in force",
    ]
    assert [one["version"] for one in versions] == [3, 2, 1]
    assert [one["rolled_back_to"] for one in versions] == [1, None, None]
    assert rows[1][0] == "3"
    assert rows[1][-4:] == ["in", "force", "version", "1"]
    assert rows[2][-2:] == ["-", "-"]
    assert fleet.ok("policy", "get", "back") == policy_of("back")
    assert "80" in fleet.ok("policy", "get", "back", "--version", "2")


def test_rollback_to_the_built_in_policy(fleet: Cli, tmp_path: Path) -> None:
    make_network(fleet, "plain")
    fleet.ok("policy", "apply", write(tmp_path, "plain"))

    text = fleet.ok("policy", "rollback", "plain", "0")
    got = fleet.run("policy", "get", "plain")

    assert text.endswith("network plain: version 2, the built-in policy, is in force\n")
    assert (got.exit_code, got.stdout) == (0, "")
    assert got.stderr == "network plain: version 2 is the built-in policy, which has no text\n"


def test_policies_in_force_are_listed(fleet: Cli, tmp_path: Path) -> None:
    make_network(fleet, "listed")
    fleet.ok("policy", "apply", write(tmp_path, "listed"))

    found = {one["network"]: one for one in fleet.json("policy", "list")["policies"]}
    got = fleet.json("policy", "get", "listed")

    assert found["listed"].keys() == {"network", "version", "applied_at", "rolled_back_to"}
    assert got == {**found["listed"], "text": policy_of("listed")}
    assert "listed" in fleet.ok("policy", "list")


@pytest.mark.parametrize(
    "args", [("get",), ("history",), ("rollback", "1")], ids=["get", "history", "rollback"]
)
def test_a_network_that_is_not_there_is_4_with_its_nearest(fleet: Cli, args: tuple[str]) -> None:
    name = f"near-{args[0]}"
    fleet.ok("network", "create", name)

    message = fleet.refused(4, "policy", args[0], f"{name}x", *args[1:])

    assert f"there is no network {name}x; did you mean '{name}'?" in message


def test_a_version_or_policy_that_is_not_there_is_4(fleet: Cli) -> None:
    fleet.ok("network", "create", "bare")

    none = fleet.refused(4, "policy", "get", "bare")
    version = fleet.refused(4, "policy", "rollback", "bare", "9")

    assert none == "error: network: bare has the built-in policy; none was applied yet\n"
    assert "`netagent policy history bare` lists them" in version


def test_wait_ends_when_connected_hosts_have_applied_it(fleet: Cli, tmp_path: Path) -> None:
    make_network(fleet, "waited")
    file = write(tmp_path, "waited")

    with connected_agent(fleet, "h1"):
        text = fleet.ok("policy", "apply", file, "--wait")
        lines = fleet.ok("policy", "apply", file, "--wait", "-o", "json").splitlines()

    assert text.splitlines()[-2].endswith(" s  applied by 1 host")
    assert "not connected: h2 (" in text.splitlines()[-1]
    waited = json.loads(lines[1])
    assert waited["applied_hosts"] == ["h1"]
    assert (waited["lagging_hosts"], waited["away_hosts"]) == ([], ["h2"])
    assert waited["revision"] == json.loads(lines[0])["revision"]


def test_hosts_that_lag_are_named_when_the_time_is_over(fleet: Cli, tmp_path: Path) -> None:
    make_network(fleet, "lagging")
    file = write(tmp_path, "lagging")

    with connected_agent(fleet, "h1"), connected_agent(fleet, "h2", answers=False):
        late = fleet.run("policy", "apply", file, "--wait", "--timeout", "1")
        back = fleet.run("policy", "rollback", "lagging", "0", "--wait", "--timeout", "1")

    assert (late.exit_code, back.exit_code) == (3, 3)
    assert late.stdout.splitlines()[-1].endswith(" s  applied by 1 host of 2")
    assert late.stderr.startswith("error: not applied within 1 s by: h2; the policy is in force")


def test_waiting_may_be_interrupted_and_the_policy_stays(fleet: Cli, tmp_path: Path) -> None:
    make_network(fleet, "impatient")
    file = write(tmp_path, "impatient")
    command = [COMMAND, "--control", fleet.control, "policy", "apply", file, "--wait"]
    terminal, end = pty.openpty()
    seen = ""

    with (
        os.fdopen(terminal, "rb", buffering=0) as shown,
        connected_agent(fleet, "h1", answers=False),
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=end, env={**os.environ, "TERM": "xterm"}
        ) as process,
    ):
        os.close(end)
        while "waiting for h1" not in seen:
            seen += shown.read(4096).decode()
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(OSError):  # EIO once nobody has the other end open
            while more := shown.read(4096).decode():
                seen += more

    assert process.returncode == 130
    assert "0 of 1 hosts have applied it; waiting for h1" in seen
    assert "error: interrupted; the policy is in force, and hosts that lag catch up" in seen


def test_check_and_diff_ask_control(fleet: Cli, tmp_path: Path) -> None:
    make_network(fleet, "asked")
    make_network(fleet, "asker")
    fleet.ok("policy", "apply", write(tmp_path, "asked"))
    consent = "  - {name: in, from: {network: asker}, to: {labels: {}}, allow: [tcp/443]}\n"
    asked = policy_of("asked").replace("tests:\n", f"{consent}tests:\n")
    asker = tmp_path / "asker.yaml"
    asker.write_text(
        "network: asker\nrules:\n"
        "  - {name: out, from: {labels: {}}, to: {network: asked}, allow: [tcp/443]}\n"
        "tests:\n  - {from: web, to: asked/db, allow: [tcp/443]}\n"
    )

    alone = fleet.run("policy", "check", str(asker))
    fleet.ok("policy", "apply", "-", stdin=asked)
    with_consent = fleet.ok("policy", "check", str(asker))
    view = fleet.json("policy", "check", str(asker))
    changes = fleet.json("policy", "diff", str(asker))["changes"]
    same = fleet.ok("policy", "diff", "-", stdin=asked)

    assert alone.exit_code == 1
    assert "denied by default of network asked" in alone.stdout
    assert "1 test passed" in with_consent
    assert "needs in the kernel, with the policies in force: " in with_consent
    assert (view["checked_against"], view["tests_run"]) == ("control", 1)
    opened = [one for one in changes if one["effect"] == "opens"]
    assert [(one["from"], one["traffic"]) for one in opened] == [
        ("every machine of asker (2)", "tcp/443")
    ]
    assert same == "nothing opens or closes\n"


def test_the_examples_can_be_applied_one_after_the_other(tmp_path: Path) -> None:
    examples = Path(__file__).parents[3] / "docs/examples/policy"
    ops, shop, later = (str(examples / f"{name}.yaml") for name in ("ops", "shop", "shop-next"))
    machines = parse_fleet((examples / "fleet.yaml").read_bytes(), "fleet.yaml")

    with running_control(tmp_path) as target:
        cli = Cli(target)
        host = cli.register(1)
        for network in machines.networks:
            cli.ok("network", "create", network)
        for path, machine in machines.members.items():
            labels = [f"--label={key}={value}" for key, value in machine.labels.items()]
            cli.ok("machine", "create", path, "--host", host, *labels)
        text = cli.ok("policy", "apply", ops, shop)
        with_control = cli.ok("policy", "diff", later)
        applied = cli.ok("policy", "apply", later)

    offline = ("--with", ops, "--fleet", str(examples / "fleet.yaml"))
    assert "network shop: version 1 is in force" in text
    assert with_control == Cli(target).ok("policy", "diff", shop, later, *offline)
    assert applied == f"{with_control}network shop: version 2 is in force\n"


def test_diff_takes_the_policy_of_another_network_as_given(fleet: Cli, tmp_path: Path) -> None:
    make_network(fleet, "left")
    make_network(fleet, "right")
    out, into = tmp_path / "left.yaml", tmp_path / "right.yaml"
    out.write_text(
        "network: left\ndefault: allow\nrules:\n"
        "  - {name: out, from: {labels: {}}, to: {network: right}, allow: [udp/53]}\n"
    )
    into.write_text(
        "network: right\ndefault: allow\nrules:\n"
        "  - {name: in, from: {network: left}, to: {labels: {}}, allow: [udp/53]}\n"
    )

    alone = fleet.ok("policy", "diff", str(out))
    beside = fleet.ok("policy", "diff", str(out), "--with", str(into))
    together = fleet.ok("policy", "diff", str(out), str(into))

    assert "consents  every machine of left (2) -> every machine of right (2): udp/53" in alone
    assert "opens     every machine of left (2) -> every machine of right (2): udp/53" in beside
    assert "every machine of right (2): any" not in beside
    assert (
        "closes    host -> every machine of left (2), every machine of right (2): any" in together
    )
