"""`netagent policy` on files: what is printed, and with which exit code."""

from __future__ import annotations

import json
import os
import re
import subprocess
import threading
from pathlib import Path

import pytest
from cli_fleet import COMMAND, Cli

ROOT = Path(__file__).parents[3]
EXAMPLES = ROOT / "docs/examples/policy"
FLEET, SHOP, OPS, NEXT = (
    str(EXAMPLES / name) for name in ("fleet.yaml", "shop.yaml", "ops.yaml", "shop-next.yaml")
)

OFFLINE = Cli("unix:///nonexistent/control.sock")


def write(directory: Path, name: str, text: str | bytes) -> str:
    file = directory / name
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(file)


def explained(source: str, destination: str, traffic: str, *policies: str) -> str:
    files = [word for file in policies for word in ("--policy", file)]
    return OFFLINE.ok("policy", "explain", source, destination, traffic, *files, "--fleet", FLEET)


def documented() -> list[tuple[str, str]]:
    """Return each `$ netagent policy` of docs/cli.md, with what it is said to print."""
    text = (ROOT / "docs/cli.md").read_text()
    sessions = re.findall(r"^```\n(\$ netagent policy .*?)^```$", text, re.DOTALL | re.MULTILINE)
    runs = [run for session in sessions for run in session.split("$ ")[1:]]
    return [(run.partition("\n")[0], run.partition("\n")[2].rstrip("\n") + "\n") for run in runs]


