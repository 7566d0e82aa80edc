"""`netagent control`: run the control API."""

from __future__ import annotations

import os
from pathlib import Path

import click

from netagent.cli.daemon import (
    config_option,
    load_or_fail,
    log_level_option,
    pick_file,
    run_daemon,
    setting_options,
)
from netagent.cli.options import examples
from netagent.control.config import ControlConfig
from netagent.settings.loader import Sources

CONFIG_FILE = "/etc/netagent/control.toml"

SETTING_HELPS = {
    "state_dir": "Where the store is kept.",
    "listen": "unix:///PATH, or ADDRESS:PORT with a literal address; several: with commas.",
    "insecure": "Allow listening beyond loopback, without any authentication.",
    "prefix": "The fleet's /64, when the fleet is first made; otherwise a random one.",
    "prepare_bound_s": "How long hosts may hold up the commit of a move.",
    "settle_bound_s": "How long hosts may hold up the end of a move.",
    "head_start_s": "How long the other hosts let the destination be first with a commit, at most.",
    "drain_s": "How long a source still forwards once all hosts know of the commit.",
}


@click.group()
def control() -> None:
    """Run the control API."""


@control.command(
    epilog=examples(
        "netagent control run",
        "netagent control run --listen 127.0.0.1:7400 --state-dir /var/lib/netagent/control",
        "NETAGENT_CONTROL_LISTEN=[::1]:7400 netagent control run",
    )
)
@setting_options(ControlConfig, SETTING_HELPS)
@config_option(CONFIG_FILE)
@log_level_option
def run(config_file: Path | None, log_level: str, **flags: object) -> None:
    """Serve the control API until SIGTERM or SIGINT.

    Each flag is also a key of the configuration file (state_dir = "…") and an environment variable
    (NETAGENT_CONTROL_STATE_DIR); flags win over the environment, the environment over the file.
    """
    sources = Sources(
        file=pick_file(config_file, CONFIG_FILE),
        env=os.environ,
        env_prefix="NETAGENT_CONTROL_",
        flags=flags,
    )
    loaded = load_or_fail(ControlConfig, sources)
    from netagent.control.server import run_control

    run_daemon(run_control(loaded.config), log_level)
