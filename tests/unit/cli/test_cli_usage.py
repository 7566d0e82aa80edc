"""Help, usage errors and daemons that cannot start: nothing here reaches a server."""

import dataclasses
import os
import socket
import subprocess
from pathlib import Path
from typing import Any

import click
import pytest
from cli_fleet import COMMAND, Cli

from netagent.agent.config import AgentConfig
from netagent.cli import agent, control
from netagent.cli.main import cli
from netagent.control.config import ControlConfig

NOWHERE = Cli("unix:///nonexistent/control.sock")


def find_commands(
    group: click.Group, path: tuple[str, ...] = ()
) -> list[tuple[tuple[str, ...], click.Command]]:
    """Return every command below a group that is no group."""
    found: list[tuple[tuple[str, ...], click.Command]] = []
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            found += find_commands(command, (*path, name))
        else:
            found.append(((*path, name), command))
    return found


COMMANDS = find_commands(cli)
ALL = pytest.mark.parametrize(
    ("path", "command"), [pytest.param(*each, id=" ".join(each[0])) for each in COMMANDS]
)


@ALL
def test_help_has_an_example_of_the_command(path: tuple[str, ...], command: click.Command) -> None:
    text = NOWHERE.ok(*path, "--help")

    examples = text.partition("Examples:\n")[2]
    assert f"netagent {' '.join(path)}" in examples


@ALL
def test_every_command_but_daemons_offers_json(
    path: tuple[str, ...], command: click.Command
) -> None:
    names = {name for parameter in command.params for name in parameter.opts}

    assert ("--output" in names) is (path[-1] != "run")


@pytest.mark.parametrize(
    ("config", "helps", "run"),
    [
        (AgentConfig, agent.SETTING_HELPS, agent.run),
        (ControlConfig, control.SETTING_HELPS, control.run),
    ],
)
def test_every_setting_has_a_flag(
    config: type[Any], helps: dict[str, str], run: click.Command
) -> None:
    keys = [field.name for field in dataclasses.fields(config)]

    flags = {name for parameter in run.params for name in parameter.opts}

    assert list(helps) == keys
    assert {f"--{key.replace('_', '-')}" for key in keys} <= flags


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("machine", "create", "web", "--host", "a"), "'web' is not NETWORK/NAME"),
        (("machine", "create", "b/w", "--host", "a", "--label", "x"), "'x' is not KEY=VALUE"),
        (("machine", "label", "web"), "Give KEY=VALUE to set or KEY-"),
        (("machine", "label", "web", "a=1", "a-"), "'a' is given twice"),
        (("attach", "web"), "Give either --interface or --netns"),
        (("attach", "web", "--netns", "n", "--interface", "i"), "Give either"),
        (("host", "register", "a", "--public-key", "!", "--endpoint", "1.2.3.4:5"), "base64"),
        (("host", "register", "a", "--public-key", "", "--endpoint", "1.2.3.4"), "ADDRESS:PORT"),
        (("host", "list", "--timeout", "0"), "not in the range"),
        (("move", "web"), "--to"),
        (("policy", "apply"), "FILE..."),
        (("policy", "apply", "a", "--expect-version", "-1"), "not in the range"),
        (("policy", "apply", "a", "b", "--expect-version", "1"), "give one FILE"),
        (("policy", "apply", "a", "--dry-run", "--wait"), "puts nothing in force"),
        (("policy", "rollback", "a", "1", "--dry-run", "--wait"), "puts nothing in force"),
        (("policy", "rollback", "a", "latest"), "'latest' is not a valid integer"),
        (("policy", "get", "a", "--version", "0"), "not in the range"),
        (("policy", "explain", "a/b", "a/c", "tcp"), "is more than one packet"),
        (("flows", "--dorpped"), "--dorpped"),
        (("mvoe",), "mvoe"),
        (("--foo",), "--foo"),
    ],
)
def test_wrong_usage_is_2(args: tuple[str, ...], message: str) -> None:
    text = NOWHERE.refused(2, *args)

    assert message in text
    assert text.startswith("error: ")
    assert len(text.splitlines()) == 1
    assert " --help`" in text


def test_unreachable_is_3_and_says_what_to_do(tmp_path: Path) -> None:
    dead = tmp_path / "dead.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(dead))

    absent = NOWHERE.refused(3, "host", "list")
    refused = Cli(f"unix://{dead}").refused(3, "host", "list")
    no_agent = NOWHERE.refused(3, "status")
    no_port = Cli("127.0.0.1:1").refused(3, "host", "list")
    no_name = Cli("control.invalid:").refused(3, "host", "list")

    assert "/nonexistent/control.sock: No such file" in absent
    assert f"{dead}: Connection refused" in refused
    assert "is `netagent agent run` running here?" in no_agent
    assert "this command is about the host that it runs on" in no_agent
    for message in (absent, refused, no_port, no_name):
        assert "is `netagent control run` running there?" in message
        assert len(message.splitlines()) == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_socket_that_may_not_be_opened(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as closed:
        path = tmp_path / "c.sock"
        closed.bind(str(path))
        closed.listen()
        path.chmod(0o600)
        code = (
            # Loaded before: the other user may not be allowed to read the project.
            "import os, sys, netagent.cli.host; from netagent.cli.main import main;"
            f" sys.argv = ['netagent', '--control', 'unix://{path}', 'host', 'list'];"
            " os.setuid(65534); main()"
        )
        python = Path(COMMAND).with_name("python")
        done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)

    assert done.returncode == 3
    assert done.stderr.endswith("Permission denied; run this as root\n")
    assert len(done.stderr.splitlines()) == 1


def test_agent_settings_are_checked_before_anything_is_touched(tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    file.write_text(f'name = "a"\nstate_dir = "{tmp_path}/state"\nregoin = 4\n')

    message = NOWHERE.refused(2, "agent", "run", "--config", str(file), "--mtu-bytes", "x")

    assert f"error: regoin: there is no such key ({file}, line 3); did you mean region?" in message
    assert "error: mtu_bytes: 'x' is not a whole number (flag --mtu-bytes)" in message
    assert "error: endpoint: is required" in message
    assert not (tmp_path / "state").exists()


def test_control_that_may_not_listen_says_so(tmp_path: Path) -> None:
    args = ("control", "run", "--state-dir", str(tmp_path), "--listen", "192.0.2.1:7400")

    done = subprocess.run([COMMAND, *args], capture_output=True, text=True, check=False)

    assert done.returncode == 2
    assert "error: listen: 192.0.2.1:7400 is not loopback" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("daemon", ["control", "agent"])
def test_state_directory_that_cannot_be_one(daemon: str, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    own = {
        "control": ("--listen", f"unix://{tmp_path}/c.sock"),
        "agent": ("--name", "a", "--control", "unix:///c", "--endpoint", "192.0.2.1:51820"),
    }
    args = (daemon, "run", "--state-dir", str(file), *own[daemon])

    done = subprocess.run([COMMAND, *args], capture_output=True, text=True, check=False)

    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode in (1, 2, 3)
    assert len(errors) == 1
    assert str(file) in errors[0]
    assert "Traceback" not in done.stderr


def test_help_imports_neither_grpc_nor_rich() -> None:
    code = (
        "import sys; from netagent.cli.main import cli; cli(['--help'], standalone_mode=False);"
        " print(sorted({'grpc', 'rich', 'google.protobuf'} & set(sys.modules)), file=sys.stderr)"
    )
    python = Path(COMMAND).with_name("python")

    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)

    assert done.stderr == "[]\n"
