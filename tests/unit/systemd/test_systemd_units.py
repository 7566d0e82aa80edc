"""The units: what they promise about privileges and restarts, and where they are installed."""

import configparser
import json
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest
from click.testing import CliRunner

from netagent.cli.main import cli
from netagent.systemd.units import DAEMONS, install_units, remove_units, render_unit

COMMAND = Path("/opt/netagent/bin/netagent")
CAPABILITIES = {
    "agent": "CAP_NET_ADMIN CAP_NET_RAW CAP_BPF CAP_PERFMON CAP_SYS_ADMIN CAP_SYS_PTRACE",
    "control": "",
}

EACH = pytest.mark.parametrize("daemon", DAEMONS)


def service(daemon: str) -> dict[str, str]:
    parser = configparser.RawConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(render_unit(daemon, COMMAND))
    return dict(parser["Service"])


@EACH
def test_a_unit_starts_the_command_it_was_installed_by(daemon: str) -> None:
    assert service(daemon)["ExecStart"] == f"{COMMAND} {daemon} run"


@pytest.mark.parametrize(
    ("path", "written"),
    [("/opt/50%/netagent", "/opt/50%%/netagent"), ("/my opt/$x", '"/my opt/$$x"')],
)
def test_a_path_is_written_as_systemd_reads_it(path: str, written: str) -> None:
    assert f"ExecStart={written} agent run\n" in render_unit("agent", Path(path))


@EACH
def test_a_daemon_is_restarted_and_watched(daemon: str) -> None:
    found = service(daemon)

    assert found["Type"] == "notify"
    assert found["Restart"] == "always"
    assert int(found["WatchdogSec"]) > 0
    assert found["RestartPreventExitStatus"] == "2"


@EACH
def test_a_daemon_has_the_capabilities_that_it_needs_and_no_more(daemon: str) -> None:
    found = service(daemon)

    assert found["CapabilityBoundingSet"] == CAPABILITIES[daemon]
    assert found["NoNewPrivileges"] == "yes"


def test_wireguard_go_outlives_the_agent() -> None:
    assert service("agent")["KillMode"] == "process"


@EACH
def test_directories_are_those_of_the_default_settings(daemon: str) -> None:
    found = service(daemon)

    assert found["StateDirectory"] == f"netagent/{daemon}"
    assert found["RuntimeDirectory"].split()[0] == "netagent"
    assert found["RuntimeDirectoryPreserve"] == "yes"


def test_wireguard_go_has_a_directory_for_its_socket() -> None:
    """Below /run, which is empty after a boot."""
    assert "wireguard" in service("agent")["RuntimeDirectory"].split()


def test_the_agent_may_listen_for_life() -> None:
    assert "AF_PACKET" in service("agent")["RestrictAddressFamilies"].split()


def test_control_does_not_see_the_keys_of_an_agent_beside_it() -> None:
    assert "-/var/lib/netagent/agent" in service("control")["InaccessiblePaths"].split()


@EACH
@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd-analyze")
def test_systemd_understands_every_line(daemon: str, tmp_path: Path) -> None:
    (unit,) = install_units((daemon,), Path("/bin/true"), tmp_path)

    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(unit)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.stderr == ""
    assert done.returncode == 0


def test_installing_twice_changes_nothing_and_removing_leaves_nothing(tmp_path: Path) -> None:
    first = install_units(DAEMONS, COMMAND, tmp_path)
    second = install_units(DAEMONS, COMMAND, tmp_path)
    names = sorted(path.name for path in (tmp_path / "etc/systemd/system").iterdir())
    removed = remove_units(DAEMONS, tmp_path)

    assert names == ["netagent-agent.service", "netagent-control.service"]
    assert (len(first), second) == (2, [])
    assert removed == first
    assert not list((tmp_path / "etc/systemd/system").iterdir())


def test_the_command_installs_units_for_itself(tmp_path: Path) -> None:
    done = CliRunner().invoke(cli, ["systemd", "install", "agent", "--root", str(tmp_path)])

    unit = tmp_path / "etc/systemd/system/netagent-agent.service"
    assert done.exit_code == 0, done.output
    assert str(unit) in done.output
    assert "systemctl enable --now netagent-agent.service" in done.output
    assert f"ExecStart={sysconfig.get_path('scripts')}/netagent agent run" in unit.read_text()


def test_a_unit_is_shown_as_it_is_installed() -> None:
    shown = CliRunner().invoke(cli, ["systemd", "show", "control", "-o", "json"])

    assert json.loads(shown.output)["name"] == "netagent-control.service"
