"""The table of conditions in docs/cli.md is the registry's, code by code."""

from __future__ import annotations

import re
from pathlib import Path

from netagent.agent.conditions import Code

DOCUMENT = Path(__file__).parents[3] / "docs" / "cli.md"


def test_every_condition_is_documented_with_its_severity() -> None:
    section = DOCUMENT.read_text().partition("## Conditions")[2].partition("\n## ")[0]

    documented = dict(re.findall(r"^\| `(\w+)` \| (\w+) \|", section, re.MULTILINE))

    assert documented == {code.value: code.severity.value for code in Code}