@pytest.mark.parametrize(("command", "printed"), documented())
def test_the_manual_shows_what_is_printed(
    command: str, printed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(EXAMPLES)

    result = OFFLINE.run(*command.split()[1:])

    assert result.output == printed
    assert result.exit_code == (1 if "error" in printed else 0)


def test_the_manual_shows_each_offline_command() -> None:
    shown = {command.split()[2] for command, _ in documented()}

    assert shown == {"check", "diff", "explain"}


def test_check_tells_good_policies_to_programs() -> None:
    view = OFFLINE.json("policy", "check", SHOP, OPS, "--fleet", FLEET)

    assert view["good"] is True
    assert (view["problems"], view["warnings"], view["tests_run"]) == ([], [], 5)
    assert view["checked_against"] == "fleet"
    assert [one["network"] for one in view["policies"]] == ["shop", "ops"]
    assert view["usage"]["pairs"] > 0


@pytest.mark.parametrize("shop", [SHOP, NEXT], ids=["now", "next"])
def test_the_examples_are_good_without_warnings(shop: str) -> None:
    text = OFFLINE.ok("policy", "check", shop, OPS, "--fleet", FLEET)

    assert text.startswith("good: shop, ops\n")
    assert "0 warnings" in text


@pytest.fixture
def no_control(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nobody have named a control, and none be at the default place."""
    monkeypatch.setattr("netagent.cli.policy_check.CONTROL_DEFAULT", OFFLINE.control)


@pytest.mark.usefixtures("no_control")
def test_check_without_fleet_and_control_knows_no_names(tmp_path: Path) -> None:
    file = write(tmp_path, "p.yaml", "network: nowhere\nrules: []\n")

    text = OFFLINE.ok("policy", "check", file)
    view = OFFLINE.json("policy", "check", file)

    assert "no test was run" in text
    assert "names and tests are not checked, cannot reach control" in text
    assert (view["usage"], view["checked_against"]) == (None, None)


def test_a_control_that_was_named_has_to_be_there() -> None:
    for args in (("check", SHOP), ("diff", SHOP), ("explain", "a", "b", "tcp/1", "--policy", SHOP)):
        message = OFFLINE.refused(3, "policy", *args)

        assert message.startswith("error: cannot reach control at /nonexistent/control.sock")


def test_check_reports_all_errors_of_all_files_at_their_places(tmp_path: Path) -> None:
    one = write(tmp_path, "one.yaml", "network: shop\nruels: []\ndefault: maybe\n")
    two = write(tmp_path, "two.yaml", "network: shpo\nrules: []\n")

    result = OFFLINE.run("policy", "check", one, two, "--fleet", FLEET)
    view = json.loads(
        OFFLINE.run("policy", "check", one, two, "--fleet", FLEET, "-o", "json").stdout
    )

    lines = result.stdout.splitlines()
    assert (result.exit_code, result.stderr) == (1, "")
    assert lines[0].startswith(f"{one}:2:1: unknown key 'ruels'")
    assert lines[1].startswith(f"{one}:3:10: default: 'maybe' is not known")
    assert lines[2].startswith(f"{two}:1:")
    assert lines[2].endswith("no network is called 'shpo'; did you mean 'shop'?")
    assert lines[3] == "3 errors, 0 warnings"
    assert view["good"] is False
    assert [(one["line"], one["column"]) for one in view["problems"][:2]] == [(2, 1), (3, 10)]


def test_check_reports_a_wrong_fleet_beside_wrong_policies(tmp_path: Path) -> None:
    fleet = write(tmp_path, "a-fleet.yaml", "networks:\n  shop:\n    Web_1: {}\n")
    policy = write(tmp_path, "p.yaml", "network: shop\nruels: []\n")

    result = OFFLINE.run("policy", "check", policy, "--fleet", fleet)

    assert result.exit_code == 1
    assert f"{fleet}:3:5: " in result.stdout
    assert f"{policy}:2:1: " in result.stdout


def test_check_fails_on_a_failing_test_and_says_who_decided(tmp_path: Path) -> None:
    text = "network: shop\ntests:\n  - {from: web-1, to: db-1, allow: [tcp/22]}\n"
    file = write(tmp_path, "p.yaml", text)

    result = OFFLINE.run("policy", "check", file, "--fleet", FLEET)

    assert result.exit_code == 1
    assert f"{file}:3:" in result.stdout
    assert "denied by default of network shop" in result.stdout


def test_check_prints_warnings_and_succeeds(tmp_path: Path) -> None:
    text = (
        "network: shop\nrules:\n"
        "  - {name: r, from: {labels: {app: wbe}}, to: {labels: {}}, allow: [tcp/80]}\n"
    )
    file = write(tmp_path, "p.yaml", text)

    lines = OFFLINE.ok("policy", "check", file, "--fleet", FLEET).splitlines()

    assert lines[0].startswith(f"{file}:3:")
    assert "warning: " in lines[0]
    assert "matches nobody today" in lines[0]
    assert any(line.endswith("warnings") or line.endswith("1 warning") for line in lines[1:])


@pytest.mark.usefixtures("no_control")
def test_what_a_file_says_cannot_steer_the_terminal(tmp_path: Path) -> None:
    file = write(tmp_path, "p.yaml", 'network: shop\n"\\e[31mred": 1\n')

    result = OFFLINE.run("policy", "check", file)

    assert result.exit_code == 1
    assert "\x1b" not in result.stdout


def commands_with(policy: str, fleet: str) -> list[tuple[str, ...]]:
    return [
        ("check", policy, "--fleet", fleet),
        ("diff", "none", policy, "--fleet", fleet),
        ("explain", "web-1", "db-1", "tcp/1", "--policy", policy, "--fleet", fleet),
    ]


@pytest.mark.parametrize("number", [0, 1, 2], ids=["check", "diff", "explain"])
def test_files_that_cannot_be_read_are_2(number: int, tmp_path: Path) -> None:
    large = write(tmp_path, "large.yaml", b" " * ((4 << 20) + 1))
    absent = str(tmp_path / "absent.yaml")

    for file, problem in (
        (absent, "No such file or directory"),
        (str(tmp_path), "Is a directory"),
        (large, "is larger than 4,194,304 bytes"),
        ("/dev/zero", "is larger than 4,194,304 bytes"),
    ):
        for pair in ((file, FLEET), (SHOP, file)):
            message = OFFLINE.refused(2, "policy", *commands_with(*pair)[number])
            assert message.startswith(f"error: {file}: {problem}")
            assert len(message.splitlines()) == 1


def test_all_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    names = [str(tmp_path / name) for name in ("a", "b")]

    message = OFFLINE.refused(2, "policy", "check", *names, "--fleet", str(tmp_path / "c"))

    assert [line.split(": ")[1] for line in message.splitlines()] == [*names, str(tmp_path / "c")]


@pytest.mark.parametrize("number", [0, 1, 2], ids=["check", "diff", "explain"])
def test_files_that_are_not_utf8_are_1_at_the_line(number: int, tmp_path: Path) -> None:
    file = write(tmp_path, "latin.yaml", b"network: shop\n# caf\xe9\n")

    for pair in ((file, FLEET), (SHOP, file)):
        result = OFFLINE.run("policy", *commands_with(*pair)[number])
        assert result.exit_code == 1
        assert f"{file}:2:1: byte 19 is not UTF-8" in result.output


def test_errors_in_files_stop_diff_and_explain(tmp_path: Path) -> None:
    file = write(tmp_path, "p.yaml", "network: shop\nruels: []\ndefault: maybe\n")

    for command in commands_with(file, FLEET)[1:]:
        lines = OFFLINE.refused(1, "policy", *command).splitlines()
        assert lines[0].startswith(f"error: {file}:2:1: unknown key 'ruels'")
        assert lines[1].startswith(f"error: {file}:3:10: default")


def test_a_file_name_that_is_not_text(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/caf\xe9.yaml"
    Path(os.fsdecode(path)).write_text("network: shop\nruels: []\n")
    command = [COMMAND, "policy", "check", path, "--output", "json"]

    done = subprocess.run(command, capture_output=True, check=False)

    assert done.returncode == 1
    assert json.loads(done.stdout)["problems"][0]["line"] == 2
    assert done.stderr == b""


def test_the_fleet_may_come_through_a_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_text(Path(FLEET).read_text()))
    writer.start()

    text = OFFLINE.ok("policy", "check", SHOP, OPS, "--fleet", str(pipe))

    writer.join()
    assert text.startswith("good: shop, ops\n")


def test_files_may_come_from_standard_input() -> None:
    text = Path(SHOP).read_text()
    bad = f"{text}ruels: []\n"

    good = OFFLINE.ok("policy", "check", "-", OPS, "--fleet", FLEET, stdin=text)
    refused = OFFLINE.run("policy", "diff", SHOP, "-", "--fleet", FLEET, stdin=bad)
    twice = OFFLINE.refused(2, "policy", "check", "-", "-", "--fleet", FLEET)

    assert good.startswith("good: shop, ops\n")
    assert refused.stderr.startswith("error: stdin:28:1: unknown key 'ruels'")
    assert "standard input can be read only once" in twice


def test_offline_forms_need_all_their_files() -> None:
    message = OFFLINE.refused(2, "policy", "diff", SHOP, "--fleet", FLEET)
    other = OFFLINE.refused(2, "policy", "explain", "web-1", "db-1", "tcp/1", "--fleet", FLEET)

    assert "OLD may be the word none" in message
    assert "give --policy too" in other


def test_diff_for_programs() -> None:
    args = ("policy", "diff", SHOP, NEXT, "--with", OPS, "--fleet", FLEET)

    changes = OFFLINE.json(*args)["changes"]

    assert changes[0] == {
        "effect": "closes",
        "from": "shop/web-1, shop/web-2",
        "to": "shop/db-2",
        "traffic": "tcp/5432",
        "pairs": 2,
    }
    assert [(one["effect"], one["from"]) for one in changes[1:]] == [("opens", "ops/bastion-1")]


def test_diff_without_the_other_networks_policy_gives_consent_only() -> None:
    text = OFFLINE.ok("policy", "diff", SHOP, NEXT, "--fleet", FLEET)

    assert "consents  ops/bastion-1 -> " in text
    assert "opens" not in text


def test_diff_of_equal_policies_says_so() -> None:
    assert OFFLINE.ok("policy", "diff", SHOP, SHOP, "--fleet", FLEET) == "nothing opens or closes\n"
    assert OFFLINE.json("policy", "diff", SHOP, SHOP, "--fleet", FLEET) == {"changes": []}


def test_diff_of_a_first_policy_closes_what_was_open() -> None:
    text = OFFLINE.ok("policy", "diff", "none", SHOP, "--fleet", FLEET)

    assert any(
        line.startswith("closes    shop/") and "-> shop/" in line for line in text.splitlines()
    )


def test_diff_needs_a_successor() -> None:
    message = OFFLINE.refused(2, "policy", "diff", SHOP, OPS, "--fleet", FLEET)

    assert f"{SHOP} is the policy of network shop" in message
    assert "name its successor" in message


def test_two_policies_of_one_network_are_refused() -> None:
    for args in (
        ("diff", "none", SHOP, NEXT, "--fleet", FLEET),
        ("diff", SHOP, NEXT, "--with", SHOP, "--fleet", FLEET),
        ("explain", "web-1", "db-1", "tcp/1", "--policy", SHOP, "--policy", NEXT, "--fleet", FLEET),
    ):
        assert "network 'shop' has another policy at" in OFFLINE.refused(1, "policy", *args)


def test_explain_needs_both_consents() -> None:
    one = explained("prom-1", "shop/web-1", "tcp/9100", SHOP)
    both = explained("prom-1", "shop/web-1", "tcp/9100", SHOP, OPS)

    assert one.splitlines()[0] == "ops/prom-1 -> shop/web-1 tcp/9100: denied"
    assert both.splitlines() == [
        "ops/prom-1 -> shop/web-1 tcp/9100: allowed",
        "  sender    allowed by rule 'scrapes' of network ops, version 0",
        "  receiver  allowed by rule 'ops-scrapes' of network shop, version 0",
    ]


@pytest.mark.parametrize(
    ("source", "destination", "traffic", "head"),
    [
        ("web-1", "host", "icmp6/echo", "shop/web-1 -> host icmp6/echo: denied"),
        ("host", "web-1", "tcp/22", "host -> shop/web-1 tcp/22: denied"),
        ("2600::1", "web-1", "udp/443", "2600::1 -> shop/web-1 udp/443: allowed"),
        ("build-1", "2001:db8:100:1::1", "tcp/443", "tcp/443: denied"),
        ("build-1", "2001:db8:100:2::1", "tcp/443", "tcp/443: allowed"),
    ],
)
def test_explain_knows_hosts_and_outside(
    source: str, destination: str, traffic: str, head: str
) -> None:
    assert explained(source, destination, traffic, SHOP).splitlines()[0].endswith(head)


def test_explain_for_programs() -> None:
    view = OFFLINE.json(
        *("policy", "explain", "web-1", "db-1", "tcp/22", "--policy", SHOP, "--fleet", FLEET)
    )

    assert (view["from"], view["to"], view["traffic"]) == ("shop/web-1", "shop/db-1", "tcp/22")
    assert view["verdict"] == "deny"
    assert [one["at"] for one in view["opinions"]] == ["sender", "receiver"]
    assert view["opinions"][0]["rule"] is None


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (("web-1", "db-1", "tcp"), 2, "'tcp' is more than one packet"),
        (("web-1", "db-1", "tcp/1-2"), 2, "is more than one packet"),
        (("web-1", "db-1", "tcp/80,443"), 2, "is more than one packet"),
        (("web-1", "db-1", "any"), 2, "is more than one packet"),
        (("web-1", "db-1", "icmp6"), 2, "is more than one packet"),
        (("web-1", "db-1", "tcp/70000"), 2, "port 70000 is not within 0 to 65535"),
        (("web-1", "db-1", "http"), 2, "'http' is not a protocol"),
        (("Web!", "db-1", "tcp/1"), 2, "'Web!' is neither a machine, nor host"),
        (("1:2", "db-1", "tcp/1"), 2, "'1:2' is neither a machine, nor host"),
        (("web-1", "fd12:3456:789a::1", "tcp/1"), 2, "is within the fleet's prefix"),
        (("web-9", "db-1", "tcp/1"), 4, "FROM: the fleet has no machine web-9; did you mean"),
        (("web-1", "ops/db-1", "tcp/1"), 4, "TO: the fleet has no machine ops/db-1"),
    ],
)
def test_explain_refuses_what_it_cannot_answer(
    args: tuple[str, ...], code: int, message: str
) -> None:
    said = OFFLINE.refused(code, "policy", "explain", *args, "--policy", SHOP, "--fleet", FLEET)

    assert message in said


def test_a_bare_name_that_two_networks_have_is_refused(tmp_path: Path) -> None:
    fleet = write(tmp_path, "f.yaml", "networks: {a: {web: {}, host: {}}, b: {web: {}, host: {}}}")
    policy = write(tmp_path, "p.yaml", "network: a\n")
    ask = ("policy", "explain")
    files = ("--policy", policy, "--fleet", fleet)

    message = OFFLINE.refused(2, *ask, "web", "b/web", "tcp/1", *files)

    assert "'web' may be a/web, b/web" in message
    assert OFFLINE.ok(*ask, "a/web", "host", "tcp/1", *files).startswith("a/web -> host tcp/1: ")


def test_offline_commands_import_no_grpc() -> None:
    code = (
        "import sys; from netagent.cli.main import cli;"
        f" cli(['policy', 'check', {SHOP!r}, '--fleet', {FLEET!r}], standalone_mode=False);"
        " print(sorted({'grpc', 'rich', 'google.protobuf'} & set(sys.modules)), file=sys.stderr)"
    )
    python = Path(COMMAND).with_name("python")

    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)

    assert done.stderr == "[]\n"
