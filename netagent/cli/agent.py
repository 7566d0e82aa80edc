"""`netagent agent`: run this host's agent, and remove all that it made."""

from __future__ import annotations

import os
from ipaddress import IPv4Address
from pathlib import Path

import click

from netagent.agent.config import AgentConfig
from netagent.cli.daemon import (
    config_option,
    fail,
    load_or_fail,
    log_level_option,
    pick_file,
    run_daemon,
    setting_options,
    system_failure,
)
from netagent.cli.options import examples
from netagent.cli.output import print_json
from netagent.model.errors import NetagentError
from netagent.model.fleet import Endpoint
from netagent.settings.loader import Sources

CONFIG_FILE = "/etc/netagent/agent.toml"

ENV_PREFIX = "NETAGENT_AGENT_"

ENV_OF_CLIENTS = frozenset({"NETAGENT_AGENT_SOCKET"})
"""Begins as our variables do, and tells the other commands where the agent's socket is."""

SETTING_HELPS = {
    "name": "This host's name in the fleet.",
    "control": "Control's address, as unix:///run/netagent/control.sock or 10.0.0.1:7400.",
    "endpoint": "Where this host's WireGuard listens on the underlay.",
    "region": "0 to 4095; part of the host's number for life.",
    "state_dir": "Where key and replica are kept.",
    "run_dir": "Where the local API's socket is.",
    "bpffs": "A mounted BPF file system.",
    "mesh_interface": "Name of the WireGuard interface.",
    "host_interface": "Name of the interface with the host's own stable address.",
    "mtu_bytes": "MTU of machines and mesh; by default what the underlay allows.",
    "audit_interval_s": "Longest time between two comparisons of the kernel with intent.",
    "hooks_dir": "Directory of executables that are told what happens to machines here.",
}

# What cleanup has no use for, but a configuration always has.
_UNUSED_BY_CLEANUP = {
    "name": "unnamed",
    "control": "none",
    "endpoint": Endpoint(IPv4Address("127.0.0.1"), 1),
}

_USED_BY_CLEANUP = frozenset({"state_dir", "run_dir", "bpffs", "mesh_interface", "host_interface"})


@click.group()
def agent() -> None:
    """Run the agent of this host, or remove all that it made."""


@agent.command(
    epilog=examples(
        "netagent agent run --name a --control 10.0.0.1:7400 --endpoint 10.0.0.2:51820",
        "netagent agent run --config /etc/netagent/agent.toml --log-level debug",
    )
)
@setting_options(AgentConfig, SETTING_HELPS)
@config_option(CONFIG_FILE)
@log_level_option
def run(config_file: Path | None, log_level: str, **flags: object) -> None:
    """Run the agent until SIGTERM or SIGINT; packets flow on when it stops. Needs root.

    Each flag is also a key of the configuration file (mtu_bytes = 1408) and an environment variable
    (NETAGENT_AGENT_MTU_BYTES); flags win over the environment, the environment over the file.
    """
    loaded = load_or_fail(AgentConfig, _sources(config_file, flags))
    from netagent.agent.daemon import run_agent

    run_daemon(run_agent(loaded.config), log_level)


@agent.command(epilog=examples("netagent agent cleanup", "netagent agent cleanup -o json"))
@setting_options(AgentConfig, SETTING_HELPS, only=_USED_BY_CLEANUP)
@config_option(CONFIG_FILE)
@click.option("--output", "-o", type=click.Choice(["table", "json"]), default="table")
def cleanup(config_file: Path | None, output: str, **flags: object) -> None:
    """Remove all that the agent ever made on this host, and nothing else. Stop the agent first.

    Machines on this host lose their network; its key goes too, so that control has to forget the
    host (netagent host remove) before it can register again.
    """
    sources = _sources(config_file, flags, fallbacks=_UNUSED_BY_CLEANUP)
    loaded = load_or_fail(AgentConfig, sources)
    from netagent.agent.cleanup import cleanup as remove_all

    try:
        removed = remove_all(loaded.config)
    except NetagentError as error:
        raise fail(error) from error
    except OSError as error:
        raise system_failure(error) from error
    if output == "json":
        print_json({"removed": removed})
        return
    for line in removed or ["nothing to remove"]:
        click.echo(line)


def _sources(
    config_file: Path | None,
    flags: dict[str, object],
    fallbacks: dict[str, object] | None = None,
) -> Sources:
    return Sources(
        file=pick_file(config_file, CONFIG_FILE),
        env=os.environ,
        env_prefix=ENV_PREFIX,
        flags=flags,
        env_ignored=ENV_OF_CLIENTS,
        fallbacks=fallbacks,
    )
