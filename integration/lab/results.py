"""What became of each scenario on which backend, as a table.

`pytest --lab vm --lab-results FILE` adds its results to a file; `python -m integration.lab.results
FILE --write PAGE` makes the table of all that the file holds.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import sys
from collections.abc import Mapping
from pathlib import Path

HEAD = """\
# Scenarios by backend and kernel

Made by `python -m integration.lab.results docs/lab-matrix.json --write docs/lab-matrix.md`; runs
add to the results with `--lab-results docs/lab-matrix.json`, see [lab.md](lab.md). What did not run
has its reason below; `-` has not been tried there. Of two kernels, host-a and host-c have the
first, host-b has the other.

"""
MARKS = {"passed": "passed", "failed": "**failed**", "skipped": "not run"}
OUTCOMES = tuple(MARKS)


def add_results(path: Path, column: str, results: Mapping[str, tuple[str, str]]) -> None:
    """Add results to a file, which is made if it is not there; newer ones replace older ones.

    column: backend and kernel. results: (outcome, reason) by test. Several runs may add at once.
    """
    with path.open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        held = json.loads(file.read() or "{}")
        held.setdefault(column, {}).update({test: list(found) for test, found in results.items()})
        file.truncate(0)
        file.write(json.dumps(held, indent=1, sort_keys=True))


def make_table(held: Mapping[str, Mapping[str, tuple[str, str]]]) -> str:
    """Return the page: a row for each scenario, a column for each backend and kernel."""
    columns = sorted(held)
    scenarios = sorted({_scenario(test) for column in columns for test in held[column]})
    reasons: dict[str, int] = {}
    lines = [f"| scenario | {' | '.join(columns)} |", f"|---|{'---|' * len(columns)}"]
    for scenario in scenarios:
        cells = [_cell(held[column], scenario, reasons) for column in columns]
        lines.append(f"| {scenario} | {' | '.join(cells)} |")
    notes = [f"{number}. {reason}" for reason, number in reasons.items()]
    return HEAD + "\n".join([*lines, "", *notes]) + "\n"


def _scenario(test: str) -> str:
    """Return `file: test` without the parameters; test: a node id."""
    path, _, name = test.partition("::")
    name = name.partition("[")[0].removeprefix("test_").replace("_", " ")
    return f"{Path(path).stem.removeprefix('test_')}: {name}"


def _cell(results: Mapping[str, tuple[str, str]], scenario: str, reasons: dict[str, int]) -> str:
    found = [result for test, result in results.items() if _scenario(test) == scenario]
    parts = []
    for outcome in OUTCOMES:
        those = [reason for each, reason in found if each == outcome]
        if not those:
            continue
        notes = {reasons.setdefault(each, len(reasons) + 1) for each in those if each}
        marks = "".join(f" ({number})" for number in sorted(notes))
        count = f" {len(those)}" if len(found) > 1 else ""
        parts.append(f"{MARKS[outcome]}{count}{marks}")
    return ", ".join(parts) or "-"


def main() -> int:
    """Write or print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path)
    parser.add_argument("--write", type=Path, metavar="FILE")
    given = parser.parse_args()
    table = make_table(json.loads(given.results.read_text()))
    if given.write is None:
        sys.stdout.write(table)
    else:
        given.write.write_text(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
