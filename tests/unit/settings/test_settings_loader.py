"""What an operator gets from good and bad settings."""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from pathlib import Path

import pytest

from netagent.agent.config import AgentConfig
from netagent.control.config import ControlConfig
from netagent.model.errors import ConfigError
from netagent.model.fleet import Endpoint
from netagent.settings.fields import describe_fields, parse_endpoint
from netagent.settings.loader import Loaded, Sources, load_settings

AGENT_FLAGS = {"name": "a", "control": "unix:///c", "endpoint": "192.0.2.1:51820"}


def load_agent(
    tmp_path: Path,
    toml: str | None = None,
    env: dict[str, str] | None = None,
    flags: dict[str, object] | None = None,
) -> Loaded[AgentConfig]:
    file = None
    if toml is not None:
        file = tmp_path / "agent.toml"
        file.write_text(toml)
    given = AGENT_FLAGS if flags is None else flags
    sources = Sources(
        file, env or {}, "NETAGENT_AGENT_", given, frozenset({"NETAGENT_AGENT_SOCKET"})
    )
    return load_settings(AgentConfig, sources)


def problems_of(error: pytest.ExceptionInfo[ConfigError]) -> list[str]:
    return str(error.value).splitlines()


def test_later_sources_win_and_are_remembered(tmp_path: Path) -> None:
    toml = "# ours\nregion = 2\nmtu_bytes = 1408\naudit_interval_s = 5\n"
    env = {"NETAGENT_AGENT_REGION": "3", "NETAGENT_AGENT_MTU_BYTES": "1424", "OTHER": "x"}

    loaded = load_agent(tmp_path, toml, env, {**AGENT_FLAGS, "region": "4"})

    assert loaded.config.region == 4
    assert loaded.config.mtu_bytes == 1424
    assert loaded.config.audit_interval_s == 5.0
    assert loaded.sources["region"] == "flag --region"
    assert loaded.sources["mtu_bytes"] == "environment variable NETAGENT_AGENT_MTU_BYTES"
    assert loaded.sources["audit_interval_s"] == f"{tmp_path}/agent.toml, line 4"
    assert loaded.sources["bpffs"] == "default"


def test_all_problems_are_reported_at_once(tmp_path: Path) -> None:
    toml = 'mtu_byte = 1408\nregion = "two"\n'
    env = {"NETAGENT_AGENT_STATE_DIR": "relative"}

    with pytest.raises(ConfigError) as error:
        load_agent(tmp_path, toml, env, {"endpoint": "192.0.2.1"})

    file = f"{tmp_path}/agent.toml"
    assert problems_of(error) == [
        f"mtu_byte: there is no such key ({file}, line 1); did you mean mtu_bytes?",
        f"region: 'two' is not a whole number ({file}, line 2)",
        "state_dir: 'relative' is not an absolute path"
        " (environment variable NETAGENT_AGENT_STATE_DIR)",
        "endpoint: '192.0.2.1' is not ADDRESS:PORT, as 192.0.2.1:51820 or"
        " [2001:db8::1]:51820 (flag --endpoint)",
        "name: is required and has no default; give --name, set NETAGENT_AGENT_NAME, or write it"
        " into the configuration file",
        "control: is required and has no default; give --control, set NETAGENT_AGENT_CONTROL, or"
        " write it into the configuration file",
    ]


def test_rule_of_the_dataclass_names_the_source(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        load_agent(tmp_path, env={"NETAGENT_AGENT_MTU_BYTES": "1000"})

    assert "1000 is not within 1280 to 65535" in str(error.value)
    assert "(environment variable NETAGENT_AGENT_MTU_BYTES)" in str(error.value)


def test_broken_rules_are_reported_with_all_else(tmp_path: Path) -> None:
    flags = {"name": "A_", "control": "c", "region": "9999", "audit_interval_s": "x"}

    with pytest.raises(ConfigError) as error:
        load_agent(tmp_path, "mtu_bytes = 3\n", flags=flags)

    keys = [problem.partition(":")[0] for problem in problems_of(error)]
    assert keys == ["audit_interval_s", "endpoint", "name", "region", "mtu_bytes"]
    assert problems_of(error)[-1].endswith(f"({tmp_path}/agent.toml, line 1)")


def test_each_address_of_control_is_checked() -> None:
    flags = {"listen": "foo, unix:///c, 192.0.2.1:1", "drain_s": "x"}

    with pytest.raises(ConfigError) as error:
        load_settings(ControlConfig, Sources(None, {}, "C_", flags))

    drain, first, second = problems_of(error)
    assert drain.startswith("drain_s: 'x' is not")
    assert first.startswith("listen: foo is neither unix:///PATH nor ADDRESS:PORT")
    assert second.startswith("listen: 192.0.2.1:1 is not loopback")
    assert second.endswith("(flag --listen)")


def test_unknown_variable_is_an_error_and_the_clients_socket_is_none(tmp_path: Path) -> None:
    load_agent(tmp_path, env={"NETAGENT_AGENT_SOCKET": "/s"})

    with pytest.raises(ConfigError, match=r"NETAGENT_AGENT_REGOIN.*did you mean region"):
        load_agent(tmp_path, env={"NETAGENT_AGENT_REGOIN": "1"})


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        pytest.param("region = \n", "is not TOML: .*line 1", id="syntax"),
        pytest.param("region = true\n", "region: True is not a whole number", id="bool-as-int"),
        pytest.param("name = 5\n", "name: 5 is not text", id="int-as-text"),
        pytest.param("[mesh]\nname = 5\n", "mesh: there is no such key .*line 1", id="table"),
        pytest.param("audit_interval_s = nan\n", "audit_interval_s: nan is not", id="nan"),
    ],
)
def test_bad_file(tmp_path: Path, toml: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_agent(tmp_path, toml)


def test_absent_file_is_named(tmp_path: Path) -> None:
    sources = Sources(tmp_path / "none.toml", {}, "X_", {})

    with pytest.raises(ConfigError, match=r"none\.toml: cannot be read: No such file"):
        load_settings(ControlConfig, sources)


def test_control_reads_flags_prefix_and_bool(tmp_path: Path) -> None:
    env = {"C_INSECURE": "yes", "C_PREFIX": "fd00:1:2:3::/64"}

    loaded = load_settings(ControlConfig, Sources(None, env, "C_", {"insecure": False}))

    assert loaded.config.insecure is False
    assert loaded.config.prefix == IPv6Network("fd00:1:2:3::/64")


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        pytest.param("192.0.2.1:1", Endpoint(IPv4Address("192.0.2.1"), 1), id="v4"),
        pytest.param("[2001:db8::1]:2", Endpoint(IPv6Address("2001:db8::1"), 2), id="v6"),
    ],
)
def test_endpoint(text: str, endpoint: Endpoint) -> None:
    assert parse_endpoint(text) == endpoint


@pytest.mark.parametrize("text", ["2001:db8::1:2", "[192.0.2.1]:1", "a:1", ":1", "192.0.2.1:-1"])
def test_bad_endpoint(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        parse_endpoint(text)


def test_type_without_parser_is_our_bug() -> None:
    @dataclass
    class Strange:
        key: bytes

    with pytest.raises(TypeError, match="bytes"):
        describe_fields(Strange)
