"""Fills the policy matrix with real traffic; see script/matrix."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from integration.lab.lab import Lab
from integration.matrix.run import HOSTS, Matrix
from integration.matrix.table import write_page


def main() -> int:
    """Run it and write the page; return 1 if a cell is not as it must be."""
    parser = argparse.ArgumentParser(prog="script/matrix", description=__doc__)
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the table there")
    given = parser.parse_args()
    with Lab(hosts=HOSTS) as lab:
        matrix = Matrix(lab)
        results = list(matrix.run())
    wrong = [str(one) for one in results if not one.is_as_expected]
    wrong += [f"the counter of rule {name} stayed at 0" for name in matrix.silent_rules]
    page = write_page(results, os.uname().release)
    if given.write:
        given.write.write_text(page)
    else:
        print(page)
    for line in (f"{len(results):,} probes, {len(wrong)} wrong", *wrong):
        print(line, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
