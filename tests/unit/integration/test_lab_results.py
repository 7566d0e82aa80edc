"""The table of scenarios by backend: counts, reasons, and that newer results replace older."""

import json
from pathlib import Path

from integration.lab.results import add_results, make_table

DOCS = Path(__file__).parents[3] / "docs"
MOVES = "integration/scenarios/test_moves.py::test_tcp_survives"


def test_results_of_several_runs_become_one_table(tmp_path: Path) -> None:
    results = tmp_path / "results.json"
    add_results(results, "netns", {f"{MOVES}[a]": ("passed", ""), f"{MOVES}[b]": ("passed", "")})
    add_results(results, "vm, 6.1", {f"{MOVES}[a]": ("failed", "")})
    add_results(
        results, "vm, 6.1", {f"{MOVES}[a]": ("passed", ""), f"{MOVES}[b]": ("skipped", "too slow")}
    )

    table = make_table(json.loads(results.read_text()))

    assert "| scenario | netns | vm, 6.1 |" in table
    assert "| moves: tcp survives | passed 2 | passed 1, not run 1 (1) |" in table
    assert table.endswith("\n1. too slow\n")


def test_a_scenario_that_a_run_did_not_have_is_a_dash() -> None:
    table = make_table({"netns": {MOVES: ("passed", "")}, "vm, 6.1": {}})

    assert "| moves: tcp survives | passed | - |" in table


def test_the_page_is_what_the_results_make() -> None:
    results = json.loads((DOCS / "lab-matrix.json").read_text())

    assert (DOCS / "lab-matrix.md").read_text() == make_table(results)
