from pathlib import Path

import pytest
from agent_rig import H1, Rig

from netagent.agent.config import AgentConfig


@pytest.fixture
def config(tmp_path: Path) -> AgentConfig:
    return AgentConfig(
        name="h1",
        control="unix:///run/netagent/control.sock",
        endpoint=H1.endpoint,
        state_dir=tmp_path / "state",
        run_dir=tmp_path / "run",
        bpffs=tmp_path / "bpf",
    )


@pytest.fixture
def rig(config: AgentConfig) -> Rig:
    return Rig(config)
