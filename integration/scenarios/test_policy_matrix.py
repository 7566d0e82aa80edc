"""Every cell of docs/policy.md with real traffic; integration/matrix says what is expected."""

from __future__ import annotations

import pytest

from integration.lab.lab import Lab
from integration.matrix.run import HOSTS, Matrix

SHOWN = 40


@pytest.mark.timeout(300)
def test_every_cell_of_the_policy_matrix_is_as_the_law_says() -> None:
    with Lab(hosts=HOSTS) as lab:
        matrix = Matrix(lab)
        results = list(matrix.run())

    wrong = [str(one) for one in results if not one.is_as_expected]
    print(f"{len(results)} probes, {sum(one.cell.is_open for one in results)} of them open")
    assert not wrong, "\n".join([f"{len(wrong)} of {len(results)} wrong", *wrong[:SHOWN]])
    assert len(results) > 50_000
    assert not matrix.silent_rules
